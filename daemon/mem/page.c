/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.c - a page, and its changes of state.
 */
#include "daemon/mem/page.h"

#include <assert.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/watch.h"

/* ---- who it is ---- */

uint32_t page_nr(const struct page *p)
{
	return (uint32_t)(p - p->space->m->pages);
}

handle_t page_handle(const struct page *p)
{
	return handle_make(p->generation, page_nr(p));
}

place_t page_place(const struct page *p)
{
	return slab_place(p->slab, p->cell);
}

struct page *page_get(const struct mem *m, handle_t handle)
{
	uint32_t nr = handle_nr(handle);
	struct page *p = &m->pages[nr];

	if (nr == 0 || nr > m->nr_touched)
		return NULL;
	if (p->generation != handle_gen(handle) || p->state == PAGE_FREE ||
	    (p->demoting && p->state == PAGE_OPEN))
		return NULL;
	return p;
}

/* ---- what every change does ---- */

static void page_tally(struct tally *t, const struct page *p,
		       enum page_state to)
{
	tally_sub(t, p->state, 1, page_bytes(p));
	tally_add(t, to, 1, page_bytes(p));
}

/* Spaces have no FREE pages: those belong to slabs. */
static void page_tally_space(struct page *p, enum page_state to)
{
	struct mem_space *s = p->space;

	if (p->state != PAGE_FREE) {
		tally_sub(&s->tally, p->state, 1, page_bytes(p));
		s->class_pages[p->class][p->state]--;
	}
	if (to != PAGE_FREE) {
		tally_add(&s->tally, to, 1, page_bytes(p));
		s->class_pages[p->class][to]++;
	}
}

/* How many CACHED pages a slab, its class and its segment have. */
static void page_count_cached(struct page *p, int delta)
{
	p->slab->nr_cached += (uint32_t)delta;
	p->slab->class->nr_cached += (uint64_t)(int64_t)delta;
	p->slab->segment->nr_cached += (uint32_t)delta;
}

/* The state and everything that counts it. */
static void page_set_state(struct page *p, enum page_state to)
{
	struct mem_space *s = p->space;

	page_tally(&s->m->tally, p, to);
	page_tally(&s->tenant->tally, p, to);
	page_tally_space(p, to);
	if (p->state == PAGE_FREE)
		p->slab->segment->nr_pages++;
	if (to == PAGE_FREE)
		p->slab->segment->nr_pages--;
	if (p->state == PAGE_CACHED)
		page_count_cached(p, -1);
	if (to == PAGE_CACHED)
		page_count_cached(p, 1);
	p->state = (uint8_t)to;
}

/* What a successor is to know. The owner counts while the page is OPEN. */
static void page_write(const struct page *p, enum page_state state,
		       const struct prefix *prefix)
{
	const struct mem_space *s = p->space;
	const struct mem_class *class = &s->classes[p->class];
	struct identity id = {
		.generation = p->generation,
		.state = (uint8_t)state,
		.named = p->block != 0,
		.class = p->class,
		.k_format = (uint8_t)class->k_format,
		.v_format = (uint8_t)class->v_format,
		.space = s->id,
		.page_bytes = class->page_bytes,
		.slab_slot = p->slab->first,
		.place = page_place(p),
		.depth = p->depth,
	};

	if (state == PAGE_OPEN) {
		id.pid = (uint32_t)p->client->id.pid;
		id.start_time = p->client->id.start_time;
		id.series = p->client->id.series;
	}
	table_set(&s->m->table, page_nr(p), &id, prefix);
}

static void page_set_client(struct page *p, struct mem_client *c)
{
	if (p->client)
		p->client->nr_open--;
	if (c)
		c->nr_open++;
	p->client = c;
}

/* ---- the index ---- */

bool page_is_copy(const struct page *p)
{
	uint32_t sealed = page_sealed_class(p), small = page_demoted_class(p);
	const struct index *ix = &p->space->index;

	if (!p->block || p->class == sealed)
		return false;
	return index_page(ix, p->block, sealed) ||
	       (small != PAGE_NO_CLASS && p->class != small &&
		index_page(ix, p->block, small));
}

bool page_is_followed(const struct page *p)
{
	const struct mem_space *s = p->space;
	uint32_t group = s->classes[p->class].group;

	return !s->key.geometry.groups[group].window &&
	       !index_is_leaf(&s->index, p->block);
}

