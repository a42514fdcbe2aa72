/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - walk the whole structure and count everything again.
 *
 * Pages first: each against its state, its slab, its block, its identity, and
 * into fresh sums. Then what claims to know those sums: tallies, charges,
 * slabs, lists, indexes, clients. What does not add up is described, of each
 * page, list, tenant, space and client the first thing; nothing is changed.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/limits.h"
#include "daemon/mem/pin.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/shrink.h"

#define VERIFY_BYTES 200	/* of what is told of one thing */

struct verify {
	const struct mem *m;
	void (*tell)(void *ctx, const char *what);
	void *ctx;
	uint64_t *holds;	/* [nr_touched + 1], over all clients */
};

__attribute__((format(printf, 2, 3)))
static int broken(struct verify *v, const char *fmt, ...)
{
	char what[VERIFY_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	v->tell(v->ctx, what);
	return -EUCLEAN;
}

static uint64_t list_length(const struct list *l)
{
	uint64_t n = 0;

	list_for_each(pos, l)
		n++;
	return n;
}

/* ---- one page ---- */

/* The table's words for a state. */
static uint8_t durable_state(uint8_t state)
{
	switch (state) {
	case PAGE_CACHED:
		return PAGE_SEALED;
	case PAGE_QUARANTINED:
		return PAGE_OPEN;
	default:
		return state;
	}
}

static int verify_identity(struct verify *v, const struct page *p, uint32_t nr)
{
	const struct identity *id = table_get(&v->m->table, nr);

	if (p->demoting && p->state == PAGE_OPEN) /* nobody's before it is full */
		return id->state != PAGE_FREE || id->named ?
			       broken(v, "page %u: not whole and not free in "
				      "the table", nr) : 0;
	if (id->generation != p->generation ||
	    id->state != durable_state(p->state))
		return broken(v, "page %u: identity is of generation %u, "
			      "state %u; the page of %u, %u", nr,
			      id->generation, id->state, p->generation,
			      p->state);
	if (p->state == PAGE_FREE)
		return id->named ? broken(v, "page %u: free and named", nr) : 0;
	if (id->space != p->space->id || id->class != p->class ||
	    id->place != page_place(p) || id->page_bytes != page_bytes(p) ||
	    id->slab_slot != p->slab->first || id->named != (p->block != 0))
		return broken(v, "page %u: identity is another page's", nr);
	if (p->client && (id->pid != (uint32_t)p->client->id.pid ||
			  id->start_time != p->client->id.start_time ||
			  id->series != p->client->id.series))
		return broken(v, "page %u: identity has another owner", nr);
	return 0;
}

/* Who may refer to a page in its state, and how often. */
static bool holds_fit(const struct verify *v, const struct page *p)
{
	switch (p->state) {
	case PAGE_OPEN:
		if (p->demoting)
			return !p->client && !p->writer && p->holds == 1 &&
			       !p->block;
		return p->client ? p->holds == 1 && !p->writer &&
					   hold_count(p->client, p) == 1 :
				   p->holds == 0 && p->writer;
	case PAGE_SEALED:
		return !p->client && !p->writer &&
		       (p->holds ||
			(!p->block && !list_empty(&v->m->unclaimed)));
	case PAGE_CACHED:
		return !p->client && !p->writer && p->holds == 0 && p->block;
	case PAGE_QUARANTINED:
		return !p->client && p->writer && p->holds == 0 && !p->block;
	default:
		return false;
	}
}

static int verify_block_of(struct verify *v, const struct page *p, uint32_t nr)
{
	const struct index *ix = &p->space->index;

	if (!p->block)
		return 0;
	if (p->block > ix->nr_touched ||
	    index_page(ix, p->block, p->class) != page_handle(p))
		return broken(v, "page %u: block %u does not name it", nr,
			      p->block);
	if (index_find(ix, &v->m->table.prefixes[nr].name) != p->block)
		return broken(v, "page %u: its name does not find block %u",
			      nr, p->block);
	return 0;
}

static int verify_page(struct verify *v, const struct page *p, uint32_t nr)
{
	int r = verify_identity(v, p, nr);

	if (r < 0 || p->state == PAGE_FREE)
		return r;
	if (p->generation == 0 ||
	    p->holds != v->holds[nr] + p->pinned + p->demoting)
		return broken(v, "page %u: %llu holds, its clients have %llu",
			      nr, (unsigned long long)p->holds,
			      (unsigned long long)v->holds[nr]);
	if (!holds_fit(v, p))
		return broken(v, "page %u: %llu holds do not fit state %u", nr,
			      (unsigned long long)p->holds, p->state);
	if (p->slab->cells[p->cell] != nr)
		return broken(v, "page %u: its cell has another page", nr);
	if (p->slab->class != p->space->sizes[p->class])
		return broken(v, "page %u: its slab is of another size", nr);
	if (p->charge.tenant != p->space->tenant ||
	    p->charge.bytes != page_bytes(p))
		return broken(v, "page %u: charged to another", nr);
	return verify_block_of(v, p, nr);
}

/* ---- sums over pages ---- */

/* Does @p count in the tally of @t (NULL: any) and @s (NULL: any)? */
static bool page_counts(const struct page *p, const struct tenant *t,
			const struct mem_space *s)
{
	return p->state != PAGE_FREE && (!t || p->space->tenant == t) &&
	       (!s || p->space == s);
}

static int verify_tally(struct verify *v, const struct tally *have,
			const struct tenant *t, const struct mem_space *s,
			const char *whose)
{
	struct tally sum = { { 0 }, { 0 } };

	for (uint32_t nr = 1; nr <= v->m->nr_touched; nr++) {
		const struct page *p = &v->m->pages[nr];

		if (page_counts(p, t, s))
			tally_add(&sum, p->state, 1, page_bytes(p));
	}
	/* FREE pages are cells of slabs: see verify_class(). */
	sum.pages[PAGE_FREE] = have->pages[PAGE_FREE];
	sum.bytes[PAGE_FREE] = have->bytes[PAGE_FREE];
	sum.bytes[PAGE_REVOKED] = have->bytes[PAGE_REVOKED];
	if (memcmp(&sum, have, sizeof(sum)) != 0)
		return broken(v, "the tally of %s is not the sum of its pages",
			      whose);
	return 0;
}

static int verify_free_numbers(struct verify *v)
{
	const struct mem *m = v->m;
	uint64_t listed = list_length(&m->free_pages), nr_free = 0;

	for (uint32_t nr = 1; nr <= m->nr_touched; nr++)
		nr_free += m->pages[nr].state == PAGE_FREE;
	if (listed != nr_free ||
	    m->nr_free != nr_free + m->table.h->nr_entries - m->nr_touched ||
	    m->table.h->nr_used < m->nr_touched)
		return broken(v, "%u page numbers are free, %llu listed, "
			      "%llu found", m->nr_free,
			      (unsigned long long)listed,
			      (unsigned long long)nr_free);
	return 0;
}

/* ---- slabs and segments ---- */

static int verify_cells(struct verify *v, const struct slab *slab)
{
	uint32_t nr_free = 0, nr_cached = 0, chain = 0;

	for (uint32_t i = 0; i < slab->class->nr_cells; i++) {
		const struct page *p;

		if (slab->cells[i] & SLAB_FREE) {
			nr_free++;
			continue;
		}
		p = &v->m->pages[slab->cells[i]];
		if (slab->cells[i] > v->m->nr_touched || p->slab != slab ||
		    p->cell != i)
			return broken(v, "a cell has page %u, which is not "
				      "there", slab->cells[i]);
		nr_cached += p->state == PAGE_CACHED;
	}
	for (uint32_t i = slab->first_free; i != SLAB_END && chain <= nr_free;
	     i = slab->cells[i] & ~SLAB_FREE)
		chain++;
	if (nr_free != slab->nr_free || nr_cached != slab->nr_cached ||
	    chain != nr_free)
		return broken(v, "a slab of segment %u has %u cells free, %u "
			      "counted, %u chained", slab->segment->id,
			      nr_free, slab->nr_free, chain);
	return 0;
}

static int verify_segment(struct verify *v, const struct segment *seg)
{
	uint32_t nr_free = 0, nr_pages = 0, nr_cached = 0;

	for (uint32_t i = 0; i < seg->nr_granules; i++) {
		const struct slab *slab = seg->slabs[i];
		int r;

		if (!slab) {
			nr_free++;
			continue;
		}
		if (slab->segment != seg || i < slab->first ||
		    i - slab->first >= slab->class->nr_granules)
			return broken(v, "segment %u: granule %u has another's "
				      "slab", seg->id, i);
		if (slab->first != i)
			continue;
		r = verify_cells(v, slab);
		if (r < 0)
			return r;
		nr_pages += slab->class->nr_cells - slab->nr_free;
		nr_cached += slab->nr_cached;
	}
	if (nr_free != seg->nr_free || nr_pages != seg->nr_pages ||
	    nr_cached != seg->nr_cached)
		return broken(v, "segment %u: counts %u granules free, %u "
			      "pages, %u cached; has %u, %u, %u", seg->id,
			      seg->nr_free, seg->nr_pages, seg->nr_cached,
			      nr_free, nr_pages, nr_cached);
	if (segment_find(v->m, seg->id) != seg)
		return broken(v, "segment %u is not found", seg->id);
	return 0;
}

/* Slabs of the class with @nr free cells at least and fewer than @below. */
static void count_slabs(const struct size_class *sc, uint32_t below,
			uint64_t *ret_partial, uint64_t *ret_empty,
			uint64_t *ret_free)
{
	*ret_partial = *ret_empty = *ret_free = 0;
	list_for_each(pos, &sc->tenant->segments) {
		const struct segment *seg;

		seg = list_entry(pos, struct segment, link);
		for (uint32_t i = 0; i < seg->nr_granules; i++) {
			const struct slab *slab = seg->slabs[i];

			if (seg->draining || !slab || slab->class != sc || slab->first != i)
				continue;
			*ret_free += slab->nr_free;
			*ret_empty += slab->nr_free == below;
			*ret_partial += slab->nr_free && slab->nr_free < below;
		}
	}
}

/* One list of CACHED pages. */
struct listed {
	struct verify *v;
	const struct size_class *class;
	bool copies;
	int priority;
	uint64_t nr;
	int err;
};

static bool verify_listed(struct page *p, void *listed)
{
	struct listed *l = listed;

	l->nr++;
	if (p->state != PAGE_CACHED || p->slab->class != l->class)
		l->err = broken(l->v, "page %u is listed as cached and is not",
				page_nr(p));
	else if (p->copy != l->copies || page_is_copy(p) != l->copies)
		l->err = broken(l->v, "page %u is listed as %s exact copy",
				page_nr(p), l->copies ? "an" : "no");
	else if (!p->copy && (p->priority != l->priority ||
			      p->priority !=
				      p->space->index.links[p->block].priority))
		l->err = broken(l->v, "page %u is on the shelf of another "
				"priority", page_nr(p));
	return l->err == 0 && l->nr <= l->class->nr_cached;
}

static int verify_cached(struct verify *v, const struct size_class *sc)
{
	struct listed l = { .v = v, .class = sc, .copies = true };

	list_for_each(pos, &sc->copies)
		if (!verify_listed(list_entry(pos, struct page, link), &l))
			break;
	l.copies = false;
	for (int i = MEM_LOW; i <= MEM_HIGH; i++) {
		l.priority = i;
		if (l.err == 0 && size_class_shelf(sc, i))
			v->m->policy->walk(size_class_shelf(sc, i),
					   verify_listed, &l);
	}
	if (l.err == 0 && l.nr != sc->nr_cached)
		return broken(v, "size %u lists not its %llu cached pages",
			      sc->page_bytes,
			      (unsigned long long)sc->nr_cached);
	return l.err;
}

static int verify_class(struct verify *v, const struct size_class *sc)
{
	uint64_t partial, empty, nr_free;

	count_slabs(sc, sc->nr_cells, &partial, &empty, &nr_free);
	if (partial != list_length(&sc->partial) ||
	    empty != list_length(&sc->empty) || empty != sc->nr_empty ||
	    nr_free != sc->nr_free)
		return broken(v, "size %u: slabs or free cells are miscounted",
			      sc->page_bytes);
	return verify_cached(v, sc);
}

/* ---- indexes ---- */

/* Do its neighbours in the list of its siblings point at block @nr? */
static bool block_is_linked(const struct index *ix, uint32_t nr)
{
	const struct index_link *link = &ix->links[nr];
	uint32_t up = index_parent(ix, nr), next = index_block(ix, nr)->sibling;

	if (up && !name_equal(&index_block(ix, up)->name,
			      &index_block(ix, nr)->parent))
		return false;
	if (next && ix->links[next].before != nr)
		return false;
	if (link->before)
		return index_block(ix, link->before)->sibling == nr;
	return !up || index_block(ix, up)->child == nr;
}

static int verify_block(struct verify *v, const struct mem_space *s,
			uint32_t nr)
{
	const struct shm_block *b = index_block(&s->index, nr);
	uint32_t up;

	for (uint32_t c = 0; c < s->nr_classes; c++) {
		handle_t h = index_page(&s->index, nr, c);
		const struct page *p = page_get(v->m, h);

		if (h && (!p || p->block != nr || p->space != s ||
			  p->class != c))
			return broken(v, "space %u: block %u has a page that "
				      "is not its own", s->id, nr);
	}
	if (b->seq % 2 || index_find(&s->index, &b->name) != nr)
		return broken(v, "space %u: block %u is not found", s->id, nr);
	up = index_parent(&s->index, nr);
	if (up && s->index.links[up].priority < s->index.links[nr].priority)
		return broken(v, "space %u: block %u has a higher priority "
			      "than its parent", s->id, nr);
	if (!block_is_linked(&s->index, nr))
		return broken(v, "space %u: block %u is not among its siblings",
			      s->id, nr);
	return 0;
}

static bool block_is_used(const struct mem_space *s, uint32_t nr)
{
	for (uint32_t c = 0; c < s->nr_classes; c++)
		if (index_page(&s->index, nr, c))
			return true;
	return false;
}

static int verify_index(struct verify *v, const struct mem_space *s)
{
	const struct index *ix = &s->index;
	uint64_t used = 0, unused = 0;

	for (uint32_t nr = 1; nr <= ix->nr_touched; nr++) {
		int r;

		if (!block_is_used(s, nr))
			continue;
		used++;
		r = verify_block(v, s, nr);
		if (r < 0)
			return r;
	}
	for (uint32_t nr = ix->first_free; nr && unused <= ix->nr_touched;
	     nr = ix->links[nr].next_free)
		unused++;
	if (used != ix->shm->nr_used || used + unused != ix->nr_touched)
		return broken(v, "space %u: %llu blocks in use, %llu counted, "
			      "%llu not in use", s->id,
			      (unsigned long long)used,
			      (unsigned long long)ix->shm->nr_used,
			      (unsigned long long)unused);
	return 0;
}

static int verify_space(struct verify *v, const struct mem_space *s)
{
	uint64_t clients = 0;
	int r = verify_tally(v, &s->tally, NULL, s, "a space");

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < PAGE_NR_STATES; i++) {
		uint64_t sum = 0;

		for (uint32_t c = 0; c < s->nr_classes; c++)
			sum += s->class_pages[c][i];
		if (sum != s->tally.pages[i])
			return broken(v, "space %u: its classes do not sum up",
				      s->id);
	}
	list_for_each(pos, &s->tenant->clients)
		clients += map_get(&list_entry(pos, struct mem_client,
					       link)->spaces, s->id) != NULL;
	if (clients != s->nr_clients)
		return broken(v, "space %u: %u clients counted, %llu found",
			      s->id, s->nr_clients,
			      (unsigned long long)clients);
	return verify_index(v, s);
}

