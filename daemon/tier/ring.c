// SPDX-License-Identifier: Apache-2.0
/*
 * ring.c - which records a tier's file has, and where the next one goes.
 */
#include "daemon/tier/ring.h"

#include <stdlib.h>

/* What is forgotten together: there while one of its lists has something. */
struct origin {
	struct list records;	/* in the order in which they came */
	struct list marked;	/* ring.marked */
	struct list owed;	/* ring.owed */
	uint64_t id;
	uint64_t before;	/* what is read with a lower number is none */
	uint32_t marks;		/* being written */
};

/* ---- origins ---- */

static struct origin *origin_find(const struct ring *g, uint64_t id)
{
	const uint64_t *v = map_get(&g->origins, id);

	return v ? (struct origin *)(uintptr_t)*v : NULL;
}

/* Found or made; NULL: out of memory. Put it. */
static struct origin *origin_get(struct ring *g, uint64_t id)
{
	struct origin *o = origin_find(g, id);

	if (o)
		return o;
	o = calloc(1, sizeof(*o));
	if (!o || map_put(&g->origins, id, (uintptr_t)o) < 0) {
		free(o);
		return NULL;
	}
	o->id = id;
	list_init(&o->records);
	list_init(&o->marked);
	list_init(&o->owed);
	return o;
}

static void origin_put(struct ring *g, struct origin *o)
{
	if (o->marks || !list_empty(&o->records) || !list_empty(&o->marked) ||
	    !list_empty(&o->owed))
		return;
	map_del(&g->origins, o->id);
	free(o);
}

/* What was read does not count any more, but what was asked for if @all. */
static void origins_unmark(struct ring *g, bool all)
{
	list_for_each_safe(pos, &g->marked) {
		struct origin *o = list_entry(pos, struct origin, marked);

		if (o->before == UINT64_MAX && !all)
			continue;
		o->before = 0;
		list_del(&o->marked);
		origin_put(g, o);
	}
}

/* ---- records ---- */

void ring_init(struct ring *g, uint64_t max_bytes)
{
	*g = (struct ring){ .max_bytes = max_bytes, .head = TIER_ALIGN };
	list_init(&g->records);
	list_init(&g->marked);
	list_init(&g->owed);
}

void ring_clear(struct ring *g)
{
	while (!list_empty(&g->records))
		ring_del(g, list_first(&g->records, struct record, link));
	origins_unmark(g, false);
	g->head = TIER_ALIGN;
}

void ring_fini(struct ring *g)
{
	ring_clear(g);
	origins_unmark(g, true);
	while (!list_empty(&g->owed)) {
		struct origin *o = list_first(&g->owed, struct origin, owed);

		list_del(&o->owed);
		origin_put(g, o);
	}
	map_fini(&g->map);
	map_fini(&g->origins);
}

struct record *ring_find(const struct ring *g, const struct tier_key *key)
{
	struct record *r = tier_map_get(&g->map, key);

	return r && tier_key_equal(&r->key, key) ? r : NULL;
}

void ring_del(struct ring *g, struct record *r)
{
	list_del(&r->link);
	list_del(&r->of_origin);
	origin_put(g, r->origin);
	if (tier_map_get(&g->map, &r->key) == r)
		map_del(&g->map, tier_key_hash(&r->key));
	g->bytes -= record_cost(r);
	g->entries--;
	free(r);
}

static struct record *record_new(struct ring *g, const struct file_found *at)
{
	struct record *r = malloc(sizeof(*r));

	if (!r || map_put(&g->map, tier_key_hash(&at->key),
			  (uintptr_t)r) < 0) {
		free(r);
		return NULL;
	}
	*r = (struct record){ .key = at->key,
			      .at = at->at,
			      .nr = at->nr,
			      .head_bytes = at->head_bytes,
			      .bytes = at->bytes };
	return r;
}

struct record *ring_add(struct ring *g, const struct file_found *at)
{
	struct record *old = tier_map_get(&g->map, &at->key), *r = NULL;
	struct origin *o = origin_get(g, at->key.origin);

