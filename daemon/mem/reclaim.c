/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.c - making room by giving up what nobody holds.
 */
#include "daemon/mem/reclaim.h"

#include <assert.h>
#include "daemon/mem/limits.h"
#include "daemon/mem/segment.h"

/*
 * What one step looks at: pages from the cold end of a class in search of a
 * slab without held pages, and cached pages given up with one segment. They
 * bound the time a step takes, not what can be had in many.
 */
#define RECLAIM_SCAN	     256
#define RECLAIM_SEGMENT_PAGES 4096

void page_evict(struct page *p)
{
	struct mem_space *s = p->space;

	assert(p->state == PAGE_CACHED);
	page_free(p);
	space_count(&s->stats->evicted, 1);
	s->m->stat.evicted++;
}

static struct page *class_coldest(const struct size_class *sc, enum lru which)
{
	return list_empty(&sc->lru[which]) ?
		       NULL :
		       list_first(&sc->lru[which], struct page, link);
}

/* The class of @t, other than @but, that has the coldest page. */
static struct size_class *tenant_coldest(const struct tenant *t,
					 enum lru which,
					 const struct size_class *but)
{
	struct size_class *coldest = NULL;

	list_for_each(pos, &t->classes) {
		struct size_class *sc;

		sc = list_entry(pos, struct size_class, link);
		if (sc == but || list_empty(&sc->lru[which]))
			continue;
		if (!coldest || class_coldest(sc, which)->stamp <
					class_coldest(coldest, which)->stamp)
			coldest = sc;
	}
	return coldest;
}

/* What @t gives up next: an exact copy as long as it has one. Or NULL. */
static struct page *tenant_next(const struct tenant *t)
{
	for (int i = 0; i < NR_LRUS; i++) {
		struct size_class *sc = tenant_coldest(t, (enum lru)i, NULL);

		if (sc)
			return class_coldest(sc, (enum lru)i);
	}
	return NULL;
}

static bool page_goes_before(const struct page *a, const struct page *b)
{
	return a->lru != b->lru ? a->lru < b->lru : a->stamp < b->stamp;
}

/* The same over all tenants but what their min keeps. */
static struct page *pool_next(const struct mem *m)
{
	struct page *next = NULL;

	list_for_each(pos, &m->tenants) {
		struct page *p = tenant_next(list_entry(pos, struct tenant,
							link));

		if (p && tenant_may_lose(p->space->tenant, page_bytes(p)) &&
		    (!next || page_goes_before(p, next)))
			next = p;
	}
	return next;
}

void reclaim_charge(struct tenant *t, uint64_t bytes)
{
	uint64_t target = t->charged > bytes ? t->charged - bytes : 0;

	while (t->charged > target)
		page_evict(tenant_next(t));
}

void reclaim_pages(struct tenant *t, uint64_t nr)
{
	while (nr--)
		page_evict(tenant_next(t));
}

static void lru_evict_space(struct list *lru, const struct mem_space *s)
{
	list_for_each_safe(pos, lru) {
		struct page *p = list_entry(pos, struct page, link);

		if (p->space == s)
			page_evict(p);
	}
}

/* All copies first: one whose sealed page went would change its list. */
void reclaim_space(struct mem_space *s)
{
	for (int which = 0; which < NR_LRUS; which++)
		for (uint32_t i = 0; i < s->nr_classes; i++)
			lru_evict_space(&s->sizes[i]->lru[which], s);
}

bool reclaim_numbers(struct tenant *t, uint32_t nr)
{
	struct mem *m = t->m;

	if (m->nr_free + limits_pages_to_take(t) < nr)
		return false;
	while (m->nr_free < nr) {
		struct page *p = tenant_next(t);

		page_evict(p ? p : pool_next(m));
	}
	return true;
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
		if (p->lru == LRU_COPIES)
			page_evict(p);
	}
}

/* A copy of @sc, or else those of one slab of another size. */
static bool reclaim_copies(struct size_class *sc)
{
	struct page *p = class_coldest(sc, LRU_COPIES);
	struct size_class *other;

	if (p) {
		page_evict(p);
		return true;
	}
	other = tenant_coldest(sc->tenant, LRU_COPIES, sc);
	if (other)
		slab_evict_copies(class_coldest(other, LRU_COPIES)->slab);
	return other;
}

/* A slab without held pages, near the cold end of a class, or NULL. */
static struct slab *class_idle_slab(const struct size_class *sc)
{
	int scan = RECLAIM_SCAN;

	list_for_each(pos, &sc->lru[LRU_OTHERS]) {
		struct slab *slab = list_entry(pos, struct page, link)->slab;

		if (slab_is_idle(slab))
			return slab;
		if (--scan == 0)
			break;
	}
	return NULL;
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

static bool class_evict_slab(const struct size_class *sc)
{
	struct slab *slab = class_idle_slab(sc);

	if (slab)
		slab_evict(slab);
	return slab;
}

bool reclaim_step(struct size_class *sc)
{
	struct size_class *other;
	struct page *mine, *theirs;

	if (reclaim_copies(sc))
		return true;
	mine = class_coldest(sc, LRU_OTHERS);
	other = tenant_coldest(sc->tenant, LRU_OTHERS, sc);
	theirs = other ? class_coldest(other, LRU_OTHERS) : NULL;
	if (theirs && (!mine || theirs->stamp < mine->stamp) &&
	    class_evict_slab(other))
		return true;
	if (mine) {
		page_evict(mine);
		return true;
	}
	list_for_each(pos, &sc->tenant->classes) {
		other = list_entry(pos, struct size_class, link);
		if (other != sc && class_evict_slab(other))
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
	return seg->nr_pages == seg->nr_cached &&
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
			if (!segment_is_cheap(seg) || !limits_may_take(seg))
				continue;
			if (!best || seg->nr_cached < best->nr_cached)
				best = seg;
		}
	}
	return best;
}

bool reclaim_segment(struct tenant *t)
{
	struct segment *seg;

	seg = segment_is_allowed(t) ? segment_cheapest(t) : NULL;
	if (!seg)
		return false;
	for (uint32_t i = 0; i < seg->nr_granules; i++)
		if (seg->slabs[i] && seg->slabs[i]->nr_cached)
			slab_evict(seg->slabs[i]);
	tenant_trim(seg->tenant, NULL);
	segment_retire(seg);
	return true;
}

bool reclaim_down(struct tenant *t, uint64_t bytes, uint32_t *budget)
{
	struct page *p;

	while (t->charged > bytes && (p = tenant_next(t))) {
		if (*budget == 0)
			return true;
		(*budget)--;
		page_evict(p);
	}
	return false;
}
