/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.c - what the tiers have becomes pages of the pool again.
 */
#include "daemon/mem/fetch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/mem/alloc.h"
#include "daemon/mem/hold.h"
#include "daemon/mem/segment.h"
#include "daemon/util/clock.h"

enum load_state { LOAD_DUE, LOAD_COMES, LOAD_HERE };

/* One page. */
struct load {
	struct tier_get get;
	struct dev_job job;
	struct mem_fetch *f;
	uint32_t block;		/* of the fetch */
	uint32_t class;
	enum load_state state;
	struct tier_page *from;
	struct dev_segment *to;
	uint64_t offset;
	uint32_t copied, bytes;
	handle_t page;
	int err;
	uint32_t nr_tries;	/* for room in the pool */
};

struct mem_fetch {
	struct list link;	/* mem.fetches */
	struct mem *m;
	struct mem_client *c;
	struct mem_space *s;
	void (*done)(void *ctx, uint32_t nr); /* NULL: nobody asks any more */
	void *ctx;
	struct name *names;	/* [nr] */
	uint32_t nr;		/* blocks */
	uint32_t depth;
	struct load *loads;	/* [nr_loads], in the order of blocks */
	uint32_t nr_loads;
	uint32_t next;		/* to begin */
	uint32_t published;	/* of the loads */
	uint32_t nr_coming;
	struct dev_job begin;	/* so that it ends not in mem_fetch() */
	bool over;		/* what has not begun does not come */
	uint64_t dropped_ns;	/* not 0: nor what has */
	bool busy;		/* fetch_go() runs */
};

static struct load *load_of_job(struct dev_job *job)
{
	return list_entry(job, struct load, job);
}

/* ---- one page ---- */

static void fetch_go(struct mem_fetch *f);

static void load_miss(struct load *l)
{
	struct mem_fetch *f = l->f;

	tier_page_put(l->from);
	l->from = NULL;
	f->over = true;
	f->nr_coming--;
	f->m->tiers_stat.missed++;
	fetch_go(f);
}

static const struct save_head *load_head(const struct load *l)
{
	return tier_page_head(l->from);
}

/* Keys are hashes: is it the page that is wanted? */
static bool load_is_it(const struct load *l)
{
	const struct save_head *h = load_head(l);
	const struct mem_space *s = l->f->s;

	return l->from->head_bytes == sizeof(*h) &&
	       l->from->bytes == s->classes[l->class].page_bytes &&
	       h->class == l->class && h->depth == l->f->depth + l->block &&
	       memcmp(h->tenant, s->tenant->name, sizeof(h->tenant)) == 0 &&
	       memcmp(&h->key, &s->key, sizeof(h->key)) == 0 &&
	       name_equal(&h->prefix.name, &l->f->names[l->block]);
}

static void load_run(struct dev *d, struct dev_job *job)
{
	struct load *l = load_of_job(job);

	l->err = dev_ops(d)->write(d, l->to, l->offset + l->copied,
				   tier_page_data(l->from) + l->copied,
				   l->bytes);
}

static void load_submit(struct load *l)
{
	uint32_t left = l->from->bytes - l->copied;

	l->bytes = left < SAVE_CHUNK ? left : SAVE_CHUNK;
	dev_submit(l->f->m->dev, &l->job);
}

static void load_done(struct dev *d, struct dev_job *job)
{
	struct load *l = load_of_job(job);

	l->copied += l->bytes;
	if (l->err < 0) {
		load_miss(l);
	} else if (l->copied < l->from->bytes) {
		load_submit(l);
	} else {
		l->state = LOAD_HERE;
		l->f->nr_coming--;
		fetch_go(l->f);
	}
}

static void nothing_run(struct dev *d, struct dev_job *job)
{
}

static void load_place(struct load *l);

static void load_again(struct dev *d, struct dev_job *job)
{
	struct load *l = load_of_job(job);

	l->job = (struct dev_job){ .run = load_run, .done = load_done };
	load_place(l);
}

/*
 * A page for it. A segment that is on its way is there when the device has done
 * what it was asked to until now; for no other room anything waits.
 */
static void load_place(struct load *l)
{
	struct mem_fetch *f = l->f;
	uint64_t need;
	place_t place;
	int r = f->over ? -ECANCELED :
			  alloc_pages(f->c, f->s, l->class, 1, &l->page, &place,
				      &need);

	if (r == -EAGAIN && l->nr_tries++ < FETCH_TRIES) {
		l->job = (struct dev_job){ .run = nothing_run,
					   .done = load_again };
		dev_submit(f->m->dev, &l->job);
	} else if (r < 0) {
		load_miss(l);
	} else {
		l->to = &page_get(f->m, l->page)->slab->segment->dev;
		l->offset = place_offset(place);
		load_submit(l);
	}
}

