/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vacate.c - a slab is emptied for its granules, and what is warm moves.
 */
#include "daemon/mem/vacate.h"

#include <stdlib.h>
#include "daemon/mem/reclaim.h"
#include "daemon/mem/save.h"
#include "daemon/mem/segment.h"

struct vacancy {
	struct dev_job job;
	struct mem *m;
	int err;
	uint32_t page_bytes;
	uint32_t nr;
	struct {
		struct page *to;
		handle_t was;
		struct dev_segment *from_in, *to_in;
		uint64_t from_at, to_at;
	} moves[];
};

/* ---- the copies ---- */

static void vacate_run(struct dev *d, struct dev_job *job)
{
	struct vacancy *v = list_entry(job, struct vacancy, job);

	for (uint32_t i = 0; i < v->nr && v->err == 0; i++)
		v->err = dev_ops(d)->copy(d, v->moves[i].to_in,
					  v->moves[i].to_at,
					  v->moves[i].from_in,
					  v->moves[i].from_at, v->page_bytes);
}

static void vacate_done(struct dev *d, struct dev_job *job)
{
	struct vacancy *v = list_entry(job, struct vacancy, job);
	struct mem *m = v->m;

	(void)d;
	for (uint32_t i = 0; i < v->nr; i++) {
		struct page *from = page_get(m, v->moves[i].was);
		struct page *to = v->moves[i].to;

		to->holds = 0;
		if (v->err == 0 && from && from->state == PAGE_CACHED)
			page_move(to, from);
		else
			page_free(to);
		to->demoting = false;
	}
	free(v);
	m->vacating = false;
	m->freed = true;
	mem_has_work(m);
	mem_tell_room(m);
}

/* ---- what moves, and where to ---- */

/* Is there a place, a number and the right to both for what @slab has? */
static bool vacate_has_room(const struct slab *slab)
{
	const struct size_class *sc = slab->class;
	const struct tenant *t = sc->tenant;
	uint32_t nr = slab->nr_cached;

	return sc->nr_free - slab->nr_free >= nr && t->m->nr_free >= nr &&
	       (!t->max_bytes || t->charged + (uint64_t)nr * sc->page_bytes <=
					 t->max_bytes);
}

static void vacate_add(struct vacancy *v, struct page *from)
{
	struct page *to = page_take_hidden(from->space, from->class);

	v->moves[v->nr].to = to;
	v->moves[v->nr].was = page_handle(from);
	v->moves[v->nr].to_in = &to->slab->segment->dev;
	v->moves[v->nr].to_at = place_offset(page_place(to));
	v->moves[v->nr].from_in = &from->slab->segment->dev;
	v->moves[v->nr++].from_at = place_offset(page_place(from));
}

static bool vacate_start(struct slab *slab)
{
	struct mem *m = slab->segment->m;
	struct vacancy *v;

	v = calloc(1, sizeof(*v) + slab->nr_cached * sizeof(v->moves[0]));
	if (!v)
		return false;
	v->job.run = vacate_run;
	v->job.done = vacate_done;
	v->m = m;
	v->page_bytes = slab->class->page_bytes;
	slab_use_last(slab);
	for (uint32_t i = 0; i < slab->class->nr_cells; i++)
		if (!(slab->cells[i] & SLAB_FREE))
			vacate_add(v, &m->pages[slab->cells[i]]);
	m->vacating = true;
	dev_submit(m->dev, &v->job);
	return true;
}

bool vacate_begin(const struct size_class *sc)
{
	struct page *p = reclaim_coldest_of(sc->tenant, page_is_demoted);
	struct size_class *small = p ? p->slab->class : NULL;
	struct slab *slab;

	if (!p || small == sc)
		return false;
	if (sc->tenant->m->vacating)
		return true;
	size_class_trim(small, 0);
	slab = reclaim_idle_slab(small);
	if (!slab || slab->segment->draining)
		return false;
	if (save_is_due(small, slab->nr_free + slab->nr_cached))
		return true;
	while (!vacate_has_room(slab)) {
		p = reclaim_class_coldest(small);
		if (!p)
			return false;
		page_evict(p);
		if (small->nr_empty)
			return true; /* perhaps it is this one, and gone */
	}
	return vacate_start(slab);
}
