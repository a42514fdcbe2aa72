/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc.c - OPEN pages for a client: all or none.
 *
 * First what needs no work and can refuse (the limit), then what may have to
 * give up cached pages (what is above high, numbers, cells), and the pages are taken only when
 * nothing can fail any more.
 */
#include "daemon/mem/alloc.h"

#include <errno.h>
#include "daemon/mem/demote.h"
#include "daemon/mem/hold.h"
#include "daemon/mem/limits.h"
#include "daemon/mem/reclaim.h"
#include "daemon/mem/save.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/water.h"

/* Asks clients of @t but @c for pages that only wait to be used. */
static bool alloc_recall(const struct mem_client *c, const struct tenant *t)
{
	struct mem *m = c->m;
	bool asked = false;

	list_for_each(pos, &t->clients) {
		struct mem_client *other;

		other = list_entry(pos, struct mem_client, link);
		if (other == c || other->nr_open == 0 || other->recalled ||
		    other->leaving ||
		    !m->ops->recall)
			continue;
		other->recalled = true;
		m->ops->recall(m->ctx, other);
		asked = true;
	}
	return asked;
}

/* The numbers are all tenants': so are those who may have some to give. */
static bool alloc_recall_all(const struct mem_client *c)
{
	bool asked = false;

	list_for_each(pos, &c->m->tenants)
		asked |= alloc_recall(c, list_entry(pos, struct tenant, link));
	return asked;
}

/* The step is spent, and there was more to give up: who asked waits a turn. */
static int alloc_go_on(struct mem *m)
{
	mem_has_work(m);
	return -EAGAIN;
}

/* Keeps the tenant within its limit, at the cost of what it has cached. */
static int alloc_charge(struct tenant *t, uint32_t nr, uint64_t bytes,
			uint64_t *ret_need)
{
	uint64_t cached = t->tally.bytes[PAGE_CACHED];
	uint64_t over;

	if (!t->max_bytes || t->charged + bytes <= t->max_bytes)
		return 0;
	over = t->charged + bytes - t->max_bytes;
	*ret_need = over > cached ? over - cached : 0;
	if (over > cached)
		return -EDQUOT;
	if (t->m->in_grace || demote_coldest(t, nr))
		return -EAGAIN;
	return reclaim_down(t, t->max_bytes - bytes) ? alloc_go_on(t->m) : 0;
}

/* The same for its part of the page numbers. */
static int alloc_share(struct tenant *t, uint32_t nr)
{
	uint64_t all = tenant_nr_pages(t) + nr;
	uint32_t max = tenant_max_pages(t);

	if (!t->max_bytes || all <= max)
		return 0;
	if (all - max > t->tally.pages[PAGE_CACHED])
		return -EDQUOT;
	if (t->m->in_grace)
		return -EAGAIN;
	return reclaim_pages(t, all - max) ? 0 : alloc_go_on(t->m);
}

static int alloc_numbers(const struct mem_client *c, uint32_t nr)
{
	int r;

	if (c->m->nr_free >= nr)
		return 0;
	if (c->m->in_grace)
		return -EAGAIN;
	r = reclaim_numbers(c->tenant, nr);
	if (r == -EAGAIN)
		return alloc_go_on(c->m);
	if (r == -ENOSPC && alloc_recall_all(c))
		return -EAGAIN;
	return r;
}

/* More memory for the tenant: 0 it is on its way, -ENOSPC, -ENOMEM. */
static int alloc_grow(struct size_class *sc)
{
	int r = segment_make(sc->tenant, sc->nr_granules);

	if (r == -ENOSPC && sc->tenant->m->nr_leaving)
		return 0;
	return r;
}

static int alloc_reclaim(struct size_class *sc, uint32_t nr)
{
	struct tenant *t = sc->tenant;

	if (t->m->in_grace || demote_begin(sc, nr))
		return -EAGAIN;
	while (reclaim_may_help(sc, nr)) {
		if (save_is_coming(sc))
			return alloc_go_on(t->m);
		if (!reclaim_step(sc))
			break;
		while (sc->nr_free < nr && slab_new(sc) == 0)
			;
		if (sc->nr_free >= nr)
			return 0;
		if (step_is_spent(t->m))
			return alloc_go_on(t->m);
	}
	return reclaim_segment(t) ? -EAGAIN : -ENOSPC;
}