	if (!o)
		return NULL;
	if (at->nr >= o->before)
		r = record_new(g, at);
	if (!r) {
		origin_put(g, o);
		return NULL;
	}
	r->origin = o;
	list_add_tail(&o->records, &r->of_origin);
	list_add_tail(&g->records, &r->link);
	g->bytes += record_cost(r);
	g->entries++;
	if (old)
		ring_del(g, old);
	return r;
}

bool ring_is_old(const struct ring *g, const struct record *r)
{
	uint64_t left = r->at >= g->head ? r->at - g->head :
					   r->at + g->max_bytes - g->head;

	return left < g->max_bytes / 2 && g->bytes > g->max_bytes / 2;
}

uint64_t ring_take(struct ring *g, uint64_t bytes)
{
	uint64_t at = g->head, end = at + bytes;
	bool wraps = end > g->max_bytes;

	while (!list_empty(&g->records)) {
		struct record *r = list_first(&g->records, struct record, link);
		bool ahead = r->at >= at;

		if (wraps ? !ahead : !ahead || r->at >= end)
			break;
		g->dropped++;
		ring_del(g, r);
	}
	g->head = wraps ? TIER_ALIGN : end;
	return wraps ? ring_take(g, bytes) : at;
}

/* ---- what is forgotten ---- */

/* The last first: so all that a mark is for come before any that it is not. */
static bool origin_shrink(struct ring *g, struct origin *o, uint64_t before,
			  uint32_t max, struct tier_forgot *ret)
{
	struct record *r;
	bool more = false;

	o->marks++; /* it stays */
	while (!list_empty(&o->records)) {
		r = list_entry(o->records.prev, struct record, of_origin);
		more = r->nr < before && max == 0;
		if (r->nr >= before || more)
			break;
		max--;
		ret->pages++;
		ret->bytes += r->bytes;
		ring_del(g, r);
	}
	o->marks--;
	return more;
}

bool ring_forget(struct ring *g, uint64_t origin, bool read, uint32_t max,
		 struct tier_forgot *ret)
{
	struct origin *o = read ? origin_find(g, origin) :
				  origin_get(g, origin);
	bool had;

	if (!o)
		return false;
	had = !list_empty(&o->records);
	if (origin_shrink(g, o, UINT64_MAX, max, ret))
		return true;
	if (!read && list_empty(&o->marked))
		list_add_tail(&g->marked, &o->marked);
	if (!read)
		o->before = UINT64_MAX;
	if ((had || !read) && list_empty(&o->owed))
		list_add_tail(&g->owed, &o->owed);
	origin_put(g, o);
	return false;
}

bool ring_owes(const struct ring *g, uint64_t origin)
{
	const struct origin *o = origin_find(g, origin);

	return o && !list_empty(&o->owed);
}

bool ring_mark(struct ring *g, struct tier_key *ret)
{
	struct origin *o;

	if (list_empty(&g->owed))
		return false;
	o = list_first(&g->owed, struct origin, owed);
	list_del(&o->owed);
	o->marks++;
	*ret = (struct tier_key){ .origin = o->id };
	return true;
}

void ring_marked(struct ring *g, const struct tier_key *mark, bool written)
{
	struct origin *o = origin_find(g, mark->origin);

	o->marks--;
	if (!written && list_empty(&o->owed))
		list_add_tail(&g->owed, &o->owed);
	origin_put(g, o);
}

bool ring_read_mark(struct ring *g, const struct file_found *mark, uint32_t max)
{
	struct origin *o = origin_get(g, mark->key.origin);
	struct tier_forgot forgot = { 0 };

	if (!o)
		return false;
	if (list_empty(&o->marked))
		list_add_tail(&g->marked, &o->marked);
	if (o->before < mark->nr)
		o->before = mark->nr;
	return origin_shrink(g, o, mark->nr, max, &forgot);
}

void ring_is_read(struct ring *g)
{
	origins_unmark(g, true);
}
