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

/* Return: whether there are more. */
static bool drop_from_tiers(struct mem_space *s, struct mem_given *ret)
{
	struct tier_forgot forgot = { 0 };
	bool more = tiers_forget(s->m->tiers, save_origin(s), FORGET_PAGES,
				 &forgot);

	ret->tier_pages = forgot.pages;
	ret->tier_bytes = forgot.bytes;
	ret->tier_owed = forgot.owed;
	return more;
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
	if (!at->block)
		ret->pins = pins_end_space(s);
	at->serial = s->serial;
	if (pins_are_ending(s)) {
		pins_undo(m, &blocks);
		at->block = at->block ? at->block : 1;
		mem_tell_room(m);
		return 0;
	}
	/* What they have brought they hold, and it is cached when they end. */
	if (fetches_drop(s)) {
		at->block = at->block ? at->block : 1;
		return 0;
	}
	if (at->block == MEM_DROP_TIERS) {
		if (!m->tiers || !drop_from_tiers(s, ret))
			at->block = 0;
		return 0;
	}
	m->why = MEM_RECLAIM_DEMAND;
	at->block = reclaim_blocks(s, at->block ? at->block : 1, ret);
	m->why = MEM_RECLAIM_LIMITS;
	if (!at->block && m->tiers)
		at->block = MEM_DROP_TIERS;
	mem_tell_room(m);
	return 0;
}
