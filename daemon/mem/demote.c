/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demote.c - cached pages that lose bits before they are lost.
 */
#include "daemon/mem/demote.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "daemon/mem/reclaim.h"
#include "daemon/mem/save.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/vacate.h"

struct pair {
	struct page *from, *to;
};

/* Pages of one class of one space, on their way. */
struct demotion {
	struct dev_job job;
	struct mem *m;
	int err;
	struct page_layout from, to;
	struct dev_convert convert;
	struct size_class *grow; /* wants room for the next slab; or NULL */
	uint32_t nr_next;	/* pages of that */
	struct pair *pairs;	/* [convert.nr] */
	struct dev_convert_page pages[];
};

/* ---- which ---- */

static bool page_is_large(const struct page *p)
{
	return !page_is_demoted(p);
}

/* Its block has been in fewer bits all along, because somebody holds that. */
static bool page_was_demoted(const struct page *p)
{
	return index_page(&p->space->index, p->block, page_demoted_class(p));
}

static bool page_can_demote(const struct page *p)
{
	return p->state == PAGE_CACHED && !p->copy && !p->demotes_not &&
	       !p->awaited && p->class == page_sealed_class(p) &&
	       page_demoted_class(p) != PAGE_NO_CLASS && !page_was_demoted(p);
}

/* Exact copies go before anything else. */
static bool tenant_has_copies(const struct tenant *t)
{
	list_for_each(pos, &t->classes)
		if (!list_empty(&list_entry(pos, struct size_class,
					    link)->copies))
			return true;
	return false;
}

/* ---- room for them ---- */

static bool demote_give_up(struct size_class *sc)
{
	struct page *p = reclaim_class_coldest(sc);

	if (p)
		page_evict(p);
	return p;
}

/* A number, and that the tenant may be charged for it meanwhile. */
static bool demote_is_allowed(const struct size_class *sc)
{
	const struct tenant *t = sc->tenant;

	return t->m->nr_free &&
	       (!t->max_bytes || t->charged + sc->page_bytes <= t->max_bytes);
}

/* The first slab of @sc, at the cost of what one of @large has. */
static bool demote_first(struct size_class *sc, struct size_class *large)
{
	return sc->nr_slabs || slab_new(sc) == 0 ||
	       (reclaim_slab(large) && slab_new(sc) == 0);
}

/* A cell of @sc; @grow: also of granules that nothing else has. */
static bool demote_cell(struct size_class *sc, bool grow)
{
	while (!demote_is_allowed(sc))
		if (!demote_give_up(sc))
			return false;
	if (sc->nr_free == 0 && (grow || sc->nr_cached == 0))
		(void)slab_new(sc);
	while (sc->nr_free == 0)
		if (!demote_give_up(sc))
			return false;
	return true;
}

/* ---- the device's part ---- */

static void demotion_run(struct dev *d, struct dev_job *job)
{
	struct demotion *x = list_entry(job, struct demotion, job);

	x->err = dev_ops(d)->convert(d, &x->convert);
}

/* Nobody has taken @from meanwhile. */
static void pair_end(const struct pair *pair, bool good)
{
	struct page *from = pair->from, *to = pair->to;

	from->demoting = false;
	from->holds--;
	to->holds = 0;
	if (good && from->holds == 0 && !page_was_demoted(from)) {
		page_demote(to, from);
		page_cache(to);
		to->demoting = false;
		to->space->m->stat.demoted++;
		return;
	}
	to->demoting = false;
	page_free(to);
	from->demotes_not = !good;
	if (from->holds == 0)
		page_cache(from);
}

static bool tenant_is_full(const struct tenant *t)
{
	return t->max_bytes &&
	       t->charged > t->max_bytes - t->max_bytes / DEMOTE_KEEP;
}

/*
 * Before new pages have all that was made: a slab for the next, begun at once,
 * so that it is not taken back while it is empty. The same of what a tenant at
 * its max may be charged for.
 */
static void demote_next(const struct demotion *x)
{
	struct size_class *sc = x->grow;

	if (sc && (tenant_is_full(sc->tenant) ||
		   (sc->nr_free < x->nr_next && slab_new(sc) == 0)))
		demote_coldest(sc->tenant, x->nr_next);
}

static void demotion_done(struct dev *d, struct dev_job *job)
{
	struct demotion *x = list_entry(job, struct demotion, job);
	struct mem *m = x->m;

	(void)d;
	for (uint32_t i = 0; i < x->convert.nr; i++)
		pair_end(&x->pairs[i], x->err == 0 && !x->pages[i].bad);
	m->nr_demoting--;
	m->demotes_not |= x->err == -EOPNOTSUPP;
	demote_next(x);
	free(x->pairs);
	free(x);
	m->freed = true;
	mem_has_work(m);
	mem_tell_room(m);
}

