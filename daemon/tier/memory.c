// SPDX-License-Identifier: Apache-2.0
/*
 * memory.c - a tier in plain memory of the host.
 *
 * What the pool has got back meanwhile goes first: it is there twice, and comes
 * back by renew(). Then what is worth least, as the pool's policy has learned
 * (struct tier_value); of a policy that learns nothing, what was given up
 * longest ago. What others cannot be used without waits until those are gone,
 * as in the pool: else the middle of a prefix might go, and its end stay for
 * nothing.
 */
#include <stdlib.h>
#include "daemon/tier/entry.h"
#include "daemon/util/list.h"

#define FORGET_BYTES (64ull << 20) /* at a time: the system takes as long */

/* Entries that one policy orders alike. */
struct group {
	struct list link;	/* memory.groups */
	struct tier_value *value;
	struct spans spans;
	uint32_t nr;
};

struct entry {
	struct list link;	/* memory.once, .twice, .followed, or a span */
	struct list of_origin;	/* a ring without a head */
	struct tier_key key;
	struct tier_page *page;
	struct tier_use use;	/* value: the group has the reference */
	struct group *group;	/* NULL: it goes by age */
	enum { NOWHERE, IN_ORDER, TWICE, FOLLOWED } list;
};

struct memory {
	struct tier tier;
	struct map map;
	struct map origins;	/* of its id, one entry of each */
	struct map followers;	/* of the hash of a key, how many */
	struct list groups;
	uint64_t now;		/* ticks: tier_use.now of the last */
	struct list once;	/* by age, oldest first */
	struct list twice;	/* the pool has them too */
	struct list followed;	/* by others that are here */
	void (*spill)(void *ctx, const struct tier_key *key,
		      struct tier_page *page, const struct tier_use *use);
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

/* ---- origins ---- */

static struct entry *origin_entry(const struct memory *m, uint64_t origin)
{
	const uint64_t *v = map_get(&m->origins, origin);

	return v ? (struct entry *)(uintptr_t)*v : NULL;
}

/* Return: 0, -ENOMEM. */
static int origin_join(struct memory *m, struct entry *e)
{
	struct entry *first = origin_entry(m, e->key.origin);

	list_init(&e->of_origin);
	if (!first)
		return map_put(&m->origins, e->key.origin, (uintptr_t)e);
	list_add_tail(&first->of_origin, &e->of_origin);
	return 0;
}

static void origin_leave(struct memory *m, struct entry *e)
{
	if (list_empty(&e->of_origin))
		map_del(&m->origins, e->key.origin);
	else if (origin_entry(m, e->key.origin) == e)
		map_put(&m->origins, e->key.origin,
			(uintptr_t)list_first(&e->of_origin, struct entry,
					      of_origin));
	list_del(&e->of_origin);
}

/* ---- groups ---- */

/* That of @value, found or made; NULL: there is none. */
static struct group *group_get(struct memory *m, struct tier_value *value)
{
	struct group *g;

	list_for_each(pos, &m->groups) {
		g = list_entry(pos, struct group, link);
		if (g->value == value)
			return g;
	}
	g = value ? malloc(sizeof(*g)) : NULL;
	if (!g)
		return NULL;
	g->value = value;
	g->nr = 0;
	value->refs++;
	spans_init(&g->spans, value->step, &value->worth);
	spans_step(&g->spans, m->now, &value->worth);
	list_add_tail(&m->groups, &g->link);
	return g;
}

static void group_put(struct group *g)
{
	if (!g || --g->nr)
		return;
	list_del(&g->link);
	tier_value_put(g->value);
	free(g);
}

/* ---- the order ---- */

/* @first: before others that are worth as much. */
static void entry_list(struct memory *m, struct entry *e, bool first)
{
	bool followed = map_get(&m->followers, tier_key_hash(&e->key));

	e->list = followed ? FOLLOWED : IN_ORDER;
	if (followed)
		list_add_tail(&m->followed, &e->link);
	else if (e->group)
		spans_add(&e->group->spans, &e->link, e->use.kind, e->use.at,
			  first);
	else if (first)
		list_add(&m->once, &e->link);
	else
		list_add_tail(&m->once, &e->link);
}

/* Where @use says that it is. */
static void entry_use(struct memory *m, struct entry *e,
		      const struct tier_use *use)
{
	struct group *was = e->group;

	m->now = use->now;
	e->use = *use;
	e->group = group_get(m, use->value);
	if (e->group)
		e->group->nr++;
	else
		e->use.value = NULL;
	group_put(was);
	entry_list(m, e, false);
}

/* Return: 0, -ENOMEM. */
static int follower_come(struct memory *m, const struct tier_key *parent)
{
	const uint64_t *nr = map_get(&m->followers, tier_key_hash(parent));
	struct entry *e;
	int r;

	r = map_put(&m->followers, tier_key_hash(parent), nr ? *nr + 1 : 1);
	if (r < 0)
		return r;
	e = entry_find(m, parent);
	if (e && e->list == IN_ORDER) {
		list_move_tail(&m->followed, &e->link);
		e->list = FOLLOWED;
	}
	return 0;
}

static void follower_gone(struct memory *m, const struct tier_key *parent)
{
	uint64_t *nr = map_get(&m->followers, tier_key_hash(parent));
	struct entry *e;

	if (--*nr)
		return;
	map_del(&m->followers, tier_key_hash(parent));
	e = entry_find(m, parent);
	if (e && e->list == FOLLOWED) {
		list_del(&e->link);
		entry_list(m, e, true);
	}
}

static struct entry *first_of(const struct list *l)
{
	return list_empty(l) ? NULL : list_first(l, struct entry, link);
}

/* One of them at a time. */
static void groups_step(struct memory *m)
{
	struct group *g;

	if (list_empty(&m->groups))
		return;
	g = list_first(&m->groups, struct group, link);
	list_move_tail(&m->groups, &g->link);
	if (spans_step_is_due(&g->spans, m->now))
		spans_step(&g->spans, m->now, &g->value->worth);
}

/*
 * Of all groups, what is worth least for its room. Of a policy that is no more
 * nobody learns: its go first.
 */
static struct entry *groups_first(struct memory *m)
{
	struct entry *first = NULL;
	double least = 0;

