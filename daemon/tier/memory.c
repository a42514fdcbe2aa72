// SPDX-License-Identifier: Apache-2.0
/*
 * memory.c - a tier in plain memory of the host.
 *
 * What the pool has got back meanwhile goes first: it is there twice, and comes
 * back by renew(). Then what was given up longest ago. That the pool's policy
 * had kept it long, or used it much, has been seen to make it worth no more.
 */
#include <stdlib.h>
#include "daemon/tier/entry.h"
#include "daemon/util/list.h"

struct entry {
	struct list link;	/* memory.once or .twice */
	struct tier_key key;
	struct tier_page *page;
};

struct memory {
	struct tier tier;
	struct map map;
	struct list once;	/* oldest first */
	struct list twice;	/* the pool has them too */
	void (*spill)(void *ctx, const struct tier_key *key,
		      struct tier_page *page);
	void *ctx;
	struct tier_stat stat;
};

static struct memory *memory_of(struct tier *t)
{
	return (struct memory *)(void *)t;
}

static uint64_t page_cost(const struct tier_page *p)
{
	return tier_cost(p->head_bytes, p->bytes);
}

static struct entry *entry_find(const struct memory *m,
				const struct tier_key *key)
{
	struct entry *e = tier_map_get(&m->map, key);

	return e && tier_key_equal(&e->key, key) ? e : NULL;
}

static void entry_free(struct memory *m, struct entry *e)
{
	list_del(&e->link);
	map_del(&m->map, tier_key_hash(&e->key));
	m->stat.bytes -= page_cost(e->page);
	m->stat.entries--;
	tier_page_put(e->page);
	free(e);
}

/* ---- room ---- */

static void memory_shrink(struct memory *m, uint64_t bytes)
{
	while (m->stat.bytes + bytes > m->stat.max_bytes && m->stat.entries) {
		bool twice = !list_empty(&m->twice);
		struct entry *e = list_first(twice ? &m->twice : &m->once,
					     struct entry, link);

		if (!twice && m->spill)
			m->spill(m->ctx, &e->key, e->page);
		m->stat.dropped++;
		entry_free(m, e);
	}
}

/* ---- operations ---- */

static void memory_free(struct tier *t)
{
	struct memory *m = memory_of(t);

	m->spill = NULL;
	m->stat.max_bytes = 0;
	memory_shrink(m, 0);
	map_fini(&m->map);
	free(m);
}

static bool memory_has(const struct tier *t, const struct tier_key *key)
{
	return entry_find((const struct memory *)(const void *)t, key);
}

static bool memory_takes(const struct tier *t)
{
	return true;
}

static bool memory_renew(struct tier *t, const struct tier_key *key)
{
	struct memory *m = memory_of(t);
	struct entry *e = entry_find(m, key);

	if (e)
		list_move_tail(&m->once, &e->link);
	return e;
}

static void memory_put(struct tier *t, const struct tier_key *key,
		       struct tier_page *page)
{
	struct memory *m = memory_of(t);
	struct entry *e = tier_map_get(&m->map, key);

	if (e)
		entry_free(m, e);
	e = page_cost(page) <= m->stat.max_bytes ? malloc(sizeof(*e)) : NULL;
	if (!e || map_put(&m->map, tier_key_hash(key),
			  (uintptr_t)e) < 0) {
		free(e);
		m->stat.refused++;
		return;
	}
	/* It is in the map, and in no list: it cannot go yet. */
	memory_shrink(m, page_cost(page));
	*e = (struct entry){ .key = *key, .page = tier_page_get(page) };
	list_add_tail(&m->once, &e->link);
	m->stat.bytes += page_cost(page);
	m->stat.entries++;
	m->stat.puts++;
}

static void memory_get(struct tier *t, const struct tier_key *key,
		       struct tier_get *get)
{
	struct memory *m = memory_of(t);
	struct entry *e = entry_find(m, key);

	if (!e) {
		get->done(get, NULL);
		return;
	}
	m->stat.gets++;
	list_move_tail(&m->twice, &e->link);
	get->done(get, tier_page_get(e->page));
}

static void memory_drop(struct tier *t, const struct tier_key *key)
{
	struct memory *m = memory_of(t);
	struct entry *e = entry_find(m, key);

	if (e)
		entry_free(m, e);
}

static void memory_tick(struct tier *t, uint64_t now_ns)
{
	map_trim(&memory_of(t)->map);
}

static void memory_stat(const struct tier *t, struct tier_stat *ret)
{
	*ret = ((const struct memory *)(const void *)t)->stat;
}

static const struct tier_ops memory_ops = {
	.name = "memory",
	.free = memory_free,
	.has = memory_has,
	.takes = memory_takes,
	.renew = memory_renew,
	.put = memory_put,
	.get = memory_get,
	.drop = memory_drop,
	.tick = memory_tick,
	.stat = memory_stat,
};

struct tier *tier_memory_new(uint64_t bytes,
			     void (*spill)(void *ctx,
					   const struct tier_key *key,
					   struct tier_page *page),
			     void *ctx)
{
	struct memory *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->tier.ops = &memory_ops;
	m->spill = spill;
	m->ctx = ctx;
	m->stat.name = memory_ops.name;
	m->stat.trouble = "";
	m->stat.max_bytes = bytes;
	list_init(&m->once);
	list_init(&m->twice);
	return &m->tier;
}
