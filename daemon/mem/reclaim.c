/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.c - making room by giving up what nobody holds.
 */
#include "daemon/mem/reclaim.h"

#include <assert.h>
#include <errno.h>
#include "daemon/mem/limits.h"
#include "daemon/mem/save.h"
#include "daemon/mem/segment.h"

/*
 * What one step looks at: pages from the cold end of a class in search of a
 * slab without held pages, and cached pages given up with one segment. They
 * bound the time a step takes, not what can be had in many.
 */
#define RECLAIM_SCAN	     256
#define RECLAIM_SEGMENT_PAGES 4096

/*
 * And of what is asked for from outside: size classes and tenants looked at,
 * where a page given up costs as much as so many of them; blocks looked at,
 * pages given up of them. They are few: what a policy remembers of each may
 * be on memory that was never touched before.
 */
#define RECLAIM_LOOKS	    1400
#define RECLAIM_PAGE_LOOKS  8
#define RECLAIM_BLOCKS	    2048
#define RECLAIM_BLOCK_PAGES 128

void page_evict(struct page *p)
{
	struct mem_space *s = p->space;

	assert(p->state == PAGE_CACHED);
	save_evicted(p);
	page_free(p);
	space_count(&s->stats->evicted, 1);
	s->m->stat.evicted++;
	s->m->stat.reclaimed[s->m->why]++;
	step_look(s->m, STEP_PAGE_LOOKS);
}

/* What goes first, copies before all others. */
struct cold {
	struct page *page;	/* NULL: there is none */
	bool copy;
	int priority;		/* then the lowest of a tenant */
	uint64_t worth;		/* of a copy its stamp */
};

/* Copies, or all others. */
enum which { COPIES, OTHERS };

static struct cold class_coldest(const struct size_class *sc, enum which which)
{
	const struct mem *m = sc->tenant->m;
	struct cold c = { .copy = which == COPIES };

	if (c.copy) {
		if (!list_empty(&sc->copies))
			c.page = list_first(&sc->copies, struct page, link);
		c.worth = c.page ? c.page->stamp : 0;
		return c;
	}
	for (int i = MEM_LOW; i <= MEM_HIGH && !c.page; i++) {
		struct shelf *shelf = size_class_shelf(sc, i);

		c.priority = i;
		c.page = shelf ? m->policy->next(shelf) : NULL;
		if (c.page)
			c.worth = m->policy->worth(shelf, c.page, m->tick);
	}
	return c;
}

static bool goes_before(const struct cold *a, const struct cold *b)
{
	if (!a->page || !b->page)
		return a->page;
	if (a->copy != b->copy)
		return a->copy;
	if (a->priority != b->priority)
		return a->priority < b->priority;
	return a->worth != b->worth ? a->worth < b->worth :
				      a->page->stamp < b->page->stamp;
}

struct page *reclaim_class_coldest(const struct size_class *sc)
{
	return class_coldest(sc, OTHERS).page;
}

struct page *reclaim_coldest_of(const struct tenant *t,
				bool (*wanted)(const struct page *p))
{
	struct cold coldest = { .page = NULL };

	list_for_each(pos, &t->classes) {
		struct cold c = class_coldest(list_entry(pos, struct size_class,
							 link), OTHERS);

		if (c.page && wanted(c.page) && goes_before(&c, &coldest))
			coldest = c;
	}
	return coldest.page;
}

/* Of the classes of @t but @but. */
static struct cold tenant_coldest(const struct tenant *t, enum which which,
				  const struct size_class *but)
{
	struct cold coldest = { .page = NULL };

	list_for_each(pos, &t->classes) {
		struct size_class *sc;
		struct cold c;

		sc = list_entry(pos, struct size_class, link);
		if (sc == but)
			continue;
		c = class_coldest(sc, which);
		if (goes_before(&c, &coldest))
			coldest = c;
	}
	return coldest;
}

/* What @t gives up next: an exact copy as long as it has one. */
static struct cold tenant_next(const struct tenant *t)
{
	struct cold c = tenant_coldest(t, COPIES, NULL);

	return c.page ? c : tenant_coldest(t, OTHERS, NULL);
}

/*
 * The same over all tenants but what their min keeps. What a tenant calls
 * high or low is between its own pages.
 */
static struct page *pool_next(const struct mem *m)
{
	struct cold next = { .page = NULL };