const struct name *page_name(const struct page *p)
{
	return &index_block(&p->space->index, p->block)->name;
}

void page_count_use(struct page *p)
{
	p->uses += p->uses < UINT8_MAX;
	p->awaited = false;
}

static struct shelf *page_shelf(const struct page *p)
{
	return size_class_shelf(p->slab->class, p->priority);
}

struct shelf *page_home(const struct page *p)
{
	uint32_t small = page_demoted_class(p);

	if (small == PAGE_NO_CLASS || p->class != page_sealed_class(p))
		return page_shelf(p);
	return size_class_shelf(p->space->sizes[small], p->priority);
}

/* Puts a page that is CACHED where it belongs. */
static void page_list_cached(struct page *p)
{
	struct mem *m = p->space->m;

	if (!p->demoting) /* else it is as cold as it was */
		p->stamp = m->tick;
	p->copy = page_is_copy(p);
	p->priority = p->space->index.links[p->block].priority;
	if (p->copy)
		list_add_tail(&p->slab->class->copies, &p->link);
	else
		m->policy->put(page_shelf(p), p);
}

/* @used: somebody wants it; else it is given up, or will be listed anew. */
static void page_unlist_cached(struct page *p, bool used)
{
	if (p->copy)
		list_del(&p->link);
	else
		p->space->m->policy->take(page_shelf(p), p, used);
	p->awaited = false;
}

void page_followed(struct mem_space *s, uint32_t block)
{
	const struct policy *policy = s->m->policy;

	for (uint32_t i = 0; policy->followed && i < s->nr_classes; i++) {
		struct page *p = page_get(s->m, index_page(&s->index, block, i));

		if (p && p->state == PAGE_CACHED && !p->copy)
			policy->followed(page_shelf(p), p);
	}
}

void page_reprioritize(struct mem_space *s, uint32_t block)
{
	for (uint32_t i = 0; i < s->nr_classes; i++) {
		struct page *p = page_get(s->m, index_page(&s->index, block, i));

		if (!p || p->state != PAGE_CACHED || p->copy)
			continue;
		page_unlist_cached(p, true);
		page_list_cached(p);
	}
}

/* Its list is another, if what it is a copy of has come or gone. */
static void page_relist(struct mem_space *s, uint32_t block, uint32_t class)
{
	struct page *p = page_get(s->m, index_page(&s->index, block, class));

	if (p && p->state == PAGE_CACHED && p->copy != page_is_copy(p)) {
		page_unlist_cached(p, true);
		page_list_cached(p);
	}
}

/* What @block has of @class. It makes or unmakes copies. */
static void page_index(struct mem_space *s, uint32_t block, uint32_t class,
		       handle_t handle)
{
	uint32_t group = s->classes[class].group, up;

	up = index_set_page(&s->index, block, class, handle);
	page_relist(s, block, group);
	if (s->demoted[group] != PAGE_NO_CLASS)
		page_relist(s, block, s->demoted[group]);
	if (up)
		page_followed(s, up);
}

/* ---- changes ---- */

/* A number that is not in use; there is one. */
static struct page *page_take_number(struct mem *m)
{
	struct page *p;

	assert(m->nr_free > 0);
	m->nr_free--;
	if (list_empty(&m->free_pages)) {
		p = &m->pages[++m->nr_touched];
		list_init(&p->link);
		return p;
	}
	p = list_first(&m->free_pages, struct page, link);
	list_del(&p->link);
	return p;
}

/* All but whose it is. */
static struct page *page_take_cell(struct mem_space *s, uint32_t class)
{
	struct page *p = page_take_number(s->m);

	s->m->nr_taken++;
	assert(p->state == PAGE_FREE && p->holds == 0);
	p->space = s;
	p->saved = SAVED_NOT;
	p->class = (uint8_t)class;
	p->slab = slab_get(s->sizes[class], page_nr(p), &p->cell);
	if (++p->generation == 0)
		p->generation = 1;
	p->demotes_not = false;
	p->awaited = false;
	p->uses = 0;
	charge_init(&p->charge, s->tenant, page_bytes(p));
	page_set_state(p, PAGE_OPEN);
	return p;
}

