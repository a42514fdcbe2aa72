/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - what a connection has subscribed to, and what has come of it.
 *
 * Frames are kept as they come, in whatever call, up to EVENTS_MAX_BYTES; they
 * are told in kvd_process(), where the caller's function may be called. What
 * does not fit is dropped, and that is told as well. Of levels there is but
 * the newest.
 */
#ifndef CLIENT_LIB_EVENTS_H
#define CLIENT_LIB_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvd/events.h>

#define EVENTS_MAX_BYTES (1u << 20)

/* Told of a space that was subscribed to by its number: it is no more, and
 * neither is the subscription. */
#define EVENT_GONE 100u

struct Kvd__Event;
struct event_kept;
struct subscription;

struct events {
	LIST_HEAD(, subscription) subscriptions;
	STAILQ_HEAD(, event_kept) kept;
	size_t kept_bytes;
	bool missed;		/* something was dropped */
	bool levels_new;	/* not told yet */
	bool delivering;	/* the caller's function is being called */
	uint32_t pool, tenant;	/* levels */
};

/* A frame of events of blocks; call.c has checked it. */
struct event_frame {
	uint32_t space;
	uint64_t first;
	bool gone;
	uint32_t nr;
	const uint8_t *kinds;	/* enum wire_block_kind */
	const uint8_t *names;
	const uint8_t *parents;	/* this and the rest of those stored */
	const uint8_t *extras;	/* or NULL */
	const uint32_t *depths;
	const uint32_t *classes;
	const uint32_t *tokens;	/* or NULL */
	uint32_t nr_tokens;	/* of each */
};

void events_init(struct kvd *k);
void events_fini(struct kvd *k);

/**
 * events_subscribe() - as kvd_subscribe(), of a space by its number too
 * @space:	or NULL
 * @id:		of a space that this connection need not have open; 0: @space
 *		or, without one, pressure
 */
int events_subscribe(struct kvd *k, struct kvd_space *space, uint32_t id,
		     uint32_t mask, kvd_event_fn fn, void *ctx);

/* On a new connection, whose spaces are open: subscribes again. */
int events_resume(struct kvd *k);

/* Tells what has come. Not from within. */
void events_deliver(struct kvd *k);

/* @sp is being closed. */
void events_forget(struct kvd_space *sp);

/* ---- for call.c, as frames come ---- */

/* Is there no room to keep another? */
bool events_full(const struct kvd *k);

/* Keeps @e, of so many bytes, which is owned then. Return: false: it is not
 * wanted, or there is no room. */
bool events_keep(struct kvd *k, struct Kvd__Event *e, size_t bytes);
void events_levels(struct kvd *k, uint32_t pool, uint32_t tenant);

/* One could not be kept. */
void events_missed(struct kvd *k);

/* ---- call.c has these: only it knows what a struct Kvd__Event is ---- */

void call_event_read(const struct Kvd__Event *e, struct event_frame *ret);
void call_event_free(struct Kvd__Event *e);

#endif