	list_for_each(pos, &m->tenants) {
		struct cold c = tenant_next(list_entry(pos, struct tenant,
						       link));

		c.priority = MEM_NORMAL;
		if (c.page && tenant_may_lose(c.page->space->tenant,
					      page_bytes(c.page)) &&
		    goes_before(&c, &next))
			next = c;
	}
	return next.page;
}

bool reclaim_pages(struct tenant *t, uint64_t nr)
{
	while (nr--) {
		if (step_is_spent(t->m))
			return false;
		page_evict(tenant_next(t).page);
	}
	return true;
}

/* What it costs to find the next page of @t, or of all. */
static uint32_t reclaim_looks(const struct mem *m, const struct tenant *t)
{
	uint32_t looks = 0;

	list_for_each(i, &m->tenants) {
		const struct tenant *one = list_entry(i, struct tenant, link);

		if (t && one != t)
			continue;
		looks++;
		list_for_each(j, &one->classes)
			looks += 1 + MEM_NR_PRIORITIES;
	}
	return looks;
}

bool reclaim_some(struct mem *m, struct tenant *t, uint64_t bytes,
		  struct mem_given *given)
{
	uint32_t budget = 1 + RECLAIM_LOOKS / (RECLAIM_PAGE_LOOKS +
					       reclaim_looks(m, t));
	struct page *p;

	while (given->bytes < bytes &&
	       (p = t ? tenant_next(t).page : pool_next(m))) {
		if (budget-- == 0)
			return true;
		given->bytes += page_bytes(p);
		given->pages++;
		page_evict(p);
	}
	return false;
}

/* A copy before its sealed page: one alone would be a copy no more. */
static void reclaim_block(struct mem_space *s, uint32_t nr,
			  struct mem_given *given)
{
	for (uint32_t i = 0; i < s->nr_classes; i++) {
		struct page *p = page_get(s->m, index_page(&s->index, nr, i));

		if (!p || p->state != PAGE_CACHED)
			continue;
		given->bytes += page_bytes(p);
		given->pages++;
		page_evict(p);
	}
}

uint32_t reclaim_blocks(struct mem_space *s, uint32_t from,
			struct mem_given *given)
{
	uint64_t most = given->pages + RECLAIM_BLOCK_PAGES;
	uint32_t left = RECLAIM_BLOCKS, nr = from;

	for (; nr <= s->index.nr_touched && left; left--, nr++) {
		if (given->pages >= most)
			break;
		reclaim_block(s, nr, given);
	}
	return nr <= s->index.nr_touched ? nr : 0;
}

int reclaim_numbers(struct tenant *t, uint32_t nr)
{
	struct mem *m = t->m;

	if (m->nr_free + limits_pages_to_take(t) < nr)
		return -ENOSPC;
	while (m->nr_free < nr) {
		struct page *p = tenant_next(t).page;

		if (step_is_spent(m))
			return -EAGAIN;
		if (!p) {
			p = pool_next(m);
			step_look(m, reclaim_looks(m, NULL));
		}
		page_evict(p);
	}
	return 0;
}

/* ---- cells ---- */

/* The slab itself may be gone after its last page. */
static void slab_evict_copies(struct slab *slab)
{
	struct mem *m = slab->segment->m;
	uint32_t left = slab->nr_cached;

	for (uint32_t i = 0; left; i++) {
		struct page *p = &m->pages[slab->cells[i] & ~SLAB_FREE];

		if ((slab->cells[i] & SLAB_FREE) || p->state != PAGE_CACHED)
			continue;
		left--;
		if (p->copy)
			page_evict(p);
	}
}

/* A copy of @sc, or else those of one slab of another size. */
static bool reclaim_copies(struct size_class *sc)
{
	struct page *p = class_coldest(sc, COPIES).page;

	if (p) {
		page_evict(p);
		return true;
	}
	p = tenant_coldest(sc->tenant, COPIES, sc).page;
	if (p)
		slab_evict_copies(p->slab);
	return p;
}

/* A slab without held pages, near the cold end of a class, or NULL. */
struct scan {
	int left;
	struct slab *idle;
};

static bool scan_page(struct page *p, void *scan)
{
	struct scan *s = scan;

	step_look(p->space->m, 1);
	if (slab_is_idle(p->slab))
		s->idle = p->slab;
	return !s->idle && --s->left;
}

struct slab *reclaim_idle_slab(const struct size_class *sc)
{
	struct scan s = { .left = RECLAIM_SCAN };

