/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiers.h - what a pool keeps behind it, and how that comes back.
 *
 * Beside mem.h, for callers. What the pool is about to give up is copied to
 * the tiers before; what a client misses in the index may be had from there,
 * as pages of the pool again. Both go on while everything else does: nothing
 * waits for a tier, and what it does not have in time is lost, or missed.
 */
#ifndef DAEMON_MEM_TIERS_H
#define DAEMON_MEM_TIERS_H

#include <stdint.h>
#include "proto/name.h"

struct mem;
struct mem_fetch;
struct mem_space;
struct tiers;

/*
 * @tiers is behind @m from here on. NULL: none is, what is on its way there, or
 * from there, ends; blocks then. So it ends: this, tiers_free(), mem_free().
 */
void mem_set_tiers(struct mem *m, struct tiers *tiers);

struct mem_tiers_stat {
	uint64_t saved;		/* pages copied out, */
	uint64_t renewed;	/* or there still */
	uint64_t lost;		/* given up before they could be */
	uint64_t fetched;	/* pages that came back */
	uint64_t missed;	/* that were to, and did not */
};

void mem_tiers_stat(const struct mem *m, struct mem_tiers_stat *ret);

/* Of one mem_fetch(), at most. */
#define MEM_FETCH_BLOCKS 256u

/**
 * mem_fetch() - blocks that the tiers have into the index
 * @s:		its space
 * @depth:	of the first block
 * @names:	of that and of those after it
 * @nr:		how many
 * @ret:	to wait for it, or cancel it; ends not before this returns
 *
 * For their pages others go, as for those of a client of the tenant, but it
 * does not wait for room: what there is none for does not come. Return: how
 * many blocks may come; 0: none, and there is no fetch.
 */
uint32_t mem_fetch(struct mem_space *s, uint32_t depth,
		   const struct name *names, uint32_t nr,
		   struct mem_fetch **ret);

/* Right after: who is told when @f ends, once: how many blocks, from the first
 * on, are in the index. It may call mem/. */
void mem_fetch_wait(struct mem_fetch *f, void (*done)(void *ctx, uint32_t nr),
		    void *ctx);

/* done() will not be called. */
void mem_fetch_cancel(struct mem_fetch *f);

#endif
