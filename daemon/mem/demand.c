/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demand.c - cached pages given up because somebody asks for it.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/fetch.h"
#include "daemon/mem/pin.h"
#include "daemon/mem/reclaim.h"

int mem_reclaim(struct mem *m, const char *tenant, uint64_t bytes,
		struct mem_given *ret, bool *ret_more)
{
	struct tenant *t = tenant ? tenant_find(m, tenant) : NULL;

	if (m->in_grace)
		return -EAGAIN;
	if (tenant && !t)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	m->why = MEM_RECLAIM_DEMAND;
	*ret_more = reclaim_some(m, t, bytes, ret);
	m->why = MEM_RECLAIM_LIMITS;
	mem_tell_room(m);
	return 0;
}

#define FORGET_PAGES 256u

/* Return: where to go on. */
static uint32_t drop_from_tiers(struct mem_space *s, uint32_t at,
				struct mem_given *ret)
{
	bool done = at == MEM_DROP_DONE;
	struct tier_forgot forgot = { 0 };
	bool more = tiers_forget(s->m->tiers, save_origin(s),
				 done ? 0 : FORGET_PAGES, &forgot);

	ret->tier_pages = forgot.pages;
	ret->tier_bytes = forgot.bytes;
	ret->tier_owed = forgot.owed;
	if (more)
		return at;
	return done ? 0 : MEM_DROP_DONE;
}

/* What a fetch has brought it holds, which is cached when it ends. */
static uint32_t drop_from_pool(struct mem_space *s, uint32_t at,
			       struct mem_given *ret)
{
	struct mem *m = s->m;

	m->why = MEM_RECLAIM_DEMAND;
	at = reclaim_blocks(s, at, ret);
	m->why = MEM_RECLAIM_LIMITS;
	if (at || !m->tiers)
		return at;
	return fetches_are_ending(s) ? 1 : MEM_DROP_TIERS;
}

int mem_drop(struct mem_space *s, struct mem_cursor *at, struct mem_given *ret)
{
	uint32_t blocks = PIN_STEP_BLOCKS;
	struct mem *m = s->m;

	if (m->in_grace)
		return -EAGAIN;
	if (at->serial && at->serial != s->serial)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	if (!at->block) {
		ret->pins = pins_end_space(s);
		fetches_drop(s);
		at->block = 1;
	}
	at->serial = s->serial;
	if (pins_are_ending(s))
		pins_undo(m, &blocks);
	else if (at->block < MEM_DROP_TIERS)
		at->block = drop_from_pool(s, at->block, ret);
	else if (m->tiers)
		at->block = drop_from_tiers(s, at->block, ret);
	else
		at->block = 0;
	mem_tell_room(m);
	return 0;
}
