/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.h - pages and their bytes, counted by state.
 */
#ifndef DAEMON_MEM_TALLY_H
#define DAEMON_MEM_TALLY_H

#include <assert.h>
#include "daemon/mem/mem.h"

struct tally {
	uint64_t pages[PAGE_NR_STATES];
	uint64_t bytes[PAGE_NR_STATES];
};

static inline void tally_add(struct tally *t, enum page_state s, uint64_t nr,
			     uint64_t page_bytes)
{
	t->pages[s] += nr;
	t->bytes[s] += nr * page_bytes;
}

static inline void tally_sub(struct tally *t, enum page_state s, uint64_t nr,
			     uint64_t page_bytes)
{
	assert(t->pages[s] >= nr && t->bytes[s] >= nr * page_bytes);
	t->pages[s] -= nr;
	t->bytes[s] -= nr * page_bytes;
}

/* Copies one row of a tally and sums it up. */
static inline struct mem_counts tally_counts(const uint64_t of[PAGE_NR_STATES])
{
	struct mem_counts c = { .total = 0 };

	for (int i = 0; i < PAGE_NR_STATES; i++) {
		c.of[i] = of[i];
		c.total += of[i];
	}
	return c;
}

#endif
