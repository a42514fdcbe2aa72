/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - a hash map from 64-bit keys to 64-bit values.
 *
 * Entries are dense, in an order that means nothing: walking them costs what
 * there is, not what there once was room for. Open addressing over entry
 * numbers, linear probes, no tombstones. Keys are mixed with a seed of the
 * process, so that whoever chooses keys cannot choose collisions.
 *
 * A large map grows by a little with each new key: no call takes long, nor
 * touches much memory for the first time. Entries are in pieces, which never
 * move; the next slots are zeroed while there is room still, and filled from
 * the old ones afterwards. Both are done well before it has to grow again.
 *
 * A zeroed struct map is an empty map.
 */
#ifndef DAEMON_UTIL_MAP_H
#define DAEMON_UTIL_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_PIECE 4096u /* entries; a map of fewer has one, as large as needed */

struct map_entry {
	uint64_t key;
	uint64_t value;
};

/* Numbers of entries + 1; 0: empty. */
struct map_slots {
	uint32_t *at;
	uint32_t nr;		/* 0 or a power of two */
};

struct map {
	struct map_entry **pieces;
	uint32_t nr_pieces;
	uint32_t nr;		/* entries */
	uint32_t room;		/* entries that slots are for: half of them */
	struct map_slots slots;
	struct map_slots old;	/* before them, being emptied */
	uint32_t first;		/* of the old ones: moving begins there */
	uint32_t nr_moved;	/* from there on are empty */
	struct map_slots next;	/* after them, being zeroed from the first */
	uint32_t nr_zeroed;
};

void map_fini(struct map *m);

/* Entry @i of those that are, which may change; its key must not. */
static inline struct map_entry *map_entry(const struct map *m, uint32_t i)
{
	return &m->pieces[i / MAP_PIECE][i % MAP_PIECE];
}

/**
 * map_reserve() - make room for @nr more entries
 * map_put() cannot fail for as many new keys afterwards.
 * Return: 0 or -ENOMEM; the map has what it had after an error.
 */
int map_reserve(struct map *m, uint32_t nr);

/* The value of @key, to read or change in place; NULL: not there. */
uint64_t *map_get(const struct map *m, uint64_t key);

/**
 * map_put() - set the value of @key
 * Return: 0 or -ENOMEM.
 */
int map_put(struct map *m, uint64_t key, uint64_t value);

/**
 * map_take() - the value of @key, which is 0 if it was not there and is now
 * One look for both. Return: NULL when out of memory.
 */
uint64_t *map_take(struct map *m, uint64_t key);

/* Removes @key if it is there. The last entry moves to its place. */
void map_del(struct map *m, uint64_t key);

/**
 * map_trim() - give back room for what it does not have any more
 * What was reserved is so no more. Return: it was made smaller, which costs as
 * much as a thousand keys put.
 */
bool map_trim(struct map *m);

#endif