struct page *page_take(struct mem_client *c, struct mem_space *s,
		       uint32_t class)
{
	struct page *p = page_take_cell(s, class);

	s->m->tick++;
	page_set_client(p, c);
	hold_add(c, p, 1);
	page_write(p, PAGE_OPEN, NULL);
	return p;
}

void page_seal(struct page *p, const struct prefix *prefix, uint32_t block,
	       uint32_t depth)
{
	assert(p->state == PAGE_OPEN || p->state == PAGE_SEALED);
	assert(p->block == 0 && p->holds > 0);
	if (p->state == PAGE_OPEN) {
		page_set_client(p, NULL);
		page_set_state(p, PAGE_SEALED);
	} else if (!block) {
		return;
	}
	p->block = block;
	p->depth = depth;
	page_write(p, PAGE_SEALED, block ? prefix : NULL);
	if (!block)
		return;
	page_index(p->space, block, p->class, page_handle(p));
	p->priority = p->space->index.links[block].priority;
	p->space->m->policy->named(page_shelf(p), p);
}

/* First the new one, then the old: a successor may find both, and not none. */
void page_replace(struct page *from, struct page *to)
{
	struct mem_space *s = from->space;
	uint32_t block = from->block;

	assert(from->state == PAGE_SEALED && from->holds == 1 && block);
	assert(to->state == PAGE_OPEN && to->holds == 1 && !to->block);
	page_set_client(to, NULL);
	page_set_state(to, PAGE_SEALED);
	to->block = block;
	to->depth = from->depth;
	to->priority = from->priority;
	to->uses = from->uses;
	to->queue = from->queue;
	to->freq = from->freq;
	page_write(to, PAGE_SEALED, &s->m->table.prefixes[page_nr(from)]);
	from->block = 0;
	from->depth = 0;
	page_write(from, PAGE_SEALED, NULL);
	page_index(s, block, to->class, page_handle(to));
}

struct page *page_take_hidden(struct mem_space *s, uint32_t class)
{
	struct page *p = page_take_cell(s, class);

	p->demoting = true;
	p->holds = 1;
	page_write(p, PAGE_FREE, NULL); /* the table counts numbers in use */
	return p;
}

/* All that @from is but its state, its class and its place. */
static void page_inherit(struct page *p, const struct page *from)
{
	p->block = from->block;
	p->depth = from->depth;
	p->priority = from->priority;
	p->stamp = from->stamp;
	p->uses = from->uses;
	p->queue = from->queue;
	p->freq = from->freq;
	p->holds = 0;
}

/* The new identity is whole before the old one goes. */
void page_demote(struct page *p, struct page *from)
{
	struct mem *m = p->space->m;
	uint32_t block = from->block;

	assert(p->state == PAGE_OPEN && p->demoting && !p->block);
	assert(from->state == PAGE_SEALED && from->holds == 0 && block);
	page_set_state(p, PAGE_SEALED);
	page_inherit(p, from);
	page_write(p, PAGE_SEALED, &m->table.prefixes[page_nr(from)]);
	page_index(p->space, block, p->class, page_handle(p));
	page_free(from);
}

void page_cache(struct page *p)
{
	assert(p->state == PAGE_SEALED && p->holds == 0 && p->block);
	page_set_state(p, PAGE_CACHED);
	page_list_cached(p);
	p->space->m->freed = true;
}

void page_wake(struct page *p)
{
	assert(p->state == PAGE_CACHED && p->holds == 0);
	page_unlist_cached(p, true);
	page_set_state(p, PAGE_SEALED);
	p->saved = SAVED_NOT; /* until it is cold they may lose it */
}

/* NULL: it waits for nobody. */
static void page_set_writer(struct page *p, struct writer *w)
{
	if (p->writer)
		p->writer->nr_pages--;
	p->writer = w;
	if (w)
		w->nr_pages++;
}

void page_quarantine(struct page *p, struct writer *w)
{
	assert(p->state == PAGE_OPEN && p->holds == 0);
	page_set_client(p, NULL);
	page_set_state(p, PAGE_QUARANTINED);
	page_set_writer(p, w);
	list_move_tail(&w->pages, &p->link);
}