/* Free cells in the class. */
static int alloc_cells(struct mem_client *c, struct size_class *sc,
		       uint32_t nr)
{
	int r = 0;

	while (sc->nr_free < nr && r == 0)
		r = slab_new(sc);
	if (r != -ENOSPC)
		return r;
	r = alloc_grow(sc);
	if (r == 0)
		return -EAGAIN;
	if (r != -ENOSPC)
		return r;
	r = alloc_reclaim(sc, nr);
	if (r == -ENOSPC && alloc_recall(c, c->tenant))
		return -EAGAIN;
	return r;
}

static int alloc_reserve(struct mem_client *c, struct size_class *sc,
			 uint32_t nr, uint64_t *ret_need)
{
	uint64_t bytes = (uint64_t)nr * sc->page_bytes;
	int r;

	if (map_reserve(&c->holds, nr) < 0)
		return -ENOMEM;
	if (save_is_due(sc, nr))
		return alloc_go_on(c->m);
	r = alloc_charge(c->tenant, nr, bytes, ret_need);
	if (r < 0)
		return r;
	*ret_need = bytes;
	r = alloc_share(c->tenant, nr);
	if (r < 0)
		return r;
	limits_reclaim_high(c->tenant, bytes);
	r = alloc_numbers(c, nr);
	if (r < 0)
		return r;
	r = alloc_cells(c, sc, nr);
	if (r < 0) {
		*ret_need = (nr - sc->nr_free) * (uint64_t)sc->page_bytes;
		size_class_trim(sc, 1);
	}
	return r;
}

/* More than there could ever be is no reason to wait. */
static bool alloc_is_possible(const struct tenant *t, uint64_t nr,
			      uint64_t bytes)
{
	return nr <= tenant_max_pages(t) && bytes <= t->m->pool_max &&
	       (!t->max_bytes || bytes <= t->max_bytes);
}

/* All that is needed for @nr pages of @sc, at the cost of what is cached. */
static int alloc_make(struct mem_client *c, struct size_class *sc, uint32_t nr,
		      uint64_t *ret_need)
{
	int r;

	step_begin(c->m);
	c->m->why = MEM_RECLAIM_DIRECT;
	r = alloc_reserve(c, sc, nr, ret_need);
	c->m->why = MEM_RECLAIM_LIMITS;
	return r;
}

/* What was given up may be more than was taken: who waits is told soon. */
static void alloc_tell(struct mem *m)
{
	if (m->freed && m->wanting)
		mem_has_work(m);
}

int alloc_pages(struct mem_client *c, struct mem_space *s, uint32_t class,
		uint32_t nr, handle_t *handles, place_t *places,
		uint64_t *ret_need_bytes)
{
	int r;

	if (class >= s->nr_classes || nr == 0 ||
	    !alloc_is_possible(c->tenant, nr,
			       (uint64_t)nr * s->sizes[class]->page_bytes))
		return -EINVAL;
	r = alloc_make(c, s->sizes[class], nr, ret_need_bytes);
	if (r == -EDQUOT)
		alloc_recall(c, c->tenant);
	if ((r == -ENOSPC || r == -EDQUOT) && client_pages_come(c->tenant))
		r = -EAGAIN;
	if (r < 0) {
		c->m->wanting = true;
		alloc_tell(c->m);
		return r;
	}
	for (uint32_t i = 0; i < nr; i++) {
		struct page *p = page_take(c, s, class);

		handles[i] = page_handle(p);
		places[i] = page_place(p);
	}
	water_direct(s->sizes[class], nr);
	segment_make_ahead(c->tenant);
	water_taken(s->sizes[class]);
	save_taken(s->sizes[class]);
	alloc_tell(c->m);
	return 0;
}

int mem_alloc(struct mem_client *c, struct mem_space *s, uint32_t class,
	      uint32_t nr, handle_t *handles, place_t *places,
	      uint64_t *ret_need_bytes)
{
	if (class < s->nr_classes &&
	    class == s->demoted[s->classes[class].group])
		return -EINVAL;
	return alloc_pages(c, s, class, nr, handles, places, ret_need_bytes);
}
