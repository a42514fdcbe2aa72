/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.c - what a tenant is promised, and what it may have.
 */
#include "daemon/mem/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/demote.h"
#include "daemon/mem/hold.h"
#include "daemon/mem/pin.h"
#include "daemon/mem/reclaim.h"

/* ---- by name ---- */

static struct limits *limits_find(const struct mem *m, const char *name)
{
	list_for_each(pos, &m->limits) {
		struct limits *l = list_entry(pos, struct limits, link);

		if (strcmp(l->name, name) == 0)
			return l;
	}
	return NULL;
}

struct mem_limits limits_get(const struct mem *m, const char *name)
{
	const struct limits *l = limits_find(m, name);

	return l ? l->of : (struct mem_limits){ .min_bytes = 0 };
}

static void limits_drop(struct limits *l)
{
	list_del(&l->link);
	free(l);
}

void limits_fini(struct mem *m)
{
	list_for_each_safe(pos, &m->limits)
		limits_drop(list_entry(pos, struct limits, link));
}

static bool limits_are_none(const struct mem_limits *l)
{
	return !l->min_bytes && !l->high_bytes && !l->max_bytes;
}

static bool limits_are_ordered(const struct mem_limits *l)
{
	uint64_t max = l->max_bytes ? l->max_bytes : UINT64_MAX;
	uint64_t high = l->high_bytes ? l->high_bytes : max;

	return l->min_bytes <= high && high <= max;
}

/* Found, made or, when there is nothing to remember, dropped. */
static int limits_put(struct mem *m, const char *name,
		      const struct mem_limits *of)
{
	struct limits *l = limits_find(m, name);

	if (limits_are_none(of)) {
		if (l)
			limits_drop(l);
		return 0;
	}
	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		strcpy(l->name, name);
		list_add_tail(&m->limits, &l->link);
	}
	l->of = *of;
	return 0;
}

void limits_apply(struct tenant *t)
{
	struct mem_limits l = limits_get(t->m, t->name);

	t->min_bytes = l.min_bytes;
	t->high_bytes = l.high_bytes;
	t->max_bytes = l.max_bytes;
	t->lowered = l.max_bytes && t->charged > l.max_bytes;
}

int mem_tenant_set(struct mem *m, const char *name,
		   const struct mem_limits *limits)
{
	uint64_t others = m->min_total - limits_get(m, name).min_bytes;
	struct tenant *t = tenant_find(m, name);
	int r;

	if (name[0] == '\0' || strlen(name) >= TABLE_NAME_BYTES ||
	    !limits_are_ordered(limits))
		return -EINVAL;
	if (limits->min_bytes > m->pool_bytes - others)
		return -ERANGE;
	r = limits_put(m, name, limits);
	if (r < 0)
		return r;
	m->min_total = others + limits->min_bytes;
	if (t)
		limits_apply(t);
	m->freed = true; /* one who was refused may have what he asked for */
	m->trimming = true;
	mem_trim(m);
	return 0;
}

/* ---- one's own ---- */

/* What a tenant may have cached pages up to. */
static uint64_t limits_target(const struct tenant *t)
{
	if (t->high_bytes)
		return t->high_bytes;
	return t->max_bytes ? t->max_bytes : UINT64_MAX;
}

bool limits_step(struct mem *m)
{
	bool more = false;

	if (!m->trimming || m->in_grace)
		return false;
	more = pins_trim(m);
	list_for_each(pos, &m->tenants) {
		struct tenant *t = list_entry(pos, struct tenant, link);

		more |= reclaim_down(t, limits_target(t));
	}
	m->trimming = more;
	return more;
}

/*
 * What its clients let go of above high may be much; it goes a step at a
 * time, here and in mem_tick().
 */
void limits_reclaim_high(struct tenant *t, uint64_t bytes)
{
	if (!t->high_bytes || t->charged + bytes <= t->high_bytes ||
	    t->m->in_grace)
		return;
	if (!reclaim_down(t, t->high_bytes > bytes ? t->high_bytes - bytes : 0))
		return;
	t->m->trimming = true;
	mem_has_work(t->m);
}

uint32_t mem_client_delay_ms(const struct mem_client *c)
{
	const struct tenant *t = c->tenant;
	uint64_t held = t->charged - t->tally.bytes[PAGE_CACHED];
	uint64_t excess, part, ms;

	if (!t->high_bytes || held <= t->high_bytes)
		return 0;
	excess = held - t->high_bytes;
	if (excess >= t->high_bytes / 4)
		return MEM_MAX_DELAY_MS;
	part = excess * 4 * 1000 / t->high_bytes; /* below 1000 */
	ms = (MEM_MAX_DELAY_MS * part * part + 999999) / 1000000;
	return ms ? (uint32_t)ms : 1;
}

/* ---- others' ---- */

/* The largest page of @t that is cached. */
static uint64_t limits_largest(const struct tenant *t)
{
	uint64_t bytes = 1;

	list_for_each(pos, &t->classes) {
		const struct size_class *sc;

		sc = list_entry(pos, struct size_class, link);
		if (sc->nr_cached && sc->page_bytes > bytes)
			bytes = sc->page_bytes;
	}
	return bytes;
}

/* Were all of its largest size: so many can go for sure, in any order. */
static uint64_t limits_pages_above_min(const struct tenant *t)
{
	uint64_t cached = t->tally.pages[PAGE_CACHED], nr;

	if (tenant_may_lose(t, t->tally.bytes[PAGE_CACHED]))
		return cached;
	if (t->charged <= t->min_bytes)
		return 0;
	nr = (t->charged - t->min_bytes) / limits_largest(t);
	return nr < cached ? nr : cached;
}

uint64_t limits_pages_to_take(const struct tenant *t)
{
	uint64_t nr = t->tally.pages[PAGE_CACHED];

	list_for_each(pos, &t->m->tenants) {
		const struct tenant *other;

		other = list_entry(pos, struct tenant, link);
		if (other != t)
			nr += limits_pages_above_min(other);
	}
	return nr;
}

static uint64_t segment_cached_bytes(const struct segment *seg)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < seg->nr_granules; i++) {
		const struct slab *slab = seg->slabs[i];

		if (slab && slab->first == i)
			bytes += (uint64_t)slab->nr_cached *
				 slab->class->page_bytes;
	}
	return bytes;
}

bool limits_may_take(const struct segment *seg)
{
	return tenant_may_lose(seg->tenant, seg->bytes) ||
	       tenant_may_lose(seg->tenant, segment_cached_bytes(seg));
}

/* ---- figures ---- */

const char *mem_tenant_next(const struct mem *m, const char *prev)
{
	bool found = !prev;

	list_for_each(pos, &m->tenants) {
		const struct tenant *t = list_entry(pos, struct tenant, link);

		if (found)
			return t->name;
		found = strcmp(t->name, prev) == 0;
	}
	return NULL;
}

void mem_tenant_stat(const struct mem *m, const char *name,
		     struct mem_tenant_stat *ret)
{
	const struct tenant *t = tenant_find(m, name);

	memset(ret, 0, sizeof(*ret));
	ret->limits = limits_get(m, name);
	if (!t)
		return;
	ret->charged = t->charged;
	list_for_each(pos, &t->clients)
		ret->clients += !list_entry(pos, struct mem_client,
					    link)->leaving;
	ret->pages = tally_counts(t->tally.pages);
	ret->bytes = tally_counts(t->tally.bytes);
	demote_counts(m, t, &ret->pages, &ret->bytes);
}