void page_reopen(struct page *p, struct mem_client *c)
{
	assert(p->state == PAGE_OPEN || p->state == PAGE_QUARANTINED);
	if (p->client)
		hold_drop(p->client, p, 1);
	assert(p->holds == 0);
	if (p->state == PAGE_QUARANTINED)
		page_set_state(p, PAGE_OPEN);
	list_del(&p->link);
	page_set_writer(p, NULL);
	page_set_client(p, c);
	hold_add(c, p, 1);
	page_write(p, PAGE_OPEN, NULL); /* it may be of another series */
}

/* FREE in everything but the table and the index. */
static void page_let_go(struct page *p)
{
	struct mem *m = p->space->m;

	page_set_client(p, NULL);
	page_set_state(p, PAGE_FREE);
	charge_fini(&p->charge);
	slab_put(p->slab, p->cell);
	p->slab = NULL;
	page_set_writer(p, NULL);
	p->block = 0;
	p->depth = 0;
	list_del(&p->link);
	list_add(&m->free_pages, &p->link);
	m->nr_free++;
}

/* As page_replace(), of a page that nobody holds. */
void page_move(struct page *p, struct page *from)
{
	struct mem_space *s = p->space;
	uint32_t block = from->block;

	assert(p->state == PAGE_OPEN && p->demoting && !p->block);
	assert(from->state == PAGE_CACHED && from->class == p->class);
	page_inherit(p, from);
	page_set_state(p, PAGE_SEALED);
	page_set_state(p, PAGE_CACHED);
	p->copy = from->copy;
	p->saved = from->saved == SAVED ? SAVED : SAVED_NOT;
	p->demotes_not = from->demotes_not;
	p->awaited = from->awaited;
	list_add(&from->link, &p->link);
	page_write(p, PAGE_SEALED, &s->m->table.prefixes[page_nr(from)]);
	from->block = 0;
	page_write(from, PAGE_FREE, NULL);
	page_let_go(from);
	page_index(s, block, p->class, page_handle(p));
}

/* @block has no page of @class any more. */
static void page_unindex(struct mem_space *s, uint32_t block, uint32_t class)
{
	struct name name;

	if (!s->watch) {
		page_index(s, block, class, 0);
		return;
	}
	name = index_block(&s->index, block)->name;
	page_index(s, block, class, 0);
	watch_taken(s, block, &name);
}

void page_free(struct page *p)
{
	struct mem_space *s = p->space;
	uint32_t block = p->block;

	assert(p->state != PAGE_FREE && p->holds == 0);
	if (p->state == PAGE_CACHED)
		page_unlist_cached(p, false);
	p->block = 0;
	p->depth = 0;
	page_write(p, PAGE_FREE, NULL);
	page_let_go(p);
	if (block)
		page_unindex(s, block, p->class);
	s->m->freed = true;
}

void page_forget(struct page *p)
{
	assert(p->state != PAGE_FREE);
	if (p->state == PAGE_CACHED)
		page_unlist_cached(p, false);
	p->holds = 0;
	p->pinned = false;
	page_let_go(p);
}

/* ---- restoring ---- */

/* Numbers are restored in order; those between were never written. */
static struct page *page_restore_number(struct mem *m, uint32_t nr)
{
	struct page *p = &m->pages[nr];

	assert(nr == m->nr_touched + 1);
	m->nr_touched = nr;
	list_init(&p->link);
	p->generation = table_get(&m->table, nr)->generation;
	return p;
}

void page_restore_free(struct mem *m, uint32_t nr)
{
	struct page *p = page_restore_number(m, nr);

	list_add_tail(&m->free_pages, &p->link);
}

struct page *page_restore(struct mem *m, uint32_t nr, struct mem_space *s,
			  struct slab *slab, uint32_t cell, struct writer *w)
{
	const struct identity *id = table_get(&m->table, nr);
	struct page *p = page_restore_number(m, nr);

	m->nr_free--;
	p->space = s;
	p->class = id->class;
	p->slab = slab;
	p->cell = cell;
	charge_init(&p->charge, s->tenant, page_bytes(p));
	page_set_state(p, w ? PAGE_OPEN : PAGE_SEALED);
	page_set_writer(p, w);
	list_add_tail(w ? &w->pages : &m->unclaimed, &p->link);
	return p;
}

void page_restore_name(struct page *p, uint32_t block)
{
	p->block = block;
	p->depth = table_get(&p->space->m->table, page_nr(p))->depth;
	page_index(p->space, block, p->class, page_handle(p));
}