	for (int i = MEM_LOW; i <= MEM_HIGH && s.left && !s.idle; i++) {
		struct shelf *shelf = size_class_shelf(sc, i);

		if (shelf)
			sc->tenant->m->policy->walk(shelf, scan_page, &s);
	}
	return s.idle;
}

/* The slab itself may be gone after its last page. */
static void slab_evict(struct slab *slab)
{
	struct mem *m = slab->segment->m;
	uint32_t left = slab->nr_cached;

	for (uint32_t i = 0; left; i++) {
		uint32_t cell = slab->cells[i];

		if (cell & SLAB_FREE)
			continue;
		left--;
		page_evict(&m->pages[cell]);
	}
}

bool reclaim_slab(const struct size_class *sc)
{
	struct slab *slab = reclaim_idle_slab(sc);

	if (slab)
		slab_evict(slab);
	return slab;
}

bool reclaim_step(struct size_class *sc)
{
	struct cold mine, theirs;

	if (reclaim_copies(sc))
		return true;
	mine = class_coldest(sc, OTHERS);
	theirs = tenant_coldest(sc->tenant, OTHERS, sc);
	if (goes_before(&theirs, &mine) &&
	    reclaim_slab(theirs.page->slab->class))
		return true;
	if (mine.page) {
		page_evict(mine.page);
		return true;
	}
	list_for_each(pos, &sc->tenant->classes) {
		struct size_class *other;

		other = list_entry(pos, struct size_class, link);
		if (other != sc && reclaim_slab(other))
			return true;
	}
	return false;
}

/* Whole slabs hold more than their pages: a bound, not a promise. */
bool reclaim_may_help(const struct size_class *sc, uint32_t nr)
{
	const struct tenant *t = sc->tenant;

	if (sc->nr_free + sc->nr_cached >= nr)
		return true;
	return t->tally.pages[PAGE_CACHED] > sc->nr_cached &&
	       (t->tally.bytes[PAGE_CACHED] + t->tally.bytes[PAGE_FREE]) * 2 >=
		       (uint64_t)nr * sc->page_bytes;
}

/* ---- segments ---- */

static bool segment_is_cheap(const struct segment *seg)
{
	return !seg->draining && seg->nr_pages == seg->nr_cached &&
	       seg->nr_cached <= RECLAIM_SEGMENT_PAGES &&
	       segment_can_retire(seg);
}

/* Of all tenants but @t, the segment that costs the fewest cached pages. */
static struct segment *segment_cheapest(const struct tenant *t)
{
	struct segment *best = NULL;

	list_for_each(i, &t->m->tenants) {
		struct tenant *other = list_entry(i, struct tenant, link);

		if (other == t)
			continue;
		list_for_each(j, &other->segments) {
			struct segment *seg;

			seg = list_entry(j, struct segment, link);
			if ((best && seg->nr_cached >= best->nr_cached) ||
			    !segment_is_cheap(seg) || !limits_may_take(seg))
				continue;
			best = seg;
		}
	}
	return best;
}

/* Some steps may be needed: what has begun is the cheapest from then on. */
bool reclaim_segment(struct tenant *t)
{
	struct segment *seg;

	seg = segment_is_allowed(t) ? segment_cheapest(t) : NULL;
	if (!seg)
		return false;
	for (uint32_t i = 0; i < seg->nr_granules; i++) {
		if (!seg->slabs[i] || !seg->slabs[i]->nr_cached)
			continue;
		if (step_is_spent(t->m)) {
			mem_has_work(t->m);
			return true;
		}
		slab_evict(seg->slabs[i]);
	}
	tenant_trim(seg->tenant, NULL);
	segment_retire(seg);
	return true;
}

bool reclaim_down(struct tenant *t, uint64_t bytes)
{
	struct page *p;

	while (t->charged > bytes && (p = tenant_next(t).page)) {
		if (step_is_spent(t->m))
			return true;
		page_evict(p);
	}
	return false;
}

bool reclaim_number(struct tenant *t)
{
	struct page *p = tenant_next(t).page;

	if (!p || !tenant_may_lose(t, page_bytes(p)))
		p = pool_next(t->m);
	if (p)
		page_evict(p);
	return p;
}

bool reclaim_coldest(struct tenant *t)
{
	struct page *p = tenant_next(t).page;

	if (!p || !tenant_may_lose(t, page_bytes(p)))
		return false;
	if (!p->copy && save_is_coming(p->slab->class))
		return false;
	page_evict(p);
	return true;
}
