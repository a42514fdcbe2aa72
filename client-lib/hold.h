/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.h - the pages this connection holds, each once.
 *
 * However many sequences use a page, the daemon sees one hold: refs counts
 * the users here. When the last one goes, an OPEN page returns to the stock of
 * its space and any other goes on the release list, which is sent in one
 * request when it is long or something else is about to be asked.
 *
 * hold_put() is for pages that no device work uses any more (retire.h).
 */
#ifndef CLIENT_LIB_HOLD_H
#define CLIENT_LIB_HOLD_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/shm.h"
#include "proto/wire.h"

struct kvd;
struct kvd_space;
struct hold_chunk;

struct hold {
	handle_t handle;
	uint64_t offset;	/* in its segment */
	uint32_t segment;	/* index in the device's arrays */
	uint32_t page_class;
	uint32_t refs;
	bool sealed;		/* immutable */
	bool stale;		/* the daemon does not know it any more */
	bool loose;		/* handed to the caller by kvd_page_alloc() */
	struct kvd_space *space;
	struct hold *next;	/* in its bucket, or in the spares */
};

struct holds {
	struct hold **buckets;
	uint32_t nr_buckets;	/* 0 or a power of two */
	uint32_t nr;
	struct hold *spare;
	uint32_t nr_spare;
	struct hold_chunk *chunks;
	handle_t released[WIRE_MAX_PAGES]; /* to be sent: what comes back needs
					    * no memory */
	uint32_t nr_released;
};

/* Frees the table itself; nothing is sent. */
void holds_fini(struct holds *t);

/* As many more will come: room for them is made now, where there is memory. */
void holds_expect(struct kvd *k, uint32_t nr);

/**
 * hold_new() - an object for a page the daemon has just given, refs 1
 *
 * Maps its segment where needed. Return: 0, or what map_place() returned;
 * the page is then still held and for the caller to hold_drop().
 */
int hold_new(struct kvd_space *sp, handle_t handle, place_t place,
	     uint32_t page_class, struct hold **ret);

/* The object of @handle, or NULL when this connection does not hold it. */
struct hold *hold_find(struct kvd *k, handle_t handle);

/* The same as a page of that class in @sp: a page that is held as something
 * else, whoever says otherwise, has other bytes. */
struct hold *hold_find_as(const struct kvd_space *sp, handle_t handle,
			  uint32_t page_class);

static inline struct hold *hold_get(struct hold *h)
{
	h->refs++;
	return h;
}

/* One user less. NULL is fine. */
void hold_put(struct hold *h);

/* One user less, and the page is not wanted in the stock. */
void hold_release(struct hold *h);

/* Puts a bare hold, one that has no object, on the release list. */
void hold_drop(struct kvd *k, handle_t handle);

/**
 * hold_flush() - send the release list
 *
 * Without a connection it waits for the next. Return: 0 or a negative errno
 * value.
 */
int hold_flush(struct kvd *k);

/**
 * hold_resume() - on a new connection, take back what is to be released
 * @kept:	the pool has survived
 *
 * The daemon keeps open pages for a writer that lives, until it has claimed
 * and released them. Spaces have been opened. Return: as request_claim().
 */
int hold_resume(struct kvd *k, bool kept);

/* Sends the release list when as much is on it as a stock may hold. */
void hold_flush_many(struct kvd *k);

/**
 * holds_each() - call @f on each page of @sp
 *
 * @f may set stale, and nothing else.
 */
void holds_each(struct kvd *k, struct kvd_space *sp,
		void (*f)(struct hold *h, void *ctx), void *ctx);

/* Releases every page of @sp, whoever uses it. */
void holds_release(struct kvd *k, struct kvd_space *sp);

#endif
