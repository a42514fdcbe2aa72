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
#define MAP_SPARSE   8u /* with such a part of its room it gets a smaller one */

/*
 * A map with so many slots grows in steps, one with each new key. Filling the
 * second half of its room is the time it has: half of that is enough for moving
 * the old slots, and the other half, for zeroing the next.
 */
#define MAP_LARGE     (2 * MAP_PIECE)
#define MAP_MOVE_SLOTS 4u
#define MAP_ZERO_SLOTS 32u

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

/* ---- slots ---- */

/* The slot that has @key, or the empty one where it would go. */
static uint32_t *slots_find(const struct map *m, const struct map_slots *s,
			    uint64_t key)
{
	uint32_t i = map_hash(key) & (s->nr - 1);

	while (s->at[i] && map_entry(m, s->at[i] - 1)->key != key)
		i = (i + 1) & (s->nr - 1);
	return &s->at[i];
}

/* The empty slot where @key, which is not there, goes. */
static uint32_t *slots_end(const struct map *m, const struct map_slots *s,
			   uint64_t key)
{
	uint32_t i = map_hash(key) & (s->nr - 1);

	while (s->at[i])
		i = (i + 1) & (s->nr - 1);
	return &s->at[i];
}

/* The slot that has entry number @nr - 1, whose key is @key, or NULL. */
static uint32_t *slots_find_number(const struct map_slots *s, uint64_t key,
				   uint32_t nr)
{
	uint32_t i = map_hash(key) & (s->nr - 1);

	while (s->at[i] && s->at[i] != nr)
		i = (i + 1) & (s->nr - 1);
	return s->at[i] ? &s->at[i] : NULL;
}

/* Empties slot @hole and pulls up what its absence would hide. */
static void slots_close(const struct map *m, const struct map_slots *s,
			uint32_t hole)
{
	uint32_t mask = s->nr - 1;

	for (uint32_t i = (hole + 1) & mask; s->at[i]; i = (i + 1) & mask) {
		uint64_t key = map_entry(m, s->at[i] - 1)->key;
		uint32_t home = map_hash(key) & mask;

		if (((i - home) & mask) < ((i - hole) & mask))
			continue; /* its home is after the hole */
		s->at[hole] = s->at[i];
		hole = i;
	}
	s->at[hole] = 0;
}

static void slots_fini(struct map_slots *s)
{
	free(s->at);
	*s = (struct map_slots){ .at = NULL };
}

/* ---- growing ---- */

/*
 * The old slots from @at up to an empty one move, all at once: no probe can
 * begin among them and end behind. They go to two places that move on as @at
 * does, so only entries are read here and there. Return: how many slots.
 */
static uint32_t map_move(struct map *m, uint32_t at)
{
	uint32_t nr, n = 0;

	do {
		nr = m->old.at[at];
		m->old.at[at] = 0;
		if (nr)
			*slots_end(m, &m->slots, map_entry(m, nr - 1)->key) =
				nr;
		at = (at + 1) & (m->old.nr - 1);
		n++;
	} while (nr);
	return n;
}

/* Moves of the old slots @nr or a few more. They begin after an empty one. */
static void map_move_some(struct map *m, uint32_t nr)
{
	while (nr && m->old.at) {
		uint32_t n = map_move(m, (m->first + m->nr_moved) &
						 (m->old.nr - 1));

		m->nr_moved += n;
		nr -= n < nr ? n : nr;
		if (m->nr_moved == m->old.nr)
			slots_fini(&m->old);
	}
}

static void map_zero(struct map *m, uint32_t nr)
{
	uint32_t left = m->next.nr - m->nr_zeroed;

	nr = nr < left ? nr : left;
	memset(m->next.at + m->nr_zeroed, 0, nr * sizeof(*m->next.at));
	m->nr_zeroed += nr;
}