/* ---- tenants and clients ---- */

/* Adds the client's holds up; checks its own sums. */
static int verify_client(struct verify *v, const struct mem_client *c)
{
	uint64_t bytes = 0, nr_open = 0;

	for (uint32_t i = 0; i < c->holds.nr; i++) {
		const struct map_entry *e = map_entry(&c->holds, i);
		const struct page *p = &v->m->pages[e->key];

		if (e->key > v->m->nr_touched || p->state == PAGE_FREE ||
		    e->value == 0 || p->space->tenant != c->tenant)
			return broken(v, "a client holds page %llu, which is "
				      "not there", (unsigned long long)e->key);
		v->holds[e->key] += e->value;
		bytes += page_bytes(p);
		nr_open += p->state == PAGE_OPEN;
	}
	if (bytes != c->bytes || nr_open != c->nr_open)
		return broken(v, "a client counts %llu open pages and has "
			      "%llu", (unsigned long long)c->nr_open,
			      (unsigned long long)nr_open);
	return 0;
}

/* The first failure of many that are all looked at. */
static int first(int r, int next)
{
	return r < 0 ? r : next;
}

static int verify_holds(struct verify *v)
{
	int r = 0;

	list_for_each(i, &v->m->tenants) {
		const struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->clients)
			r = first(r, verify_client(v, list_entry(
						j, struct mem_client, link)));
	}
	return r;
}

