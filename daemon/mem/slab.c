/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.c - segments cut into pages of one size.
 */
#include "daemon/mem/slab.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "daemon/mem/ghost.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/tenant.h"

/* ---- size classes ---- */

/* Granules of a slab: the first with waste <= 1/16, else the least waste. */
static uint32_t slab_granules(uint32_t page_bytes, uint64_t segment_bytes)
{
	uint32_t max = (uint32_t)(segment_bytes / DEV_GRANULE);
	uint32_t k = (page_bytes + DEV_GRANULE - 1) / DEV_GRANULE;
	uint32_t best = k;
	double least = 1;

	for (; k <= max; k++) {
		uint64_t bytes = (uint64_t)k * DEV_GRANULE;
		uint64_t waste = bytes % page_bytes;

		if (waste * 16 <= bytes)
			return k;
		if ((double)waste / (double)bytes < least) {
			least = (double)waste / (double)bytes;
			best = k;
		}
	}
	return best;
}

int size_class_make_shelf(struct size_class *sc, int priority)
{
	const struct mem *m = sc->tenant->m;
	struct shelf **shelf = &sc->shelves[priority - MEM_LOW];

	if (!*shelf)
		*shelf = m->policy->shelf_new(m->pool_max / sc->page_bytes,
					      m->kept_max / sc->page_bytes,
					      sc->ghosts);
	return *shelf ? 0 : -ENOMEM;
}

/* As many as the pool could have, by its bytes and by its page numbers, and the
 * tiers. */
static struct ghosts *size_class_ghosts(struct mem *m, uint32_t page_bytes)
{
	uint64_t nr = m->pool_max / page_bytes;

	if (nr > m->table.h->nr_entries)
		nr = m->table.h->nr_entries;
	nr += (m->kept_max - m->pool_max) / page_bytes;
	return ghosts_get(&m->ghosts, page_bytes, nr * POLICY_GHOSTS);
}

static struct size_class *size_class_new(struct tenant *t, uint32_t page_bytes)
{
	struct size_class *sc = calloc(1, sizeof(*sc));
	struct mem *m = t->m;

	if (!sc)
		return NULL;
	sc->tenant = t;
	sc->page_bytes = page_bytes;
	sc->ghosts = size_class_ghosts(m, page_bytes);
	if (!sc->ghosts || size_class_make_shelf(sc, MEM_NORMAL) < 0) {
		if (sc->ghosts)
			ghosts_put(sc->ghosts);
		free(sc);
		return NULL;
	}
	sc->nr_granules = slab_granules(page_bytes, m->segment_bytes);
	sc->nr_cells = (uint32_t)((uint64_t)sc->nr_granules * DEV_GRANULE /
				  page_bytes);
	list_init(&sc->partial);
	list_init(&sc->empty);
	list_init(&sc->copies);
	list_add_tail(&t->classes, &sc->link);
	return sc;
}

struct size_class *size_class_get(struct tenant *t, uint32_t page_bytes)
{
	struct size_class *sc = NULL;

	list_for_each(pos, &t->classes) {
		sc = list_entry(pos, struct size_class, link);
		if (sc->page_bytes == page_bytes)
			break;
		sc = NULL;
	}
	if (!sc)
		sc = size_class_new(t, page_bytes);
	if (sc)
		sc->refs++;
	return sc;
}

void size_class_put(struct size_class *sc)
{
	assert(sc->refs > 0);
	if (--sc->refs)
		return;
	size_class_trim(sc, 0);
	assert(sc->nr_slabs == 0 && sc->nr_cached == 0);
	list_del(&sc->link);
	for (int i = 0; i < MEM_NR_PRIORITIES; i++)
		if (sc->shelves[i])
			sc->tenant->m->policy->shelf_free(sc->shelves[i]);
	ghosts_put(sc->ghosts);
	free(sc);
}

void size_class_trim(struct size_class *sc, uint32_t keep)
{
	while (sc->nr_empty > keep)
		slab_free(list_first(&sc->empty, struct slab, link));
}

void tenant_trim(struct tenant *t, const struct size_class *but)
{
	list_for_each(pos, &t->classes) {
		struct size_class *sc;

		sc = list_entry(pos, struct size_class, link);
		if (sc != but)
			size_class_trim(sc, 0);
	}
}

/* ---- slabs ---- */

static void slab_link(struct slab *slab)
{
	struct size_class *sc = slab->class;

	list_del(&slab->link);
	if (slab->segment->draining)
		return;
	if (slab->nr_free == sc->nr_cells)
		list_add(&sc->empty, &slab->link);
	else if (slab->nr_free)
		list_add(&sc->partial, &slab->link);
}

/* Counts free cells, and moves the slab when its list changes. */
static void slab_count_free(struct slab *slab, int delta)
{
	struct size_class *sc = slab->class;
	uint32_t old = slab->nr_free;

	slab->nr_free = old + (uint32_t)delta;
	if (slab->segment->draining)
		return;
	sc->nr_free += (uint64_t)(int64_t)delta;
	if (old == sc->nr_cells)
		sc->nr_empty--;
	if (slab->nr_free == sc->nr_cells)
		sc->nr_empty++;
	if (old == 0 || old == sc->nr_cells || slab->nr_free == 0 ||
	    slab->nr_free == sc->nr_cells)
		slab_link(slab);
}