	groups_step(m);
	list_for_each(pos, &m->groups) {
		struct group *g = list_entry(pos, struct group, link);
		struct list *node;
		struct entry *e;
		double worth;

		node = spans_next(&g->spans, &worth);
		if (!node)
			continue;
		e = list_entry(node, struct entry, link);
		if (g->value->refs == 1)
			return e;
		worth /= (double)page_cost(e->page);
		if (!first || worth < least) {
			first = e;
			least = worth;
		}
	}
	return first;
}

/* What goes next, of what the pool does not have. */
static struct entry *memory_first(struct memory *m)
{
	struct entry *e = first_of(&m->once);

	if (!e)
		e = groups_first(m);
	return e ? e : first_of(&m->followed);
}

/* ---- room ---- */

static void entry_free(struct memory *m, struct entry *e)
{
	list_del(&e->link);
	origin_leave(m, e);
	map_del(&m->map, tier_key_hash(&e->key));
	follower_gone(m, &e->use.parent);
	group_put(e->group);
	m->stat.bytes -= page_cost(e->page);
	m->stat.entries--;
	tier_page_put(e->page);
	free(e);
}

static void memory_shrink(struct memory *m, uint64_t bytes)
{
	while (m->stat.bytes + bytes > m->stat.max_bytes && m->stat.entries) {
		struct entry *twice = first_of(&m->twice);
		struct entry *e = twice ? twice : memory_first(m);

		if (!twice && m->spill)
			m->spill(m->ctx, &e->key, e->page, &e->use);
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
	map_fini(&m->origins);
	map_fini(&m->followers);
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

static bool memory_renew(struct tier *t, const struct tier_key *key,
			 const struct tier_use *use)
{
	struct memory *m = memory_of(t);
	struct entry *e = entry_find(m, key);
	struct tier_use now = *use;

	if (e) {
		now.parent = e->use.parent; /* it counts as its follower */
		list_del(&e->link);
		entry_use(m, e, &now);
	}
	return e;
}

/* One that is in the map, and in no list: it cannot go. NULL: out of memory. */
static struct entry *entry_new(struct memory *m, const struct tier_key *key,
			       const struct tier_key *parent)
{
	struct entry *e = malloc(sizeof(*e));

	if (!e)
		return NULL;
	*e = (struct entry){ .key = *key };
	if (follower_come(m, parent) < 0)
		goto no_follower;
	if (origin_join(m, e) < 0)
		goto no_origin;
	if (map_put(&m->map, tier_key_hash(key), (uintptr_t)e) == 0)
		return e;
	origin_leave(m, e);
no_origin:
	follower_gone(m, parent);
no_follower:
	free(e);
	return NULL;
}

static void memory_put(struct tier *t, const struct tier_key *key,
		       struct tier_page *page, const struct tier_use *use)
{
	struct memory *m = memory_of(t);
	struct entry *e = tier_map_get(&m->map, key);

	if (e)
		entry_free(m, e);
	e = page_cost(page) <= m->stat.max_bytes ?
		    entry_new(m, key, &use->parent) : NULL;
	if (!e) {
		m->stat.refused++;
		return;
	}
	memory_shrink(m, page_cost(page));
	e->page = tier_page_get(page);
	entry_use(m, e, use);
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
	e->list = TWICE;
	get->done(get, tier_page_get(e->page));
}

static bool memory_forget(struct tier *t, uint64_t origin, uint32_t max,
			  struct tier_forgot *ret)
{
	struct memory *m = memory_of(t);
	struct entry *e = origin_entry(m, origin);
	uint64_t most = ret->bytes + FORGET_BYTES;

	if (!max)
		return false;
	for (; e && max && ret->bytes < most; max--) {
		ret->pages++;
		ret->bytes += e->page->bytes;
		entry_free(m, e);
		e = origin_entry(m, origin);
	}
	return e;
}

static void memory_tick(struct tier *t, uint64_t now_ns)
{
	map_trim(&memory_of(t)->map);
	map_trim(&memory_of(t)->origins);
	map_trim(&memory_of(t)->followers);
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
	.forget = memory_forget,
	.tick = memory_tick,
	.stat = memory_stat,
};

struct tier *tier_memory_new(uint64_t bytes,
			     void (*spill)(void *ctx,
					   const struct tier_key *key,
					   struct tier_page *page,
					   const struct tier_use *use),
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
	list_init(&m->groups);
	list_init(&m->once);
	list_init(&m->followed);
	list_init(&m->twice);
	return &m->tier;
}