static int verify_tenant(struct verify *v, const struct tenant *t)
{
	uint64_t bytes = 0, free_cells = 0, granules = 0;
	int r = verify_tally(v, &t->tally, t, NULL, "a tenant");

	list_for_each(pos, &t->segments) {
		const struct segment *seg;

		seg = list_entry(pos, struct segment, link);
		bytes += seg->bytes;
		granules += seg->draining ? 0 : seg->nr_free;
		free_cells += shrink_cells(seg);
		if (r == 0)
			r = verify_segment(v, seg);
	}
	list_for_each(pos, &t->classes) {
		const struct size_class *sc;

		sc = list_entry(pos, struct size_class, link);
		free_cells += sc->nr_free;
		if (r == 0)
			r = verify_class(v, sc);
	}
	if (r < 0)
		return r;
	if (free_cells != t->tally.pages[PAGE_FREE] ||
	    granules != t->nr_granules)
		return broken(v, "tenant %s: free cells are miscounted",
			      t->name);
	if (t->making ? bytes >= t->segment_bytes : bytes != t->segment_bytes)
		return broken(v, "tenant %s: segments are miscounted", t->name);
	for (int i = 0; i < PAGE_NR_STATES; i++)
		bytes = i ? bytes + t->tally.bytes[i] : 0;
	if (bytes != t->charged)
		return broken(v, "tenant %s: %llu bytes charged, has %llu",
			      t->name, (unsigned long long)t->charged,
			      (unsigned long long)bytes);
	return 0;
}

