/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - which records a tier's file has, and where the next one goes.
 *
 * As of the last that was submitted to be written: the loop's thread's.
 *
 * What is forgotten must not be found after a restart either, so a mark is owed
 * to the file: a record without a page, which says that those of its origin
 * before it are none. What the ring has come past is none as well, though it
 * may lie in the file for long, behind the end of a round: each record says
 * which numbers that are.
 */
#ifndef DAEMON_TIER_RING_H
#define DAEMON_TIER_RING_H

#include "daemon/tier/file.h"

#define RING_OWED 1024u /* origins that marks are owed to, at most */

struct origin;

struct record {
	struct list link;	/* ring.records */
	struct list of_origin;
	struct origin *origin;	/* NULL: it is a mark */
	bool named;		/* it is found; else it lies there still */
	struct tier_key key;
	uint64_t at, nr;
	uint32_t head_bytes, bytes;
};

struct ring {
	struct map map;
	struct map origins;	/* of an id, its struct origin */
	struct list records;	/* oldest first; while it is read, as they lie */
	struct list marked;	/* origins, by what has been read until now */
	struct list owed;	/* origins, marks for which are to be written */
	uint32_t nr_owed;
	bool read;		/* else nobody knows what there is */
	bool again;		/* more is none than when pruning began */
	uint64_t max_bytes;
	uint64_t head;		/* where the next record goes */
	uint64_t nr;		/* of the last record */
	uint64_t oldest;	/* lower numbers are none */
	struct record *newest;	/* of those that were read */
	uint64_t bytes, entries, dropped; /* as in struct tier_stat */
};

static inline uint64_t record_cost(const struct record *r)
{
	return tier_cost(r->head_bytes, r->bytes);
}

void ring_init(struct ring *g, uint64_t max_bytes);
void ring_fini(struct ring *g);

/* NULL: it is not there. */
struct record *ring_find(const struct ring *g, const struct tier_key *key);

/* The newest. A mark is one too, which is not found. NULL: out of memory. */
struct record *ring_add(struct ring *g, const struct file_found *at);

/* @r is not found any more; the file has it until the ring comes to it. */
void ring_hide(struct ring *g, struct record *r);

/* @at was not written, nor what came after it: the ring is where it was. */
void ring_back(struct ring *g, const struct file_found *at);

/* Would the ring come to it before half of it is written? */
bool ring_is_old(const struct ring *g, const struct record *r);

/* Drops what is where @bytes are to be written. Return: where that is. */
uint64_t ring_take(struct ring *g, uint64_t bytes);

/* ---- reading a file ---- */

/* Frees up to @max records, without a trace. Return: there are more. */
bool ring_clear(struct ring *g, uint32_t max);

/* What was read, as it lies in the file. */
void ring_read(struct ring *g, const struct file_found *at);

/* All has been: where the ring is. Then ring_prune() until it returns false. */
void ring_is_read(struct ring *g);

/* Deletes, of up to @max records from @*pos on, what is none; it is NULL at
 * first. Return: there are more. After the last all is as the file says. */
bool ring_prune(struct ring *g, struct list **pos, uint32_t max);

/* ---- what is forgotten ---- */

/**
 * ring_forget() - up to @max records of @origin; a mark is owed
 * @ret:	adds what they were
 * Until the file has been read, what is read is forgotten too. Return: there
 * are more.
 */
bool ring_forget(struct ring *g, uint64_t origin, uint32_t max,
		 struct tier_forgot *ret);

/* Is a mark owed for @origin? It would be for what comes now as well. */
bool ring_owes(const struct ring *g, uint64_t origin);

/* Is one being written? */
bool ring_is_marking(const struct ring *g, uint64_t origin);

/* The next mark that is to be written, as a key; false: none is. */
bool ring_mark(struct ring *g, struct tier_key *ret);

/* It has been written; else it is owed again. */
void ring_marked(struct ring *g, const struct tier_key *mark, bool written);

#endif
