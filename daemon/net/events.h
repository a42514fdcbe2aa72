/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - told unasked, to connections that have subscribed: levels of
 * pressure, and what becomes of a space's blocks.
 *
 * Nobody waits for a subscriber. Events of blocks go into a ring for each
 * space that is watched (blocklog.h), and at the end of the loop's turn, or
 * when a frame is full, from there to every subscriber whose socket takes
 * them. One that does not read is left alone until its socket is writable
 * again; what the ring has lost by then it is told as a number. Of levels it
 * gets the newest. So it costs a ring for each space, and nothing that grows
 * with what it has not read; and nothing else that its connection is owed goes
 * through here, or is behind it.
 */
#ifndef DAEMON_NET_EVENTS_H
#define DAEMON_NET_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>
#include "daemon/net/blocklog.h"
#include "daemon/net/level.h"

#define EVENTS_MAX_SPACES 64	/* that one connection subscribes to */
#define EVENTS_MAX_READERS 64	/* of a space; each takes the loop's time */

struct client;
struct mem_change;
struct mem_space;
struct server;
struct stream;
struct subscription;

struct events {			/* of the server */
	uv_prepare_t turn;	/* runs while streams have news */
	TAILQ_HEAD(, stream) news;
	LIST_HEAD(, client) listeners; /* to levels */
	struct level level;	/* the pool's */
};

struct listener_state {		/* of a client */
	LIST_ENTRY(client) link; /* events.listeners, when it wants levels */
	bool wants_levels;
	enum level_value pool, tenant; /* as it was told */
	LIST_HEAD(, subscription) subscriptions;
	unsigned nr_subscriptions;
};

/* Events of one frame: those of @log from number @first on, as many as fit. */
struct block_batch {
	uint32_t space;
	uint64_t serial;
	uint64_t first;
	uint64_t lost;
	const struct blocklog *log; /* NULL: the space has gone */
};

void events_init(struct server *s);

/* Levels, from here on or no more. What they are now counts as told. */
void events_want_levels(struct client *c, bool wants);

/**
 * events_want_blocks() - what becomes of the blocks of @s, from here on
 * @tokens:	with their token ids
 * @ret_next:	number of the first that will come
 *
 * In place of what @c wanted of it before. Return: 0; -EBUSY it wants too many
 * spaces', or its user does, or too many want this one's; -ENOMEM.
 */
int events_want_blocks(struct client *c, struct mem_space *s, bool tokens,
		       uint64_t *ret_next);

/* Those of space @id no more. */
void events_drop_blocks(struct client *c, uint32_t id);

/* A client that is going wants nothing. */
void events_forget(struct client *c);

/* Its socket is writable again. */
void events_writable(struct client *c);

/* mem_ops.changed */
void events_on_change(void *ctx, void *watch, const struct mem_change *what);

/* An allocation of @c was refused, or waits, because of @err. */
void events_short(struct client *c, int err);

/* About once a second: levels fall by time alone. */
void events_tick(struct server *s);

#endif
