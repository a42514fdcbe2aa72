// SPDX-License-Identifier: Apache-2.0
/*
 * hold.c - the pages this connection holds: handle -> struct hold.
 *
 * A chained hash table; objects come from chunks and go back to a spare list,
 * so that the steady path does not touch malloc.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/hold.h"
#include "client-lib/map.h"
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "client-lib/stock.h"

#define CHUNK_HOLDS 256
#define MIN_BUCKETS 256

struct hold_chunk {
	struct hold_chunk *next;
	struct hold holds[CHUNK_HOLDS];
};

static uint32_t bucket_of(const struct holds *t, handle_t handle)
{
	return (uint32_t)((handle * 0x9e3779b97f4a7c15ULL) >> 32) &
	       (t->nr_buckets - 1);
}

/* Buckets for @room objects at least. */
static int holds_grow(struct holds *t, uint32_t room)
{
	uint32_t nr = t->nr_buckets ? 2 * t->nr_buckets : MIN_BUCKETS;
	struct holds bigger;

	while (nr < room)
		nr *= 2;
	bigger = (struct holds){ .nr_buckets = nr };

	bigger.buckets = calloc(nr, sizeof(*bigger.buckets));
	if (!bigger.buckets)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nr_buckets; i++) {
		while (t->buckets[i]) {
			struct hold *h = t->buckets[i];
			uint32_t b = bucket_of(&bigger, h->handle);

			t->buckets[i] = h->next;
			h->next = bigger.buckets[b];
			bigger.buckets[b] = h;
		}
	}
	free(t->buckets);
	t->buckets = bigger.buckets;
	t->nr_buckets = nr;
	return 0;
}

static int holds_spare(struct holds *t)
{
	struct hold_chunk *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->next = t->chunks;
	t->chunks = c;
	t->nr_spare += CHUNK_HOLDS;
	for (int i = 0; i < CHUNK_HOLDS; i++) {
		c->holds[i].next = t->spare;
		t->spare = &c->holds[i];
	}
	return 0;
}

/* Room for one more object. */
static int holds_ready(struct holds *t)
{
	if (t->nr >= t->nr_buckets && holds_grow(t, t->nr + 1))
		return -ENOMEM;
	return t->spare ? 0 : holds_spare(t);
}

void holds_expect(struct kvd *k, uint32_t nr)
{
	struct holds *t = &k->holds;

	if (t->nr + nr > t->nr_buckets && holds_grow(t, t->nr + nr))
		return;
	while (t->nr_spare < nr && !holds_spare(t))
		;
}

void holds_fini(struct holds *t)
{
	assert(t->nr == 0);
	while (t->chunks) {
		struct hold_chunk *c = t->chunks;

		t->chunks = c->next;
		free(c);
	}
	free(t->buckets);
}

int hold_new(struct kvd_space *sp, handle_t handle, place_t place,
	     uint32_t page_class, struct hold **ret)
{
	struct holds *t = &sp->k->holds;
	uint32_t segment, b;
	struct hold *h;
	int r;

	r = map_place(sp, place, page_class, &segment);
	if (r)
		return r;
	if (holds_ready(t))
		return fail(sp->k, -ENOMEM, "out of memory");
	h = t->spare;
	t->spare = h->next;
	t->nr_spare--;
	b = bucket_of(t, handle);
	*h = (struct hold){
		.handle = handle,
		.offset = place_offset(place),
		.segment = segment,
		.page_class = page_class,
		.refs = 1,
		.space = sp,
		.next = t->buckets[b],
	};
	t->buckets[b] = h;
	t->nr++;
	*ret = h;
	return 0;
}

struct hold *hold_find(struct kvd *k, handle_t handle)
{
	struct holds *t = &k->holds;
	struct hold *h;

	if (!t->nr)
		return NULL;
	for (h = t->buckets[bucket_of(t, handle)]; h; h = h->next)
		if (h->handle == handle && !h->stale)
			return h;
	return NULL;
}

struct hold *hold_find_as(const struct kvd_space *sp, handle_t handle,
			  uint32_t page_class)
{
	struct hold *h = hold_find(sp->k, handle);

	return h && h->space == sp && h->page_class == page_class ? h : NULL;
}

/* Takes the object out of the table; the daemon still counts the hold. */
static void hold_free(struct hold *h)
{
	struct holds *t = &h->space->k->holds;
	struct hold **p = &t->buckets[bucket_of(t, h->handle)];

	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	h->next = t->spare;
	t->spare = h;
	t->nr_spare++;
	t->nr--;
}

void hold_drop(struct kvd *k, handle_t handle)
{
	struct holds *t = &k->holds;

	if (t->nr_released == WIRE_MAX_PAGES)
		hold_flush(k);
	/* With no room it is not lost: the next connection claims it not. */
	if (t->nr_released < WIRE_MAX_PAGES)
		t->released[t->nr_released++] = handle;
}

void hold_release(struct hold *h)
{
	struct kvd *k = h->space->k;
	handle_t handle = h->handle;
	bool stale = h->stale;

	assert(h->refs);
	if (--h->refs)
		return;
	hold_free(h);
	if (!stale)
		hold_drop(k, handle);
}

void hold_put(struct hold *h)
{
	if (!h)
		return;
	if (h->refs == 1 && !h->sealed && !h->stale && stock_put(h))
		return;
	hold_release(h);
}

int hold_flush(struct kvd *k)
{
	struct holds *t = &k->holds;
	int r;

	if (!t->nr_released || k->fd < 0)
		return 0;
	r = request_release(k, t->released, t->nr_released);
	if (k->fd >= 0)
		t->nr_released = 0;
	return r;
}

/* Claims in @sp what of list[*nr_ours..] is its; moves that to the front. */
static int hold_claim(struct kvd_space *sp, handle_t *list, uint32_t nr,
		      uint32_t *nr_ours)
{
	bool granted[WIRE_MAX_PAGES];
	uint32_t first = *nr_ours;
	int r;

	if (first == nr)
		return 0;
	r = request_claim(sp, list + first, nr - first, granted);
	for (uint32_t i = first; !r && i < nr; i++) {
		handle_t h = list[i];

		if (!granted[i - first])
			continue;
		list[i] = list[*nr_ours];
		list[(*nr_ours)++] = h;
	}
	return r;
}

int hold_resume(struct kvd *k, bool kept)
{
	struct holds *t = &k->holds;
	uint32_t nr_ours = 0;
	struct kvd_space *sp;
	int r = 0;

	if (kept)
		LIST_FOREACH(sp, &k->spaces, link)
			if (!r)
				r = hold_claim(sp, t->released, t->nr_released,
					       &nr_ours);
	if (!r)
		t->nr_released = nr_ours;
	return r ? r : hold_flush(k);
}

void hold_flush_many(struct kvd *k)
{
	if (k->holds.nr_released >= STOCK_MAX_PAGES)
		hold_flush(k);
}

void holds_each(struct kvd *k, struct kvd_space *sp,
		void (*f)(struct hold *h, void *ctx), void *ctx)
{
	struct holds *t = &k->holds;

	for (uint32_t i = 0; i < t->nr_buckets; i++)
		for (struct hold *h = t->buckets[i]; h; h = h->next)
			if (h->space == sp)
				f(h, ctx);
}

void holds_release(struct kvd *k, struct kvd_space *sp)
{
	struct holds *t = &k->holds;
	struct hold *h, *next;

	for (uint32_t i = 0; i < t->nr_buckets; i++) {
		for (h = t->buckets[i]; h; h = next) {
			next = h->next;
			if (h->space != sp)
				continue;
			h->refs = 1;
			hold_release(h);
		}
	}
}
