/* SPDX-License-Identifier: Apache-2.0 */
/*
 * water.c - room that is made before it is asked for.
 */
#include "daemon/mem/water.h"

#include "daemon/mem/demote.h"
#include "daemon/mem/reclaim.h"
#include "daemon/mem/save.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/tenant.h"

/* ---- marks ---- */

/* Where they were chosen, of so many @unit at most, and of few none. */
static struct mem_marks marks_bound(const struct mem *m, struct mem_marks k,
				    uint64_t unit)
{
	uint64_t most = WATER_MOST_PAGES * unit;

	if (m->marks_bounded && k.low < WATER_FEWEST_PAGES * unit)
		return (struct mem_marks){ .low = 0 };
	if (m->marks_bounded && k.high > most) {
		k.low = (uint64_t)((double)k.low / (double)k.high *
				   (double)most);
		k.high = most;
	}
	k.min = k.low / 2;
	return k;
}

void mem_set_marks(struct mem *m, const struct mem_marks *marks, bool bounded)
{
	m->marks = *marks;
	m->marks_bounded = bounded;
}

struct mem_marks water_marks(const struct mem *m, uint64_t page_bytes)
{
	return marks_bound(m, m->marks, page_bytes);
}

/* The same part of the page numbers. */
static struct mem_marks number_marks(const struct mem *m)
{
	uint64_t each = m->pool_max / m->table.h->nr_entries;
	struct mem_marks k = m->marks;

	k.low /= each ? each : 1;
	k.high /= each ? each : 1;
	return marks_bound(m, k, 1);
}

/* ---- room ---- */

/* Granules of @t that are free, or would be once asked for. */
static uint64_t tenant_granules(const struct tenant *t,
				const struct size_class *but)
{
	uint64_t nr = t->nr_granules + t->nr_coming;

	list_for_each(pos, &t->classes) {
		const struct size_class *sc;

		sc = list_entry(pos, struct size_class, link);
		if (sc != but)
			nr += (uint64_t)sc->nr_empty * sc->nr_granules;
	}
	return nr;
}

uint64_t water_room(const struct size_class *sc)
{
	const struct tenant *t = sc->tenant;
	const struct mem *m = t->m;
	uint64_t granules = tenant_granules(t, sc);

	if (!m->grow_failed && segment_is_allowed(t))
		granules += pool_room_on_demand(m) / DEV_GRANULE;
	return (sc->nr_free + granules / sc->nr_granules * sc->nr_cells) *
	       sc->page_bytes;
}

/* ---- an allocation ---- */

void water_direct(struct size_class *sc, uint32_t nr)
{
	struct mem_marks k = water_marks(sc->tenant->m, sc->page_bytes);
	struct mem *m = sc->tenant->m;

	if (m->in_grace || water_room(sc) >= k.min ||
	    demote_begin(sc, nr))
		return;
	m->why = MEM_RECLAIM_DIRECT;
	while (nr && !step_is_spent(m) && water_room(sc) < k.min &&
	       !save_is_coming(sc) && reclaim_step(sc))
		nr--;
	m->why = MEM_RECLAIM_LIMITS;
}

void water_taken(struct size_class *sc)
{
	struct mem *m = sc->tenant->m;

	if (m->in_grace)
		return;
	if (water_room(sc) < water_marks(m, sc->page_bytes).low)
		sc->low = true;
	if (m->nr_free < number_marks(m).low)
		m->short_tenant = sc->tenant;
	if (sc->low || m->short_tenant)
		mem_has_work(m);
}

/* ---- the background ---- */

/* What reclaim_step() may take of the tenant at once, at most. */
static uint64_t class_stride(const struct size_class *sc)
{
	uint64_t most = sc->page_bytes;

	list_for_each(pos, &sc->tenant->classes) {
		const struct size_class *other;
		uint64_t slab;

		other = list_entry(pos, struct size_class, link);
		slab = (uint64_t)other->nr_cells * other->page_bytes;
		if (other != sc && other->nr_cached && slab > most)
			most = slab;
	}
	return most;
}

/* Return: there is more to do. */
static bool water_class(struct size_class *sc)
{
	struct mem *m = sc->tenant->m;
	uint64_t high = water_marks(m, sc->page_bytes).high;

	while (water_room(sc) < high) {
		if (step_is_spent(m))
			return true;
		step_look(m, 1);
		if (save_is_coming(sc))
			return false; /* it goes on when they are */
		if (!tenant_may_lose(sc->tenant, class_stride(sc)))
			break;
		if (demote_begin(sc, DEMOTE_PAGES))
			return false; /* it goes on when they are done */
		if (!reclaim_step(sc))
			break;
	}
	sc->low = false;
	return false;
}

/* One's own pages first, then others'. */
static bool water_numbers(struct mem *m)
{
	uint64_t high = number_marks(m).high;

	while (m->short_tenant && m->nr_free < high) {
		if (step_is_spent(m))
			return true;
		if (!reclaim_number(m->short_tenant))
			break;
	}
	m->short_tenant = NULL;
	return false;
}

bool water_step(struct mem *m)
{
	bool more = false;

	if (m->in_grace)
		return false;
	m->why = MEM_RECLAIM_BACKGROUND;
	list_for_each(i, &m->tenants) {
		struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->classes) {
			struct size_class *sc;

			sc = list_entry(j, struct size_class, link);
			if (sc->low)
				more |= water_class(sc);
		}
	}
	more |= water_numbers(m);
	m->why = MEM_RECLAIM_LIMITS;
	return more;
}

/* ---- figures ---- */

void water_stat(const struct mem *m, struct mem_stat *ret)
{
	int64_t least = INT64_MAX;

	ret->marks = m->marks;
	ret->marks.min = m->marks.low / 2;
	ret->room = pool_room_on_demand(m);
	list_for_each(i, &m->tenants) {
		const struct tenant *t = list_entry(i, struct tenant, link);

		if (list_empty(&t->clients))
			continue;
		list_for_each(j, &t->classes) {
			const struct size_class *sc;
			struct mem_marks k;
			uint64_t room;

			sc = list_entry(j, struct size_class, link);
			k = water_marks(m, sc->page_bytes);
			room = water_room(sc);
			if ((int64_t)(room - k.high) >= least)
				continue;
			least = (int64_t)(room - k.high);
			ret->room = room;
			ret->marks = k;
		}
	}
}
