/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_tiers.h - a tier behind the pool of a random walk.
 */
#ifndef TESTS_MEM_WALK_TIERS_H
#define TESTS_MEM_WALK_TIERS_H

#include "tests/mem/fixture.h"

/* One of @bytes, in memory. */
void walk_tiers_begin(struct fx *f, uint64_t bytes);

/* Before the daemon is replaced, and after; what was there stays there. */
void walk_tiers_leave(struct fx *f);
void walk_tiers_again(struct fx *f);

/* Asks for blocks of a space, and perhaps gives it up again. */
void walk_tiers_fetch(struct mem_space *s, uint32_t seq, uint32_t depth,
		      bool cancel);

/* All that @s has cached, here and in the tier. */
void walk_tiers_drop(struct fx *f, struct mem_space *s);

/* Ends it. Return: pages that have come back from it. */
uint64_t walk_tiers_end(struct fx *f);

#endif
