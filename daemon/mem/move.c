/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move.c - cached pages go from a segment that is being emptied to others.
 */
#include "daemon/mem/move.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/reclaim.h"

#define MOVE_PAGES 8u	/* of a job */

struct move {
	struct dev_job job;
	struct mem_client *nobody;
	uint32_t nr;
	struct {
		struct page *from, *to;
	} pages[MOVE_PAGES];
	int err;
};

static struct move *move_of(struct dev_job *job)
{
	return list_entry(job, struct move, job);
}

/* ---- nobody ---- */

/* A process that never was: whatever it has left is free after a restart. */
static struct mem_client *nobody_new(struct tenant *t)
{
	const struct mem_client_id id = { .pid = getpid() };
	struct mem_client *c;

	if (mem_client_new(t->m, &id, t->name, t->key, NULL, &c) < 0)
		return NULL;
	c->leaving = true; /* nothing is asked of it */
	c->end = MEM_END_DEAD;
	return c;
}

/* It holds nothing any more. */
static void nobody_free(struct mem_client *c)
{
	for (uint32_t i = 0; i < c->spaces.nr; i++)
		c->m->spaces[map_entry(&c->spaces, i)->key - 1]->nr_clients--;
	list_del(&c->link);
	map_fini(&c->holds);
	map_fini(&c->spaces);
	free(c->writer);
	free(c);
}

/* ---- the copy ---- */

static int page_copy(struct dev *d, const struct page *to,
		     const struct page *from)
{
	return dev_ops(d)->copy(d, &to->slab->segment->dev,
				place_offset(page_place(to)),
				&from->slab->segment->dev,
				place_offset(page_place(from)),
				page_bytes(from));
}

/* The pages are held: where they are, and of what size, stays as it is. */
static void move_run(struct dev *d, struct dev_job *job)
{
	struct move *mv = move_of(job);

	for (uint32_t i = 0; i < mv->nr && mv->err == 0; i++)
		mv->err = page_copy(d, mv->pages[i].to, mv->pages[i].from);
}

/* ---- afterwards ---- */

static void move_settle(struct move *mv, uint32_t i, struct list *cold)
{
	struct page *from = mv->pages[i].from, *to = mv->pages[i].to;

	if (mv->err == 0 && from->holds == 1) {
		page_replace(from, to);
		mv->nobody->m->nr_moved++;
	}
	hold_drop(mv->nobody, to, 1);
	page_unheld(to, cold);
	hold_drop(mv->nobody, from, 1);
	page_unheld(from, cold);
}

static void move_done(struct dev *d, struct dev_job *job)
{
	struct move *mv = move_of(job);
	struct mem *m = mv->nobody->m;
	struct list cold;

	list_init(&cold);
	for (uint32_t i = 0; i < mv->nr; i++)
		move_settle(mv, i, &cold);
	page_settle(m, &cold);
	m->move = NULL;
	if (mv->err == 0)
		mem_has_work(m);
	nobody_free(mv->nobody);
	free(mv);
	mem_tell_room(m);
}

/* ---- before ---- */

/* Its space stays as long as the page is on its way. */
static bool nobody_opens(struct mem_client *c, struct mem_space *s)
{
	if (map_get(&c->spaces, s->id))
		return true;
	if (map_reserve(&c->spaces, 1) < 0)
		return false;
	*map_take(&c->spaces, s->id) = 1;
	s->nr_clients++;
	return true;
}

/* Is there a cell for one more page of @sc, a number, and room in the limit? */
static int move_room(struct size_class *sc)
{
	const struct tenant *t = sc->tenant;
	int r = 0;

	if (t->m->nr_free == 0 ||
	    (t->max_bytes && t->charged + sc->page_bytes > t->max_bytes))
		return -ENOSPC;
	while (sc->nr_free == 0 && r == 0)
		r = slab_new(sc);
	return r;
}

static bool move_add(struct move *mv, struct page *p)
{
	struct mem_client *c = mv->nobody;

	if (map_reserve(&c->holds, 2) < 0 || !nobody_opens(c, p->space))
		return false;
	hold_sealed(c, p, 1);
	mv->pages[mv->nr].from = p;
	mv->pages[mv->nr++].to = page_take(c, p->space, p->class);
	step_look(c->m, STEP_PAGE_LOOKS);
	return true;
}

/* Pages of @slab. Return: false: no more than are there now. */
static bool move_add_slab(struct move *mv, const struct slab *slab)
{
	const struct mem *m = slab->segment->m;

	for (uint32_t i = 0; i < slab->class->nr_cells; i++) {
		struct page *p;

		if (slab->cells[i] & SLAB_FREE)
			continue;
		p = &m->pages[slab->cells[i]];
		if (p->state != PAGE_CACHED)
			continue;
		if (mv->nr == MOVE_PAGES || move_room(slab->class) < 0 ||
		    !move_add(mv, p))
			return false;
	}
	return true;
}

static void move_add_segment(struct move *mv, const struct segment *seg)
{
	for (uint32_t i = 0; i < seg->nr_granules; i++) {
		const struct slab *slab = seg->slabs[i];

		if (slab && slab->first == i && slab->nr_cached &&
		    !move_add_slab(mv, slab))
			return;
	}
}

/* Room is to be had from what the tenant has cached, if from anything. */
static enum move_result move_make_room(struct tenant *t)
{
	bool any = false;

	for (uint32_t i = 0; i < MOVE_PAGES; i++)
		if (reclaim_coldest(t))
			any = true;
		else
			break;
	return any ? MOVE_DONE : MOVE_STUCK;
}

enum move_result move_some(struct segment *seg)
{
	struct mem *m = seg->m;
	struct move *mv;

	if (seg->nr_cached == 0)
		return MOVE_NONE;
	mv = calloc(1, sizeof(*mv));
	if (!mv)
		return MOVE_STUCK;
	mv->nobody = nobody_new(seg->tenant);
	if (!mv->nobody) {
		free(mv);
		return MOVE_STUCK;
	}
	move_add_segment(mv, seg);
	if (mv->nr) {
		mv->job.run = move_run;
		mv->job.done = move_done;
		m->move = mv;
		dev_submit(m->dev, &mv->job);
		return MOVE_DONE;
	}
	nobody_free(mv->nobody);
	free(mv);
	return move_make_room(seg->tenant);
}
