/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - a hash map from 64-bit keys to 64-bit values.
 *
 * Entries are dense in an array, in no order that means anything: walking
 * them costs what there is, not what there once was room for. Open addressing
 * over entry numbers, linear probes, no tombstones. Keys are mixed with a
 * seed of the process, so that whoever chooses keys cannot choose collisions.
 *
 * A zeroed struct map is an empty map.
 */
#ifndef DAEMON_UTIL_MAP_H
#define DAEMON_UTIL_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_entry {
	uint64_t key;
	uint64_t value;
};

struct map {
	struct map_entry *entries;
	uint32_t *slots;	/* entry number + 1; 0: empty */
	uint32_t nr;
	uint32_t nr_slots;	/* 0 or a power of two, at least 2 * room */
	uint32_t room;		/* entries there is memory for */
};

void map_fini(struct map *m);

/**
 * map_reserve() - make room for @nr more entries
 * map_put() cannot fail for as many new keys afterwards.
 * Return: 0 or -ENOMEM; the map is unchanged after an error.
 */
int map_reserve(struct map *m, uint32_t nr);

/* The value of @key, to read or change in place; NULL: not there. */
uint64_t *map_get(const struct map *m, uint64_t key);

/**
 * map_put() - set the value of @key
 * Return: 0 or -ENOMEM.
 */
int map_put(struct map *m, uint64_t key, uint64_t value);

/* Removes @key if it is there. The last entry moves to its place. */
void map_del(struct map *m, uint64_t key);

#endif
