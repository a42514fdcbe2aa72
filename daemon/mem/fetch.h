/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.h - what the tiers have becomes pages of the pool again.
 *
 * A fetch is a client of its own for as long as it takes, so that its pages
 * are counted and charged as any, and all is undone by its going. Pages are
 * allocated when their bytes have come; they are published in the order of the
 * blocks, so that a block finds the one before it.
 */
#ifndef DAEMON_MEM_FETCH_H
#define DAEMON_MEM_FETCH_H

#include "daemon/mem/save.h"

#define FETCH_LOADS 32u	/* pages of one fetch that are on their way at a time */
#define FETCH_ENDS  5000000000ull /* ns that one is waited for that was dropped */
#define FETCH_TRIES 256u	/* for room that is being made */

/* All that there are end as soon as nothing of them is on its way. */
void fetches_cancel(struct mem *m);

/* Of what those of @s have on their way nothing comes. */
void fetches_drop(struct mem_space *s);

/* Are there some of those still? Not for long: a disk may hang. */
bool fetches_are_ending(const struct mem_space *s);

#endif
