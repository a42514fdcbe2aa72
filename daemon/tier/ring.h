/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - which records a tier's file has, and where the next one goes.
 *
 * As of the last that was submitted to be written: the loop's thread's.
 *
 * What is forgotten must not be found after a restart either, so a mark is owed
 * to the file: a record without a page, which says that those of its origin
 * before it are none. The ring comes to them before it comes to the mark.
 */
#ifndef DAEMON_TIER_RING_H
#define DAEMON_TIER_RING_H

#include "daemon/tier/file.h"

struct origin;

struct record {
	struct list link;	/* ring.records */
	struct list of_origin;
	struct origin *origin;
	struct tier_key key;
	uint64_t at, nr;
	uint32_t head_bytes, bytes;
};

struct ring {
	struct map map;
	struct map origins;	/* of an id, its struct origin */
	struct list records;	/* oldest first */
	struct list marked;	/* origins, by what has been read until now */
	struct list owed;	/* origins, marks for which are to be written */
	uint64_t max_bytes;
	uint64_t head;		/* where the next record goes */
	uint64_t nr;		/* of the last record */
	uint64_t bytes, entries, dropped; /* as in struct tier_stat */
};

static inline uint64_t record_cost(const struct record *r)
{
	return tier_cost(r->head_bytes, r->bytes);
}

static inline bool found_is_mark(const struct file_found *at)
{
	return at->bytes == 0;
}

void ring_init(struct ring *g, uint64_t max_bytes);

/* Has nothing then; what is to be forgotten is not found later either. */
void ring_clear(struct ring *g);
void ring_fini(struct ring *g);

/* NULL: it is not there. */
struct record *ring_find(const struct ring *g, const struct tier_key *key);

/* The newest. Return: NULL: out of memory, or, when it was read, a mark says
 * that it is none. */
struct record *ring_add(struct ring *g, const struct file_found *at);
void ring_del(struct ring *g, struct record *r);

/* Would the ring come to it before half of it is written? */
bool ring_is_old(const struct ring *g, const struct record *r);

/* Drops what is where @bytes are to be written. Return: where that is. */
uint64_t ring_take(struct ring *g, uint64_t bytes);

/* ---- what is forgotten ---- */

/**
 * ring_forget() - up to @max records of @origin; a mark is owed after the last
 * @read:	the file has been: else what is found later is forgotten too
 * @ret:	adds what they were
 * Return: there are more.
 */
bool ring_forget(struct ring *g, uint64_t origin, bool read, uint32_t max,
		 struct tier_forgot *ret);

/* Is a mark owed for @origin? It would be for what comes now as well. */
bool ring_owes(const struct ring *g, uint64_t origin);

/* The next mark that is to be written, as a key; false: none is. */
bool ring_mark(struct ring *g, struct tier_key *ret);

/* It has been written; else it is owed again. */
void ring_marked(struct ring *g, const struct tier_key *mark, bool written);

/* A mark was read: up to @max records that it is for go. Return: there are
 * more, for the same again. */
bool ring_read_mark(struct ring *g, const struct file_found *mark,
		    uint32_t max);

/* All has been read. */
void ring_is_read(struct ring *g);

#endif