/* ---- starting ---- */

static struct demotion *demotion_new(struct mem_space *s, uint32_t class,
				     uint32_t max)
{
	const struct kvd_geometry *g = &s->key.geometry;
	struct demotion *x;
	int r;

	x = calloc(1, sizeof(*x) + max * sizeof(x->pages[0]));
	if (!x)
		return NULL;
	x->pairs = calloc(max, sizeof(x->pairs[0]));
	if (!x->pairs) {
		free(x);
		return NULL;
	}
	x->m = s->m;
	x->job.run = demotion_run;
	x->job.done = demotion_done;
	x->convert.from = &x->from;
	x->convert.to = &x->to;
	x->convert.pages = x->pages;
	r = page_layout_class(&x->from, g, class);
	r |= page_layout_class(&x->to, g,
			       s->demoted[s->classes[class].group]);
	assert(r == 0); /* as when the space was made */
	return x;
}

static void demotion_add(struct demotion *x, struct page *from)
{
	struct page *to;

	to = page_take_hidden(from->space, page_demoted_class(from));
	from->demoting = true;
	page_wake(from);
	from->holds++;
	x->pairs[x->convert.nr] = (struct pair){ from, to };
	x->pages[x->convert.nr++] = (struct dev_convert_page){
		.from = &from->slab->segment->dev,
		.to = &to->slab->segment->dev,
		.from_at = place_offset(page_place(from)),
		.to_at = place_offset(page_place(to)),
	};
}

/* What is to be demoted, and how. */
struct choice {
	struct page **pages;
	uint32_t nr, max;
	bool grow;
};

static bool choose(struct page *p, void *choice)
{
	struct choice *c = choice;

	step_look(p->space->m, 1);
	if (page_can_demote(p) &&
	    (!c->nr || (p->space == c->pages[0]->space &&
			p->class == c->pages[0]->class)))
		c->pages[c->nr++] = p;
	return c->nr < c->max;
}

/* As they would be given up: what follows a page before it. */
static int page_compare(const void *a, const void *b)
{
	const struct page *x = *(struct page *const *)a;
	const struct page *y = *(struct page *const *)b;

	if (x->stamp != y->stamp)
		return x->stamp < y->stamp ? -1 : 1;
	return (x->depth < y->depth) - (x->depth > y->depth);
}

static void choose_slab(struct choice *c, const struct slab *slab)
{
	for (uint32_t i = 0; i < slab->class->nr_cells; i++)
		if (!(slab->cells[i] & SLAB_FREE) &&
		    !choose(&slab->segment->m->pages[slab->cells[i]], c))
			break;
	qsort(c->pages, c->nr, sizeof(c->pages[0]), page_compare);
}

static void choose_coldest(struct choice *c, const struct size_class *sc)
{
	for (int i = MEM_LOW; i <= MEM_HIGH && c->nr < c->max; i++)
		if (size_class_shelf(sc, i))
			sc->tenant->m->policy->walk(size_class_shelf(sc, i),
						    choose, c);
}

/* Is more cached at full size than is kept so? */
static bool class_is_wide(const struct size_class *sc)
{
	return sc->nr_cached * sc->page_bytes >
	       sc->tenant->charged / DEMOTE_KEEP;
}

static bool demote_start(struct choice *c)
{
	struct mem_space *s = c->pages[0]->space;
	uint32_t class = page_demoted_class(c->pages[0]);
	struct demotion *x;

	x = demotion_new(s, c->pages[0]->class, c->nr);
	if (!x)
		return false;
	for (uint32_t i = 0; i < c->nr; i++) {
		if (c->grow && x->convert.nr &&
		    !demote_is_allowed(s->sizes[class]))
			break; /* first those are to be less */
		if (demote_cell(s->sizes[class], c->grow))
			demotion_add(x, c->pages[i]);
	}
	if (!x->convert.nr) {
		free(x->pairs);
		free(x);
		return false;
	}
	x->grow = c->grow ? s->sizes[class] : NULL;
	x->nr_next = c->nr;
	s->m->nr_demoting++;
	dev_submit(s->m->dev, &x->job);
	return true;
}

/* Will room for @nr of @sc come of what is under way? Then nothing is given up
 * for it: that would be pages that were demoted just now. */
static bool demote_waits(struct size_class *sc, uint32_t nr)
{
	return sc->tenant->m->nr_demoting && sc->nr_free < nr &&
	       slab_new(sc) < 0;
}

