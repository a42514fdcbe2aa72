// SPDX-License-Identifier: Apache-2.0
/*
 * memory.c - a tier in plain memory of the host.
 *
 * Which goes first: what the pool has got back meanwhile (it is there twice,
 * and comes back by renew()); else, of the oldest of each kind, the one whose
 * age, divided by what its kind is worth, is most. Kinds are by the number of
 * uses that a page had in the pool, each worth twice the one before. Age is
 * counted in pages put.
 */
#include <stdlib.h>
#include "daemon/tier/entry.h"
#include "daemon/util/list.h"

#define KINDS 4u

struct entry {
	struct list link;	/* of its kind, or memory.twice */
	struct tier_key key;
	struct tier_page *page;
	uint64_t at;		/* of memory.now */
	uint32_t uses;
};

struct memory {
	struct tier tier;
	struct map map;
	struct list kinds[KINDS]; /* oldest first */
	struct list twice;	/* the pool has them too */
	uint64_t now;
	void (*spill)(void *ctx, const struct tier_key *key,
		      struct tier_page *page, uint32_t uses);
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

static struct list *kind_of(struct memory *m, uint32_t uses)
{
	return &m->kinds[uses < KINDS - 1 ? uses : KINDS - 1];
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

static struct entry *memory_oldest(const struct memory *m)
{
	struct entry *oldest = NULL;
	uint64_t most = 0;

	if (!list_empty(&m->twice))
		return list_first(&m->twice, struct entry, link);
	for (uint32_t i = 0; i < KINDS; i++) {
		struct entry *e;
		uint64_t age;

		if (list_empty(&m->kinds[i]))
			continue;
		e = list_first(&m->kinds[i], struct entry, link);
		age = (m->now - e->at) >> i;
		if (!oldest || age > most) {
			oldest = e;
			most = age;
		}
	}
	return oldest;
}

static void memory_shrink(struct memory *m, uint64_t bytes)
{
	while (m->stat.bytes + bytes > m->stat.max_bytes && m->stat.entries) {
		struct entry *e = memory_oldest(m);
		bool twice = m->twice.next == &e->link;

		if (!twice && m->spill)
			m->spill(m->ctx, &e->key, e->page, e->uses);
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

static void entry_renew(struct memory *m, struct entry *e, uint32_t uses)
{
	e->at = ++m->now;
	e->uses = uses;
	list_move_tail(kind_of(m, uses), &e->link);
}

static bool memory_renew(struct tier *t, const struct tier_key *key,
			 uint32_t uses)
{
	struct memory *m = memory_of(t);
	struct entry *e = entry_find(m, key);

	if (e)
		entry_renew(m, e, uses);
	return e;
}

static void memory_put(struct tier *t, const struct tier_key *key,
		       struct tier_page *page, uint32_t uses)
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
	list_init(&e->link);
	entry_renew(m, e, uses);
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
					   struct tier_page *page,
					   uint32_t uses),
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
	for (uint32_t i = 0; i < KINDS; i++)
		list_init(&m->kinds[i]);
	list_init(&m->twice);
	return &m->tier;
}
