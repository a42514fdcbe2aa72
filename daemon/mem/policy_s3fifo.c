/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_s3fifo.c - S3-FIFO (Yang et al., SOSP 2023): a small queue for what
 * is new, a main one for what has proved itself, and the names of what left
 * the small one.
 *
 * A page that is used leaves its queue until it is CACHED again, and then goes
 * to the end of the same: here use moves a page, which the paper's queues have
 * not. Unlike there, a page is never given up while in use.
 */
#include <stdlib.h>
#include "daemon/mem/ghost.h"
#include "daemon/mem/page.h"
#include "daemon/mem/policy.h"

#define S3_MAX_FREQ 3
#define S3_SMALL    10 /* the small queue is one such part of all */
#define S3_MOVES    64 /* from queue to queue, before any page will do */

enum { S3_IN_SMALL, S3_IN_MAIN };

struct shelf {
	struct list small, main;
	uint64_t nr_small, nr;
	uint64_t max_small;
	uint64_t max_age;	/* of a name, in pages taken */
	struct ghosts *ghosts;
	uint64_t salt;		/* of its names there */
};

static struct shelf *s3_new(uint64_t nr_pages, uint64_t nr_kept,
			    struct ghosts *ghosts)
{
	struct shelf *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_init(&s->small);
	list_init(&s->main);
	s->max_small = nr_pages / S3_SMALL;
	s->max_age = nr_pages;
	s->ghosts = ghosts;
	s->salt = ghosts_salt(ghosts);
	return s;
}

static void s3_free(struct shelf *s)
{
	free(s);
}

static void s3_put(struct shelf *s, struct page *p)
{
	list_add_tail(p->queue == S3_IN_MAIN ? &s->main : &s->small, &p->link);
	s->nr_small += p->queue == S3_IN_SMALL;
	s->nr++;
}

static void s3_take(struct shelf *s, struct page *p, bool used)
{
	list_del(&p->link);
	s->nr_small -= p->queue == S3_IN_SMALL;
	s->nr--;
	if (p->demoting)
		return;
	s = page_home(p);
	if (used)
		p->freq += p->freq < S3_MAX_FREQ && !p->awaited;
	else if (p->queue == S3_IN_SMALL)
		ghost_add(s->ghosts, name_hash(page_name(p)) ^ s->salt,
			  p->space->m->tick, 0, p->space->m->tick);
}

static void s3_named(struct shelf *s, struct page *p)
{
	uint32_t kind;
	uint64_t age;

	p->freq = 0;
	p->queue = S3_IN_SMALL;
	s = page_home(p);
	if (ghost_take(s->ghosts, name_hash(page_name(p)) ^ s->salt,
		       p->space->m->tick, &age, &kind) && age <= s->max_age)
		p->queue = S3_IN_MAIN;
}

static void s3_move_to_main(struct shelf *s, struct page *p)
{
	s->nr_small -= p->queue == S3_IN_SMALL;
	p->queue = S3_IN_MAIN;
	list_move_tail(&s->main, &p->link);
}

static struct page *s3_next(struct shelf *s)
{
	for (int moves = 0; s->nr; moves++) {
		bool small = s->nr_small > s->max_small || list_empty(&s->main);
		struct list *queue = small ? &s->small : &s->main;
		struct page *p = list_first(queue, struct page, link);

		if (moves == S3_MOVES || p->freq <= small)
			return p;
		if (small)
			p->freq = 0;
		else
			p->freq--;
		s3_move_to_main(s, p);
	}
	return NULL;
}

static uint64_t s3_worth(struct shelf *s, const struct page *p, uint64_t now)
{
	(void)s;
	(void)now;
	return p->stamp;
}

static bool s3_walk_queue(struct list *queue,
			  bool (*look)(struct page *p, void *ctx), void *ctx)
{
	list_for_each(pos, queue)
		if (!look(list_entry(pos, struct page, link), ctx))
			return false;
	return true;
}

static void s3_walk(struct shelf *s, bool (*look)(struct page *p, void *ctx),
		    void *ctx)
{
	if (s3_walk_queue(&s->small, look, ctx))
		s3_walk_queue(&s->main, look, ctx);
}

const struct policy policy_s3fifo = {
	.name = "s3fifo",
	.shelf_new = s3_new,
	.shelf_free = s3_free,
	.put = s3_put,
	.take = s3_take,
	.named = s3_named,
	.next = s3_next,
	.worth = s3_worth,
	.walk = s3_walk,
};
