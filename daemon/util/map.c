/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - a hash map from 64-bit keys to 64-bit values.
 */
#include "daemon/util/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/util/random.h"

#define MAP_MIN_ROOM 8u
#define MAP_MAX_ROOM (1u << 30)

/* The finalizer of MurmurHash3, over the key and this process's seed. */
static uint32_t map_hash(uint64_t key)
{
	static uint64_t seed;
	uint64_t h;

	if (seed == 0)
		seed = random_u64();
	h = key ^ seed;
	h = (h ^ h >> 33) * 0xff51afd7ed558ccdULL;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return (uint32_t)(h ^ h >> 33);
}

/* The slot that has @key, or the empty one where it would go. */
static uint32_t map_slot(const struct map *m, uint64_t key)
{
	uint32_t i = map_hash(key) & (m->nr_slots - 1);

	while (m->slots[i] && m->entries[m->slots[i] - 1].key != key)
		i = (i + 1) & (m->nr_slots - 1);
	return i;
}

static int map_resize(struct map *m, uint32_t room)
{
	struct map new = { .nr = m->nr, .nr_slots = 2 * room, .room = room };

	new.entries = malloc(room * sizeof(*new.entries));
	new.slots = calloc(new.nr_slots, sizeof(*new.slots));
	if (!new.entries || !new.slots) {
		free(new.entries);
		free(new.slots);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < m->nr; i++) {
		new.entries[i] = m->entries[i];
		new.slots[map_slot(&new, m->entries[i].key)] = i + 1;
	}
	map_fini(m);
	*m = new;
	return 0;
}

void map_fini(struct map *m)
{
	free(m->entries);
	free(m->slots);
	memset(m, 0, sizeof(*m));
}

int map_reserve(struct map *m, uint32_t nr)
{
	uint32_t room = m->room ? m->room : MAP_MIN_ROOM;

	if (nr > MAP_MAX_ROOM - m->nr)
		return -ENOMEM;
	while (room < m->nr + nr)
		room *= 2;
	return room == m->room ? 0 : map_resize(m, room);
}

uint64_t *map_get(const struct map *m, uint64_t key)
{
	uint32_t i;

	if (m->nr == 0)
		return NULL;
	i = map_slot(m, key);
	return m->slots[i] ? &m->entries[m->slots[i] - 1].value : NULL;
}

int map_put(struct map *m, uint64_t key, uint64_t value)
{
	uint64_t *old = map_get(m, key);
	int r;

	if (old) {
		*old = value;
		return 0;
	}
	r = map_reserve(m, 1);
	if (r < 0)
		return r;
	m->entries[m->nr] = (struct map_entry){ key, value };
	m->slots[map_slot(m, key)] = ++m->nr;
	return 0;
}

/* Empties slot @hole and pulls up what its absence would hide. */
static void map_close(struct map *m, uint32_t hole)
{
	uint32_t mask = m->nr_slots - 1;

	for (uint32_t i = (hole + 1) & mask; m->slots[i]; i = (i + 1) & mask) {
		uint64_t key = m->entries[m->slots[i] - 1].key;
		uint32_t home = map_hash(key) & mask;

		if (((i - home) & mask) < ((i - hole) & mask))
			continue; /* its home is after the hole */
		m->slots[hole] = m->slots[i];
		hole = i;
	}
	m->slots[hole] = 0;
}

void map_del(struct map *m, uint64_t key)
{
	uint32_t slot, nr;

	if (!map_get(m, key))
		return;
	slot = map_slot(m, key);
	nr = m->slots[slot];
	map_close(m, slot);
	if (nr != m->nr) {
		m->entries[nr - 1] = m->entries[m->nr - 1];
		/* Found by number: its key is in two entries just now. */
		slot = map_hash(m->entries[nr - 1].key) & (m->nr_slots - 1);
		while (m->slots[slot] != m->nr)
			slot = (slot + 1) & (m->nr_slots - 1);
		m->slots[slot] = nr;
	}
	m->nr--;
}
