// SPDX-License-Identifier: Apache-2.0
/*
 * ring.c - which records a tier's file has, and where the next one goes.
 */
#include "daemon/tier/ring.h"

#include <errno.h>
#include <stdlib.h>

/* What is forgotten together: there while one of its lists has something. */
struct origin {
	struct list records;
	struct list marked;	/* ring.marked */
	struct list owed;	/* ring.owed */
	uint64_t id;
	uint64_t before;	/* what was read with a lower number is none */
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

/* Where there is room for no more, all that was written until now is none.
 * Return: more is none than was before. */
static bool origin_owe(struct ring *g, struct origin *o)
{
	uint64_t oldest = g->oldest;

	if (!list_empty(&o->owed))
		return false;
	if (g->nr_owed == RING_OWED) {
		g->oldest = g->read ? g->nr + 1 : UINT64_MAX;
		return g->oldest != oldest;
	}
	list_add_tail(&g->owed, &o->owed);
	g->nr_owed++;
	return true;
}

static struct origin *owed_take(struct ring *g)
{
	struct origin *o = list_first(&g->owed, struct origin, owed);

	list_del(&o->owed);
	g->nr_owed--;
	return o;
}

static void origins_unmark(struct ring *g)
{
	while (!list_empty(&g->marked)) {
		struct origin *o = list_first(&g->marked, struct origin,
					      marked);

		list_del(&o->marked);
		o->before = 0;
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

void ring_hide(struct ring *g, struct record *r)
{
	if (!r->named)
		return;
	if (tier_map_get(&g->map, &r->key) == r)
		map_del(&g->map, tier_key_hash(&r->key));
	g->bytes -= record_cost(r);
	g->entries--;
	r->named = false;
}

static void ring_del(struct ring *g, struct record *r)
{
	ring_hide(g, r);
	list_del(&r->link);
	list_del(&r->of_origin);
	if (r->origin)
		origin_put(g, r->origin);
	free(r);
}

bool ring_clear(struct ring *g, uint32_t max)
{
	g->read = false;
	while (max-- && !list_empty(&g->records))
		ring_del(g, list_first(&g->records, struct record, link));
	if (!list_empty(&g->records))
		return true;
	origins_unmark(g);
	g->newest = NULL;
	g->head = TIER_ALIGN;
	if (g->oldest != UINT64_MAX)
		g->oldest = 0;
	return false;
}

void ring_fini(struct ring *g)
{
	while (ring_clear(g, UINT32_MAX))
		;
	while (!list_empty(&g->owed))
		origin_put(g, owed_take(g));
	map_fini(&g->map);
	map_fini(&g->origins);
}

struct record *ring_find(const struct ring *g, const struct tier_key *key)
{
	struct record *r = tier_map_get(&g->map, key);

	return r && tier_key_equal(&r->key, key) ? r : NULL;
}

static struct record *record_new(struct ring *g, const struct file_found *at)
{
	struct record *r = malloc(sizeof(*r));

	if (!r)
		return NULL;
	*r = (struct record){ .key = at->key,
			      .at = at->at,
			      .nr = at->nr,
			      .head_bytes = at->head_bytes,
			      .bytes = at->bytes };
	list_init(&r->of_origin);
	list_add_tail(&g->records, &r->link);
	return r;
}

/* To be found, and forgotten. Return: 0, -ENOMEM. */
static int record_name(struct ring *g, struct record *r)
{
	struct origin *o = origin_get(g, r->key.origin);

	if (!o)
		return -ENOMEM;
	if (map_put(&g->map, tier_key_hash(&r->key), (uintptr_t)r) < 0) {
		origin_put(g, o);
		return -ENOMEM;
	}
	r->origin = o;
	r->named = true;
	list_add_tail(&o->records, &r->of_origin);
	g->bytes += record_cost(r);
	g->entries++;
	return 0;
}

struct record *ring_add(struct ring *g, const struct file_found *at)
{
	bool mark = at->bytes == 0;
	struct record *old = mark ? NULL : tier_map_get(&g->map, &at->key);
	struct record *r = record_new(g, at);

	if (r && !mark && record_name(g, r) < 0) {
		ring_del(g, r);
		return NULL;
	}
	if (r && old)
		ring_hide(g, old);
	return r;
}

void ring_back(struct ring *g, const struct file_found *at)
{
	struct record *r;

	while (!list_empty(&g->records)) {
		r = list_entry(g->records.prev, struct record, link);
		if (r->nr < at->nr)
			break;
		ring_del(g, r);
	}
	g->head = at->at;
}

bool ring_is_old(const struct ring *g, const struct record *r)
{
	uint64_t left = r->at >= g->head ? r->at - g->head :
					   r->at + g->max_bytes - g->head;

	return left < g->max_bytes / 2 && g->bytes > g->max_bytes / 2;
}

/* The ring comes past it. */
static void ring_drop(struct ring *g, struct record *r)
{
	if (g->oldest <= r->nr)
		g->oldest = r->nr + 1;
	g->dropped += r->named;
	ring_del(g, r);
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
		ring_drop(g, r);
	}
	g->head = wraps ? TIER_ALIGN : end;
	return wraps ? ring_take(g, bytes) : at;
}

/* ---- reading a file ---- */

static void read_mark(struct ring *g, const struct file_found *at)
{
	struct origin *o = origin_get(g, at->key.origin);

	if (!o)
		return;
	if (list_empty(&o->marked))
		list_add_tail(&g->marked, &o->marked);
	if (o->before < at->nr)
		o->before = at->nr;
}

void ring_read(struct ring *g, const struct file_found *at)
{
	const struct record *old = tier_map_get(&g->map, &at->key);
	bool newest = !g->newest || g->newest->nr < at->nr;
	struct record *r;

	if (at->nr > g->nr)
		g->nr = at->nr;
	if (at->bytes == 0)
		read_mark(g, at);
	else if (old && old->nr >= at->nr)
		return; /* it was put again since */
	r = ring_add(g, at);
	if (!r || !newest)
		return;
	g->newest = r;
	if (g->oldest != UINT64_MAX && at->oldest <= at->nr)
		g->oldest = at->oldest;
}

void ring_is_read(struct ring *g)
{
	g->again = false;
	if (!g->newest)
		return;
	/* What lies behind the newest is the oldest. */
	g->head = g->newest->at + record_cost(g->newest);
	list_del(&g->records);
	list_add(&g->newest->link, &g->records);
	g->newest = NULL;
}

static bool record_is_none(const struct ring *g, const struct record *r)
{
	return r->nr < g->oldest ||
	       (r->origin && (r->nr < r->origin->before ||
			      !list_empty(&r->origin->owed)));
}

bool ring_prune(struct ring *g, struct list **pos, uint32_t max)
{
	if (!*pos)
		*pos = g->records.next;
	while (*pos != &g->records && max--) {
		struct record *r = list_entry(*pos, struct record, link);

		*pos = (*pos)->next;
		if (record_is_none(g, r))
			ring_del(g, r);
	}
	if (*pos != &g->records)
		return true;
	if (g->again) {
		g->again = false;
		*pos = NULL;
		return true;
	}
	if (g->oldest == UINT64_MAX)
		g->oldest = g->nr + 1;
	origins_unmark(g);
	g->read = true;
	return false;
}

/* ---- what is forgotten ---- */

bool ring_forget(struct ring *g, uint64_t origin, uint32_t max,
		 struct tier_forgot *ret)
{
	struct origin *o = g->read ? origin_find(g, origin) :
				     origin_get(g, origin);
	bool more;

	if (!o)
		return false;
	if (!g->read || !list_empty(&o->records))
		g->again |= origin_owe(g, o) && !g->read;
	o->marks++; /* it stays */
	for (; g->read && max && !list_empty(&o->records); max--) {
		struct record *r = list_first(&o->records, struct record,
					      of_origin);

		ret->pages += r->named;
		ret->bytes += r->named ? r->bytes : 0;
		ring_del(g, r);
	}
	o->marks--;
	more = g->read && !list_empty(&o->records);
	origin_put(g, o);
	return more;
}

bool ring_owes(const struct ring *g, uint64_t origin)
{
	const struct origin *o = origin_find(g, origin);

	return o && !list_empty(&o->owed);
}

bool ring_is_marking(const struct ring *g, uint64_t origin)
{
	const struct origin *o = origin_find(g, origin);

	return o && o->marks;
}

bool ring_mark(struct ring *g, struct tier_key *ret)
{
	struct origin *o;

	if (list_empty(&g->owed))
		return false;
	o = owed_take(g);
	o->marks++;
	*ret = (struct tier_key){ .origin = o->id };
	return true;
}

void ring_marked(struct ring *g, const struct tier_key *mark, bool written)
{
	struct origin *o = origin_find(g, mark->origin);

	o->marks--;
	if (!written)
		origin_owe(g, o);
	origin_put(g, o);
}
