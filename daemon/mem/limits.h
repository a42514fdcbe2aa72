/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - what a tenant is promised, and what it may have.
 *
 * Limits belong to a name: they are set before a tenant comes, and outlive
 * its record. The tenant has a copy. No tenant's limits hold up another: min
 * only says which of its pages nobody else is given, high and max only what
 * becomes of its own.
 */
#ifndef DAEMON_MEM_LIMITS_H
#define DAEMON_MEM_LIMITS_H

#include "daemon/mem/segment.h"
#include "daemon/mem/tenant.h"

struct limits {
	struct list link;	/* mem.limits */
	char name[TABLE_NAME_BYTES];
	struct mem_limits of;
};

/* Gives a tenant that has just come what its name has. */
void limits_apply(struct tenant *t);

/* Those of @name; all 0 when none were set. */
struct mem_limits limits_get(const struct mem *m, const char *name);

/* Frees all, with the pool. */
void limits_fini(struct mem *m);

/* Of mem_trim() what is above limits, within what is left of the step. */
bool limits_step(struct mem *m);

/* Of @t, about to have @bytes more: cached pages above its high go. */
void limits_reclaim_high(struct tenant *t, uint64_t bytes);

/*
 * Page numbers that reclaim can make free for @t, at least: all it has
 * cached, and of each other tenant what is above its min.
 */
uint64_t limits_pages_to_take(const struct tenant *t);

/* Does its tenant stay at its min without what it has cached in @seg? */
bool limits_may_take(const struct segment *seg);

#endif