/* The copy a tenant has of its name's limits, and its charge against them. */
static int verify_limits_of(struct verify *v, const struct tenant *t)
{
	struct mem_limits l = limits_get(v->m, t->name);

	if (t->min_bytes != l.min_bytes || t->high_bytes != l.high_bytes ||
	    t->max_bytes != l.max_bytes)
		return broken(v, "tenant %s: its limits are another's",
			      t->name);
	if (t->max_bytes && (t->charged > t->max_bytes) != t->lowered)
		return broken(v, "tenant %s: %llu bytes charged, its max is "
			      "%llu and was %slowered", t->name,
			      (unsigned long long)t->charged,
			      (unsigned long long)t->max_bytes,
			      t->lowered ? "" : "not ");
	return 0;
}

static int verify_limits(struct verify *v)
{
	const struct mem *m = v->m;
	uint64_t sum = 0;
	int r = 0;

	list_for_each(pos, &m->limits)
		sum += list_entry(pos, struct limits, link)->of.min_bytes;
	if (sum != m->min_total || sum > m->pool_bytes)
		return broken(v, "%llu bytes are promised to tenants, %llu "
			      "counted", (unsigned long long)sum,
			      (unsigned long long)m->min_total);
	list_for_each(pos, &m->tenants)
		r = first(r, verify_limits_of(v, list_entry(pos, struct tenant,
							    link)));
	return r;
}