/* Being out of memory is no news yet. */
static void map_begin_next(struct map *m)
{
	uint32_t nr = 2 * m->slots.nr;

	m->next.at = malloc(nr * sizeof(*m->next.at));
	m->next.nr = m->next.at ? nr : 0;
	m->nr_zeroed = 0;
}

/* What one new key adds to growing. */
static void map_step(struct map *m)
{
	map_move_some(m, MAP_MOVE_SLOTS);
	if (m->slots.nr < MAP_LARGE || m->nr < m->room / 4 * 3 ||
	    m->room == MAP_MAX_ROOM)
		return;
	if (!m->next.at)
		map_begin_next(m);
	map_zero(m, MAP_ZERO_SLOTS);
}

/* Slots for @room entries in m->next. */
static int map_finish_next(struct map *m, uint32_t room)
{
	if (m->next.nr == 2 * room) {
		map_zero(m, m->next.nr);
		return 0;
	}
	slots_fini(&m->next);
	m->next.at = calloc((size_t)2 * room, sizeof(*m->next.at));
	if (!m->next.at)
		return -ENOMEM;
	m->next.nr = 2 * room;
	return 0;
}

static int map_grow(struct map *m, uint32_t room)
{
	if (map_finish_next(m, room) < 0)
		return -ENOMEM;
	/* Nothing is left, unless much was reserved at once. */
	map_move_some(m, UINT32_MAX);
	m->old = m->slots;
	m->slots = m->next;
	m->next = (struct map_slots){ .at = NULL };
	m->nr_moved = m->first = 0;
	m->room = room;
	while (m->old.at && m->old.at[(m->first - 1) & (m->old.nr - 1)])
		m->first++;
	if (m->old.nr < MAP_LARGE)
		map_move_some(m, UINT32_MAX);
	return 0;
}

