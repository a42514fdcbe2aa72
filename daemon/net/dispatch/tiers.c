// SPDX-License-Identifier: Apache-2.0
/*
 * tiers.c - what the tiers behind the pool say of themselves.
 */
#include <errno.h>
#include "daemon/mem/tiers.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"
#include "daemon/tier/tiers.h"
#include "proto/kvd.pb-c.h"

static char *unconst(const char *s)
{
	return (char *)(uintptr_t)s;
}

/* What is the matter with it may name a path: that is an admin's. */
static Kvd__TierStat *put_tier(const struct client *c,
			       const struct tier_stat *st, struct arena *arena)
{
	Kvd__TierStat *a = arena_alloc(arena, sizeof(*a));

	if (!a)
		return NULL;
	kvd__tier_stat__init(a);
	a->name = unconst(st->name);
	a->trouble = unconst(!st->trouble[0] || c->admin ? st->trouble :
							   "out of order");
	a->bytes = st->bytes;
	a->max_bytes = st->max_bytes;
	a->entries = st->entries;
	a->puts = st->puts;
	a->gets = st->gets;
	a->dropped = st->dropped;
	a->refused = st->refused;
	a->bad = st->bad;
	a->errors = st->errors;
	return a;
}

int put_tiers(const struct client *c, Kvd__StatReply *to, struct arena *arena)
{
	const struct server *s = c->server;
	struct mem_tiers_stat mst;
	struct tier_stat st;
	Kvd__TiersStat *a;
	uint32_t i;

	if (!s->tiers)
		return 0;
	a = arena_alloc(arena, sizeof(*a));
	if (!a)
		return -ENOMEM;
	kvd__tiers_stat__init(a);
	a->tiers = arena_array(arena, TIERS_MAX, sizeof(*a->tiers));
	if (!a->tiers)
		return -ENOMEM;
	mem_tiers_stat(s->mem, &mst);
	a->saved = mst.saved;
	a->renewed = mst.renewed;
	a->lost = mst.lost;
	a->fetched = mst.fetched;
	a->missed = mst.missed;
	for (i = 0; tiers_stat(s->tiers, i, &st); i++) {
		a->tiers[i] = put_tier(c, &st, arena);
		if (!a->tiers[i])
			return -ENOMEM;
		a->n_tiers++;
	}
	to->tiers = a;
	return 0;
}
