/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight.h - single flight: blocks that somebody is about to compute, and those
 * who wait for them.
 *
 * A client announces the names of consecutive blocks of one space; another of
 * its tenant's that looks for one of them is told that it is coming, and may
 * wait. Who waits is told when there is more, when that is not to be expected
 * any more, or when its time is over; then it looks at the index and asks
 * again. So nobody is promised anything: the first who asks for what nobody
 * has announced has it, and the others wait for him.
 *
 * A flight is its client's, and over when its last block is published, with the
 * client or its space, when the client says so, or when somebody asks for a
 * block of it and none was published for announce_ms.
 *
 * What it costs is bounded: names and flights of a client, names of a user,
 * waits as allocations that wait. Publishing a block of a flight moves a number
 * and looks whether a list is empty. Names of a flight that is over, and events
 * to those who waited for it, are seen to a step each turn of the loop.
 */
#ifndef DAEMON_NET_FLIGHT_H
#define DAEMON_NET_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>
#include "daemon/util/map.h"
#include "proto/name.h"

#define FLIGHT_MAX_NAMES 16384u	/* of one client */
#define FLIGHT_MAX_NR	 1024u	/* of one client */

struct client;
struct flight;
struct flight_wait;
struct mem_space;
struct server;

TAILQ_HEAD(flight_list, flight);
TAILQ_HEAD(flight_waits, flight_wait);

struct flights {		/* of the server */
	struct map names;	/* of all spaces, to their struct flight */
	struct flight_list over;
	struct flight_waits woken; /* to be told */
	uv_idle_t idle;		/* runs while there are any of both */
	uint64_t last_id;
};

enum flight_state {		/* of the first block that was asked for */
	FLIGHT_NONE,
	FLIGHT_OURS,
	FLIGHT_COMING,
	FLIGHT_HERE
};

struct flight_ask {
	uint32_t frame_id;
	uint32_t depth;		/* of the first */
	const struct name *names;
	uint32_t nr;		/* at least 1 */
	uint32_t wait_ms;	/* 0: does not wait */
	bool announce;
	bool again;
};

struct flight_answer {
	enum flight_state state;
	uint64_t id;		/* OURS */
	uint32_t nr;		/* OURS, COMING: blocks */
};

void flights_init(struct server *s);

/* After all clients have been let go of. */
void flights_fini(struct server *s);

/**
 * flight_ask() - what becomes of blocks of a space
 * @sp:	one that @c has open
 *
 * Return: 0; -EBUSY too much is announced, or too many wait: @ret is filled;
 * -ENOMEM.
 */
int flight_ask(struct client *c, struct mem_space *sp,
	       const struct flight_ask *ask, struct flight_answer *ret);

/* Blocks of @c's flight @id below @depth are published. */
void flight_progress(struct client *c, uint64_t id, uint32_t depth);

/* Ends @c's flight @id, if there is one. */
void flight_end(struct client *c, uint64_t id);

/* Ends the wait that the request @frame_id of @c began, if there is one. */
void flight_leave(struct client *c, uint32_t frame_id);

/* Ends @c's flights in space @id. */
void flights_end_space(struct client *c, uint32_t id);

/* Ends all that @c has announced and waits for: it is going. */
void flights_forget(struct client *c);

#endif