/* Pages of @sc: those of a slab, or as many as are wanted. Return: room comes. */
static bool demote_class(struct size_class *sc, uint64_t nr)
{
	const struct page *p = reclaim_class_coldest(sc);
	struct size_class *small = p->space->sizes[page_demoted_class(p)];
	const struct slab *slab = NULL;
	struct choice c = { .nr = 0 };
	bool started;

	if (!small->nr_slabs && save_is_due(sc, sc->nr_cells))
		return true;
	if (!demote_first(small, sc))
		return false;
	if (class_is_wide(sc)) {
		if (!demote_is_allowed(small))
			demote_give_up(sc); /* others are worth two */
		slab = reclaim_idle_slab(sc);
	}
	if (slab && demote_waits(small, slab->nr_cached))
		return false;
	c.grow = slab;
	c.max = nr < DEMOTE_PAGES ? (uint32_t)nr : DEMOTE_PAGES;
	if (slab)
		c.max = slab->nr_cached;
	if (save_is_due(small, c.max))
		return true; /* what goes for them is on its way */
	c.pages = calloc(c.max, sizeof(struct page *));
	if (!c.pages)
		return false;
	if (slab)
		choose_slab(&c, slab);
	else
		choose_coldest(&c, sc);
	started = c.nr && demote_start(&c);
	free(c.pages);
	return started;
}

bool demote_takes(const struct page *p)
{
	return p->space->tenant->demotes && !p->space->m->demotes_not &&
	       page_can_demote(p) &&
	       p->space->sizes[page_demoted_class(p)]->nr_slabs;
}

static bool demote_is_on(const struct tenant *t)
{
	return t->demotes && !t->m->demotes_not && !tenant_has_copies(t);
}

bool demote_coldest(struct tenant *t, uint64_t nr)
{
	struct mem *m = t->m;
	struct page *p;

	if (!nr || !demote_is_on(t))
		return false;
	p = reclaim_coldest_of(t, page_is_large);
	if (!p || !page_can_demote(p))
		return m->nr_demoting;
	if (m->nr_demoting < DEMOTE_JOBS &&
	    !demote_class(p->slab->class, nr))
		return m->nr_demoting;
	return true;
}

bool demote_begin(const struct size_class *sc, uint64_t nr)
{
	struct tenant *t = sc->tenant;
	const struct page *p;

	if (!nr || !demote_is_on(t))
		return false;
	p = reclaim_coldest_of(t, page_is_large);
	if (!p)
		return t->m->nr_demoting || vacate_begin(sc);
	/* For one that comes in fewer bits others like it go. */
	if (page_can_demote(p) &&
	    p->space->sizes[page_demoted_class(p)] == sc)
		return false;
	return demote_coldest(t, nr);
}

/* ---- the base format again ---- */

void demote_replaced(struct mem_space *s, uint32_t block, uint32_t group)
{
	struct page *p;

	if (s->demoted[group] == PAGE_NO_CLASS ||
	    !index_page(&s->index, block, s->sealed[group]))
		return;
	p = page_get(s->m, index_page(&s->index, block, s->demoted[group]));
	if (p && p->state == PAGE_CACHED)
		page_free(p);
}

/* ---- figures ---- */

static void counts_move(struct mem_counts *n, uint64_t by)
{
	n->of[PAGE_CACHED] -= by;
	n->of[PAGE_DEMOTED] += by;
}

static uint64_t space_demoted(const struct mem_space *s, uint32_t group)
{
	uint32_t class = s->demoted[group];

	return class == PAGE_NO_CLASS ? 0 : s->class_pages[class][PAGE_CACHED];
}

void demote_counts(const struct mem *m, const struct tenant *t,
		   struct mem_counts *pages, struct mem_counts *bytes)
{
	for (uint32_t i = 0; i < m->table.h->nr_spaces; i++) {
		const struct mem_space *s = m->spaces[i];

		if (!s || (t && s->tenant != t))
			continue;
		for (uint32_t g = 0; g < s->key.geometry.nr_groups; g++) {
			uint64_t nr = space_demoted(s, g);

			if (!nr)
				continue;
			counts_move(pages, nr);
			counts_move(bytes, nr * s->classes[s->demoted[g]]
							.page_bytes);
		}
	}
}

void demote_space_counts(const struct mem_space *s, struct mem_space_stat *ret)
{
	for (uint32_t g = 0; g < s->key.geometry.nr_groups; g++) {
		uint64_t nr = space_demoted(s, g);

		if (!nr)
			continue;
		counts_move(&ret->pages, nr);
		counts_move(&ret->class_pages[s->demoted[g]], nr);
	}
}