int slab_new_at(struct size_class *sc, struct segment *seg, uint32_t first)
{
	struct slab *slab;

	if (first >= seg->nr_granules ||
	    sc->nr_granules > seg->nr_granules - first)
		return -ENOSPC;
	for (uint32_t i = 0; i < sc->nr_granules; i++)
		if (seg->slabs[first + i])
			return -ENOSPC;
	slab = calloc(1, sizeof(*slab) + sc->nr_cells * sizeof(uint32_t));
	if (!slab)
		return -ENOMEM;
	list_init(&slab->link);
	slab->class = sc;
	slab->segment = seg;
	slab->first = first;
	for (uint32_t i = 0; i < sc->nr_cells; i++)
		slab->cells[i] = SLAB_FREE;
	slab_rechain(slab);
	for (uint32_t i = 0; i < sc->nr_granules; i++)
		seg->slabs[first + i] = slab;
	seg->nr_free -= sc->nr_granules;
	sc->tenant->nr_granules -= sc->nr_granules;
	sc->nr_slabs++;
	tally_add(&seg->m->tally, PAGE_FREE, sc->nr_cells, sc->page_bytes);
	tally_add(&sc->tenant->tally, PAGE_FREE, sc->nr_cells, sc->page_bytes);
	slab_count_free(slab, (int)sc->nr_cells);
	return 0;
}

static int slab_cut(struct size_class *sc)
{
	if (sc->tenant->nr_granules < sc->nr_granules)
		return -ENOSPC;
	list_for_each(pos, &sc->tenant->segments) {
		struct segment *seg = list_entry(pos, struct segment, link);
		int first = segment_find_run(seg, sc->nr_granules);

		if (first >= 0 && !seg->draining)
			return slab_new_at(sc, seg, (uint32_t)first);
	}
	return -ENOSPC;
}

int slab_new(struct size_class *sc)
{
	int r = slab_cut(sc);

	if (r != -ENOSPC)
		return r;
	tenant_trim(sc->tenant, sc);
	return slab_cut(sc);
}

void slab_free(struct slab *slab)
{
	struct size_class *sc = slab->class;
	struct segment *seg = slab->segment;

	assert(slab->nr_free == sc->nr_cells);
	list_del(&slab->link);
	sc->nr_slabs--;
	if (!seg->draining) {
		sc->nr_empty--;
		sc->nr_free -= sc->nr_cells;
		sc->tenant->nr_granules += sc->nr_granules;
	}
	tally_sub(&seg->m->tally, PAGE_FREE, sc->nr_cells, sc->page_bytes);
	tally_sub(&sc->tenant->tally, PAGE_FREE, sc->nr_cells, sc->page_bytes);
	for (uint32_t i = 0; i < sc->nr_granules; i++)
		seg->slabs[slab->first + i] = NULL;
	seg->nr_free += sc->nr_granules;
	if (seg->draining && seg->nr_free == seg->nr_granules)
		mem_has_work(seg->m);
	free(slab);
}

void slab_set_aside(struct slab *slab)
{
	struct size_class *sc = slab->class;

	if (slab->nr_free == sc->nr_cells) {
		slab_free(slab);
		return;
	}
	list_del(&slab->link);
	sc->nr_free -= slab->nr_free;
}

void slab_bring_back(struct slab *slab)
{
	slab->class->nr_free += slab->nr_free;
	slab_link(slab);
}

/* ---- cells ---- */

void slab_use_last(struct slab *slab)
{
	if (slab->nr_free && !slab->segment->draining)
		list_move_tail(&slab->class->partial, &slab->link);
}

struct slab *slab_get(struct size_class *sc, uint32_t nr, uint32_t *ret_cell)
{
	struct list *from = list_empty(&sc->partial) ? &sc->empty :
						       &sc->partial;
	struct slab *slab = list_first(from, struct slab, link);
	uint32_t cell;

	assert(!list_empty(from));
	cell = slab->first_free;
	slab->first_free = slab->cells[cell] & ~SLAB_FREE;
	slab->cells[cell] = nr;
	slab_count_free(slab, -1);
	*ret_cell = cell;
	return slab;
}

int slab_get_cell(struct slab *slab, uint32_t cell, uint32_t nr)
{
	if (cell >= slab->class->nr_cells || !(slab->cells[cell] & SLAB_FREE))
		return -EEXIST;
	slab->cells[cell] = nr;
	slab_count_free(slab, -1);
	return 0;
}

void slab_rechain(struct slab *slab)
{
	uint32_t next = SLAB_END;

	for (uint32_t i = slab->class->nr_cells; i-- > 0;) {
		if (!(slab->cells[i] & SLAB_FREE))
			continue;
		slab->cells[i] = SLAB_FREE | next;
		next = i;
	}
	slab->first_free = next;
}

void slab_put(struct slab *slab, uint32_t cell)
{
	assert(!(slab->cells[cell] & SLAB_FREE));
	slab->cells[cell] = SLAB_FREE | slab->first_free;
	slab->first_free = cell;
	slab_count_free(slab, 1);
	if (slab->nr_free == slab->class->nr_cells &&
	    (slab->segment->draining || slab->class->nr_empty > 1))
		slab_free(slab);
}

place_t slab_place(const struct slab *slab, uint32_t cell)
{
	return place_make(slab->segment->id,
			  (uint64_t)slab->first * DEV_GRANULE +
				  (uint64_t)cell * slab->class->page_bytes);
}