static int verify_writers(struct verify *v)
{
	uint64_t listed = 0, waiting = 0;

	list_for_each(i, &v->m->writers) {
		const struct writer *w = list_entry(i, struct writer, link);
		uint64_t nr = 0;

		list_for_each(j, &w->pages) {
			if (list_entry(j, struct page, link)->writer != w)
				return broken(v, "a page waits for another");
			nr++;
		}
		if (nr != w->nr_pages)
			return broken(v, "%llu pages wait for a writer that "
				      "counts %llu", (unsigned long long)nr,
				      (unsigned long long)w->nr_pages);
		listed += nr;
	}
	for (uint32_t nr = 1; nr <= v->m->nr_touched; nr++)
		waiting += v->m->pages[nr].writer != NULL;
	if (listed != waiting)
		return broken(v, "%llu pages wait for a writer, %llu listed",
			      (unsigned long long)waiting,
			      (unsigned long long)listed);
	return 0;
}

static int verify_pool(struct verify *v)
{
	const struct mem *m = v->m;
	uint64_t cells = 0, bytes = 0;
	int r = 0;

	list_for_each(pos, &m->tenants) {
		const struct tenant *t = list_entry(pos, struct tenant, link);

		r = first(r, verify_tenant(v, t));
		cells += t->tally.pages[PAGE_FREE];
		bytes += t->segment_bytes;
	}
	if (cells != m->tally.pages[PAGE_FREE])
		return broken(v, "the pool's free cells are miscounted");
	if (bytes > m->segment_total || m->segment_total > shrink_most(m) ||
	    (bytes != m->segment_total && !m->nr_leaving))
		return broken(v, "segments of %llu bytes in a pool of %llu",
			      (unsigned long long)m->segment_total,
			      (unsigned long long)m->pool_bytes);
	return first(r, verify_tally(v, &m->tally, NULL, NULL, "the pool"));
}

