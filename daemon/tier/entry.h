/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry.h - how the tiers of this room find an entry: a map from a key's hash.
 *
 * Two keys of one hash cannot both be there: the later one stays.
 */
#ifndef DAEMON_TIER_ENTRY_H
#define DAEMON_TIER_ENTRY_H

#include <string.h>
#include "daemon/tier/tier.h"
#include "daemon/util/map.h"

static inline uint64_t tier_key_hash(const struct tier_key *k)
{
	return k->name[0] ^ k->name[1] * 0x9e3779b97f4a7c15ULL ^
	       k->origin * 0xc2b2ae3d27d4eb4fULL ^
	       k->kind * 0x165667b19e3779f9ULL;
}

static inline bool tier_key_equal(const struct tier_key *a,
				  const struct tier_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* The pointer that is there for @key's hash, or NULL. */
static inline void *tier_map_get(const struct map *m,
				 const struct tier_key *key)
{
	const uint64_t *v = map_get(m, tier_key_hash(key));

	return v ? (void *)(uintptr_t)*v : NULL;
}

#endif