/* Pieces for @nr entries. */
static int map_add_pieces(struct map *m, uint32_t nr)
{
	uint32_t nr_pieces = (nr + MAP_PIECE - 1) / MAP_PIECE;
	struct map_entry **pieces;

	if (nr_pieces <= m->nr_pieces)
		return 0;
	pieces = realloc(m->pieces, nr_pieces * sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	m->pieces = pieces;
	while (m->nr_pieces < nr_pieces) {
		pieces[m->nr_pieces] = malloc(MAP_PIECE * sizeof(**pieces));
		if (!pieces[m->nr_pieces])
			return -ENOMEM;
		m->nr_pieces++;
	}
	return 0;
}

/* The one piece of a map with room for @room entries, fewer than a piece. */
static int map_resize_piece(struct map *m, uint32_t room)
{
	struct map_entry *piece;

	if (!m->pieces)
		m->pieces = calloc(1, sizeof(*m->pieces));
	if (!m->pieces)
		return -ENOMEM;
	piece = realloc(m->pieces[0], room * sizeof(*piece));
	if (!piece)
		return -ENOMEM;
	m->pieces[0] = piece;
	m->nr_pieces = 1;
	return 0;
}

int map_reserve(struct map *m, uint32_t nr)
{
	uint32_t room = m->room ? m->room : MAP_MIN_ROOM;

	if (nr > MAP_MAX_ROOM - m->nr)
		return -ENOMEM;
	while (room < m->nr + nr)
		room *= 2;
	if (room != m->room && m->room < MAP_PIECE &&
	    map_resize_piece(m, room < MAP_PIECE ? room : MAP_PIECE) < 0)
		return -ENOMEM;
	if (map_add_pieces(m, m->nr + nr) < 0)
		return -ENOMEM;
	return room == m->room ? 0 : map_grow(m, room);
}

void map_fini(struct map *m)
{
	for (uint32_t i = 0; i < m->nr_pieces; i++)
		free(m->pieces[i]);
	free(m->pieces);
	slots_fini(&m->slots);
	slots_fini(&m->old);
	slots_fini(&m->next);
	memset(m, 0, sizeof(*m));
}

/* Entries are as they were: all slots are made anew of them. */
static bool map_shrink(struct map *m, uint32_t room)
{
	struct map_slots slots = { .nr = 2 * room };

	slots.at = calloc(slots.nr, sizeof(*slots.at));
	if (!slots.at)
		return false;
	for (uint32_t i = 0; i < m->nr; i++)
		*slots_end(m, &slots, map_entry(m, i)->key) = i + 1;
	slots_fini(&m->slots);
	slots_fini(&m->old);
	slots_fini(&m->next);
	m->slots = slots;
	m->room = room;
	map_resize_piece(m, room); /* else it is too large, as before */
	return true;
}

bool map_trim(struct map *m)
{
	uint32_t room = MAP_MIN_ROOM;

	while (m->nr_pieces > 1 && (m->nr_pieces - 1) * MAP_PIECE >= m->nr)
		free(m->pieces[--m->nr_pieces]);
	while (room < 2 * m->nr && room < MAP_PIECE)
		room *= 2;
	return m->nr <= MAP_PIECE / MAP_SPARSE &&
	       m->nr <= m->room / MAP_SPARSE && room < m->room &&
	       map_shrink(m, room);
}

/* ---- entries ---- */

/* The slot of @key and those it is among, or NULL. */
static uint32_t *map_find(const struct map *m, uint64_t key,
			  const struct map_slots **ret_among)
{
	uint32_t *slot;

	if (m->nr == 0)
		return NULL;
	*ret_among = &m->slots;
	slot = slots_find(m, &m->slots, key);
	if (*slot || !m->old.at)
		return *slot ? slot : NULL;
	*ret_among = &m->old;
	slot = slots_find(m, &m->old, key);
	return *slot ? slot : NULL;
}

uint64_t *map_get(const struct map *m, uint64_t key)
{
	const struct map_slots *among;
	const uint32_t *slot = map_find(m, key, &among);

	return slot ? &map_entry(m, *slot - 1)->value : NULL;
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
	map_step(m);
	*map_entry(m, m->nr) = (struct map_entry){ key, value };
	*slots_find(m, &m->slots, key) = m->nr + 1;
	m->nr++;
	return 0;
}

uint64_t *map_take(struct map *m, uint64_t key)
{
	uint32_t *slot = m->slots.nr ? slots_find(m, &m->slots, key) : NULL;
	uint32_t *old;

	if (slot && *slot)
		return &map_entry(m, *slot - 1)->value;
	old = m->old.at ? slots_find(m, &m->old, key) : NULL;
	if (old && *old)
		return &map_entry(m, *old - 1)->value;
	if (m->nr == m->room || m->old.at)
		slot = NULL; /* slots change below */
	if ((m->nr == m->room || m->nr >= m->nr_pieces * MAP_PIECE) &&
	    map_reserve(m, 1) < 0)
		return NULL;
	map_step(m);
	if (!slot)
		slot = slots_end(m, &m->slots, key);
	*map_entry(m, m->nr) = (struct map_entry){ key, 0 };
	*slot = ++m->nr;
	return &map_entry(m, m->nr - 1)->value;
}

/* The last entry becomes entry number @nr - 1. */
static void map_renumber(struct map *m, uint32_t nr)
{
	const struct map_entry *last = map_entry(m, m->nr - 1);
	uint32_t *slot = slots_find_number(&m->slots, last->key, m->nr);

	if (!slot)
		slot = slots_find_number(&m->old, last->key, m->nr);
	*slot = nr;
	*map_entry(m, nr - 1) = *last;
}

void map_del(struct map *m, uint64_t key)
{
	const struct map_slots *among;
	uint32_t *slot = map_find(m, key, &among);
	uint32_t nr;

	if (!slot)
		return;
	nr = *slot;
	slots_close(m, among, (uint32_t)(slot - among->at));
	if (nr != m->nr)
		map_renumber(m, nr);
	m->nr--;
}