static int verify_pins(struct verify *v)
{
	const char *why = pins_verify(v->m);

	why = why ? why : shrink_verify(v->m);
	return why ? broken(v, "%s", why) : 0;
}

static int verify_all(struct verify *v)
{
	const struct mem *m = v->m;
	int r = verify_holds(v);

	for (uint32_t nr = 1; nr <= m->nr_touched; nr++)
		r = first(r, verify_page(v, &m->pages[nr], nr));
	r = first(r, verify_free_numbers(v));
	r = first(r, verify_writers(v));
	r = first(r, verify_limits(v));
	r = first(r, verify_pins(v));
	r = first(r, verify_pool(v));
	for (struct mem_space *s = mem_space_next(m, NULL); s;
	     s = mem_space_next(m, s))
		r = first(r, verify_space(v, s));
	return r;
}

int mem_verify_all(const struct mem *m,
		   void (*tell)(void *ctx, const char *what), void *ctx)
{
	struct verify v = { .m = m, .tell = tell, .ctx = ctx };
	int r;

	v.holds = calloc((size_t)m->nr_touched + 1, sizeof(*v.holds));
	if (!v.holds)
		return -ENOMEM;
	r = verify_all(&v);
	free(v.holds);
	return r;
}

struct why {
	char *text;
	size_t bytes;
	bool told;
};

static void tell_first(void *ctx, const char *what)
{
	struct why *why = ctx;

	if (!why->told)
		snprintf(why->text, why->bytes, "%s", what);
	why->told = true;
}

int mem_verify(const struct mem *m, char *why, size_t why_bytes)
{
	struct why first_told = { why, why_bytes, false };

	return mem_verify_all(m, tell_first, &first_told);
}
