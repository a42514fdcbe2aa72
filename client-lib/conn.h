/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - a connection: socket, spaces, held pages, and its coming back.
 *
 * fd is -1 while there is no daemon, also while one that may come is being
 * waited for at hello_fd. Whoever needs one calls conn_ready();
 * a request that finds the connection gone returns -ENOTCONN after
 * conn_lost(), and conn_retry() says whether to try once more.
 */
#ifndef CLIENT_LIB_CONN_H
#define CLIENT_LIB_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvd/kvd.h>
#include "client-lib/events.h"
#include "client-lib/hold.h"
#include "client-lib/revoke.h"
#include "proto/wire.h"

#define CONN_DEFAULT_TIMEOUT_MS 5000u
#define CONN_HANDSHAKE_MS 100u	/* the rest of one that nobody waits for */
#define CONN_MIN_BACKOFF_MS 10u
#define CONN_MAX_BACKOFF_MS 1000u
#define CONN_CLOSE_MS 1000u	/* for a daemon that has yet to be told */
#define CONN_LEAN_MS 1000u	/* without a stock after a recall */

LIST_HEAD(space_list, kvd_space);
LIST_HEAD(call_list, call);
LIST_HEAD(flight_list, kvd_seq);
LIST_HEAD(match_wait_list, match_wait);

struct kvd {
	int fd;			/* -1: not connected */
	int hello_fd;		/* hello is said, but not answered; else -1 */
	struct call *hello;	/* of hello_fd */
	uint32_t timeout_ms;
	uint32_t rcvtimeo_ms;	/* as now set on fd */
	uint32_t next_id;	/* of frames; never 0 */
	struct call_list calls;	/* whose replies are to come */
	bool recalled;		/* a recall has come and waits */
	uint32_t series;	/* tells our connections from other ones of this
				 * process */
	uint64_t epoch;
	uint64_t instance;
	uint64_t retry_at_ns;	/* no attempt to connect before this */
	uint32_t backoff_ms;
	uint32_t jitter;	/* state of a small generator */
	uint64_t lean_until_ns;	/* keep no stock until then; 0: keep one */
	struct space_list spaces;
	struct holds holds;
	struct revoked revoked;	/* segments to be unmapped */
	struct events events;
	struct flight_list flights; /* sequences that have announced blocks */
	struct match_wait_list waits; /* matches that go on */
	char device[32];
	char error[512];
	char *socket;
	char *program;
	uint8_t frame[WIRE_MAX_FRAME]; /* being sent or received */
};

/**
 * conn_ready() - connect again if there is no connection, claim what we held
 * @wait_ms:	how long to try; 0: once, when the backoff is over, and what the
 *		daemon has not answered yet is left to the next call
 *
 * Return: 0; -ENOTCONN; or why the daemon will not have us: -EACCES, -EPROTO,
 * and what opening the spaces again returned.
 */
int conn_ready(struct kvd *k, uint32_t wait_ms);

/* Before pages are given up for good: connects if there is a daemon, or a
 * socket held for one that is about to come. */
void conn_last(struct kvd *k);

/* The connection is of no more use: close it, plan the next attempt. */
void conn_lost(struct kvd *k);

/* When a call that may take timeout_ms has to be given up. */
uint64_t conn_deadline_ns(const struct kvd *k);

/* Did @r come from losing the connection, with time left to try again? */
bool conn_retry(const struct kvd *k, int r, uint64_t deadline_ns);

/* Gives the stock back when a recall has come, unmaps what is revoked. */
void conn_serve(struct kvd *k);

#endif