/* Its bytes have come. */
static void load_got(struct tier_get *get, struct tier_page *page)
{
	struct load *l = (struct load *)get;

	l->from = page;
	if (!page || !load_is_it(l))
		load_miss(l);
	else
		load_place(l);
}

static void load_begin(struct load *l)
{
	struct mem_fetch *f = l->f;
	struct tier_key key = save_key(f->s, &f->names[l->block], l->class);

	l->state = LOAD_COMES;
	f->nr_coming++;
	tiers_get(f->m->tiers, &key, &l->get);
}

/* Return: 0 or -errno; its page is in the index then. */
static int load_publish(struct load *l)
{
	const struct save_head *h = load_head(l);
	struct mem_block b = { .parent = h->prefix.parent,
			       .extra = h->prefix.extra,
			       .tokens = h->prefix.tokens,
			       .depth = h->depth,
			       .priority = h->priority };
	handle_t handles[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	struct page *p = page_get(l->f->m, l->page);
	int r;

	p->awaited = true;
	b.pages[l->class] = l->page;
	r = mem_publish(l->f->c, l->f->s, &b, false, handles, places);
	if (r < 0)
		return r;
	if (handles[l->class] == l->page && p->uses < h->uses)
		p->uses = h->uses;
	l->f->m->tiers_stat.fetched++;
	tier_page_put(l->from);
	l->from = NULL;
	return 0;
}

/* ---- all of them ---- */

/* Blocks from the first on of which all has come. */
static uint32_t fetch_had(const struct mem_fetch *f)
{
	return f->published < f->nr_loads ? f->loads[f->published].block :
					    f->nr;
}

static void fetch_free(struct mem_fetch *f)
{
	for (uint32_t i = 0; i < f->nr_loads; i++)
		tier_page_put(f->loads[i].from);
	list_del(&f->link);
	mem_client_free(f->c, MEM_END_DEAD);
	free(f->loads);
	free(f->names);
	free(f);
}

static void fetch_end(struct mem_fetch *f)
{
	if (f->done)
		f->done(f->ctx, fetch_had(f));
	fetch_free(f);
}

static void fetch_publish(struct mem_fetch *f)
{
	while (!f->dropped_ns && f->published < f->nr_loads &&
	       f->loads[f->published].state == LOAD_HERE) {
		if (load_publish(&f->loads[f->published]) < 0) {
			f->over = true;
			break;
		}
		f->published++;
	}
}

/* Goes on, and ends when there is nothing that may come. It may be in a call
 * of its own by a tier that answers at once. */
static void fetch_go(struct mem_fetch *f)
{
	if (f->busy)
		return;
	f->busy = true;
	fetch_publish(f);
	while (!f->over && f->next < f->nr_loads && f->nr_coming < FETCH_LOADS)
		load_begin(&f->loads[f->next++]);
	f->busy = false;
	if (f->nr_coming == 0 && (f->over || f->published == f->nr_loads))
		fetch_end(f);
}

static void fetch_begun(struct dev *d, struct dev_job *job)
{
	struct mem_fetch *f = list_entry(job, struct mem_fetch, begin);

	f->nr_coming--;
	fetch_go(f);
}

/* ---- what there is ---- */

/* The class of which the tiers have a page of that name and group, or -1. */
static int fetch_class(struct mem_space *s, const struct name *name,
		       uint32_t group)
{
	uint32_t classes[3] = { s->sealed[group], group, s->demoted[group] };

	for (int i = 0; i < 3 && classes[i] != PAGE_NO_CLASS; i++) {
		struct tier_key key = save_key(s, name, classes[i]);

		if (tiers_has(s->m->tiers, &key))
			return (int)classes[i];
	}
	return -1;
}

/*
 * Is there a page for @group of @block in the pool? It stays meanwhile, or it
 * might be what goes for the others.
 */
static bool block_has(struct mem_fetch *f, uint32_t block, uint32_t group)
{
	const struct mem_space *s = f->s;
	struct page *p;
	handle_t h = block ? index_page(&s->index, block, s->sealed[group]) : 0;

	if (block && !h)
		h = index_page(&s->index, block, group);
	if (block && !h && s->demoted[group] != PAGE_NO_CLASS)
		h = index_page(&s->index, block, s->demoted[group]);
	if (!h)
		return false;
	p = page_get(f->m, h);
	if (map_reserve(&f->c->holds, 1) == 0) {
		bool cached = p->state == PAGE_CACHED;

		hold_sealed(f->c, p, 1);
		p->awaited |= cached;
	}
	return true;
}

/* Adds what is missing of block @i. Return: false: there is no such block. */
static bool fetch_plan(struct mem_fetch *f, uint32_t i)
{
	const struct kvd_geometry *g = &f->s->key.geometry;
	uint32_t block = index_find(&f->s->index, &f->names[i]);
	uint32_t nr = f->nr_loads;

	for (uint32_t group = 0; group < g->nr_groups; group++) {
		int class;

		if (block_has(f, block, group))
			continue;
		class = fetch_class(f->s, &f->names[i], group);
		if (class < 0 && !g->groups[group].window)
			return false;
		if (class < 0)
			continue;
		f->loads[nr++] = (struct load){
			.get.done = load_got,
			.job = { .run = load_run, .done = load_done },
			.f = f,
			.block = i,
			.class = (uint32_t)class,
		};
	}
	if (!block && nr == f->nr_loads)
		return false;
	f->nr_loads = nr;
	return true;
}

static int fetch_client(struct mem_fetch *f)
{
	struct mem_client_id id = { .pid = getpid(), .uid = geteuid() };
	const struct tenant *t = f->s->tenant;
	struct mem_space *s;
	const char *why;
	int r = mem_client_new(f->m, &id, t->name, t->key, NULL, &f->c);

	if (r < 0)
		return r;
	f->c->recalled = true; /* it has no stock to be asked for */
	return mem_space_open(f->c, &f->s->key, &s, &why);
}

/* Return: NULL: out of memory, or the tiers have nothing of it. */
static struct mem_fetch *fetch_new(struct mem_space *s, uint32_t depth,
				   const struct name *names, uint32_t nr)
{
	struct mem_fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->m = s->m;
	f->s = s;
	f->depth = depth;
	list_init(&f->link);
	f->names = calloc(nr, sizeof(*f->names));
	f->loads = calloc((size_t)nr * s->key.geometry.nr_groups,
			  sizeof(*f->loads));
	if (f->names && f->loads && fetch_client(f) == 0) {
		memcpy(f->names, names, nr * sizeof(*names));
		while (f->nr < nr && fetch_plan(f, f->nr))
			f->nr++;
	}
	if (f->nr_loads)
		return f;
	fetch_free(f);
	return NULL;
}

uint32_t mem_fetch(struct mem_space *s, uint32_t depth,
		   const struct name *names, uint32_t nr,
		   struct mem_fetch **ret)
{
	struct mem_fetch *f;
	uint32_t blocks;

	if (!s->m->tiers || (s->key.geometry.nr_groups == 1 &&
			     s->sealed[0] == 0 &&
			     fetch_class(s, &names[0], 0) < 0))
		return 0; /* the usual case, at once */
	f = fetch_new(s, depth, names,
		      nr < MEM_FETCH_BLOCKS ? nr : MEM_FETCH_BLOCKS);
	if (!f)
		return 0;
	list_add_tail(&s->m->fetches, &f->link);
	*ret = f;
	blocks = f->nr;
	f->begin = (struct dev_job){ .run = nothing_run, .done = fetch_begun };
	f->nr_coming++;
	dev_submit(s->m->dev, &f->begin);
	fetch_go(f);
	return blocks;
}

void mem_fetch_wait(struct mem_fetch *f, void (*done)(void *ctx, uint32_t nr),
		    void *ctx)
{
	f->done = done;
	f->ctx = ctx;
}

void mem_fetch_cancel(struct mem_fetch *f)
{
	f->done = NULL;
	f->over = true;
}

void fetches_cancel(struct mem *m)
{
	list_for_each(pos, &m->fetches)
		mem_fetch_cancel(list_entry(pos, struct mem_fetch, link));
}

void fetches_drop(struct mem_space *s)
{
	list_for_each(pos, &s->m->fetches) {
		struct mem_fetch *f = list_entry(pos, struct mem_fetch, link);

		if (f->s != s || f->dropped_ns)
			continue;
		f->dropped_ns = clock_ns();
		f->over = true;
	}
}

bool fetches_are_ending(const struct mem_space *s)
{
	uint64_t now = clock_ns();

	list_for_each(pos, &s->m->fetches) {
		const struct mem_fetch *f =
			list_entry(pos, struct mem_fetch, link);

		if (f->s == s && f->dropped_ns &&
		    now - f->dropped_ns < FETCH_ENDS)
			return true;
	}
	return false;
}

void mem_set_tiers(struct mem *m, struct tiers *tiers)
{
	bool had = m->tiers;

	m->tiers = tiers;
	if (!had || tiers)
		return;
	fetches_cancel(m);
	dev_drain(m->dev);
}
