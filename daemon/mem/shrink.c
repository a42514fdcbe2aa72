/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shrink.c - a pool that is larger than it may be gives segments back.
 */
#include "daemon/mem/shrink.h"

#include <assert.h>
#include <errno.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/mapped.h"
#include "daemon/mem/move.h"

/* ---- out of use, and into it again ---- */

static void segment_drain(struct segment *seg)
{
	for (uint32_t i = 0; i < seg->nr_granules; i++)
		if (seg->slabs[i] && seg->slabs[i]->first == i)
			slab_set_aside(seg->slabs[i]);
	seg->tenant->nr_granules -= seg->nr_free;
	seg->m->draining_bytes += seg->bytes;
	seg->draining = true;
}

static void segment_use(struct segment *seg)
{
	seg->draining = false;
	seg->m->draining_bytes -= seg->bytes;
	seg->tenant->nr_granules += seg->nr_free;
	for (uint32_t i = 0; i < seg->nr_granules; i++)
		if (seg->slabs[i] && seg->slabs[i]->first == i)
			slab_bring_back(seg->slabs[i]);
}

/* ---- which ---- */

static bool goes_before(const struct segment *a, const struct segment *b)
{
	uint32_t a_held = a->nr_pages - a->nr_cached;
	uint32_t b_held = b->nr_pages - b->nr_cached;

	if (a_held != b_held)
		return a_held < b_held;
	return a->nr_cached < b->nr_cached;
}

/* Bytes of segments that @t may put pages in. */
static uint64_t tenant_usable(const struct tenant *t)
{
	uint64_t bytes = 0;

	list_for_each(pos, &t->segments) {
		const struct segment *seg;

		seg = list_entry(pos, struct segment, link);
		bytes += seg->draining ? 0 : seg->bytes;
	}
	return bytes;
}

/* Would @t be left with less than it has of what it was promised? */
static bool drain_breaks_min(const struct segment *seg)
{
	const struct tenant *t = seg->tenant;
	uint64_t keep = t->charged - t->tally.bytes[PAGE_REVOKED];

	if (keep > t->min_bytes)
		keep = t->min_bytes;
	return keep && tenant_usable(t) < keep + seg->bytes;
}

static struct segment *shrink_choose(const struct mem *m)
{
	struct segment *best = NULL;

	list_for_each(i, &m->tenants) {
		struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->segments) {
			struct segment *seg;

			seg = list_entry(j, struct segment, link);
			if (!seg->draining && !drain_breaks_min(seg) &&
			    (!best || goes_before(seg, best)))
				best = seg;
		}
	}
	return best;
}

/* Bytes of segments, without those that go. */
static uint64_t shrink_stays(const struct mem *m)
{
	return m->segment_total - m->draining_bytes - m->leaving_bytes;
}

static void shrink_mark(struct mem *m)
{
	struct segment *seg;

	while (shrink_stays(m) > m->pool_bytes &&
	       !step_is_spent(m) && (seg = shrink_choose(m))) {
		segment_drain(seg);
		step_look(m, m->segments.nr + seg->nr_granules);
	}
}

/* What need not go any more. */
static void tenant_unmark(struct tenant *t)
{
	struct mem *m = t->m;

	list_for_each(pos, &t->segments) {
		struct segment *seg = list_entry(pos, struct segment, link);

		if (seg->draining && !seg->revoked &&
		    shrink_stays(m) + seg->bytes <= m->pool_bytes)
			segment_use(seg);
	}
}

static void shrink_unmark(struct mem *m)
{
	list_for_each(pos, &m->tenants)
		tenant_unmark(list_entry(pos, struct tenant, link));
}

/* ---- revoked ---- */

static void revoked_count(struct segment *seg)
{
	struct tenant *t = seg->tenant;

	t->charged += seg->bytes;
	t->tally.bytes[PAGE_REVOKED] += seg->bytes;
	seg->m->tally.bytes[PAGE_REVOKED] += seg->bytes;
	if (t->max_bytes && t->charged > t->max_bytes)
		t->lowered = true;
}

static void revoked_uncount(struct segment *seg)
{
	struct tenant *t = seg->tenant;

	t->charged -= seg->bytes;
	t->tally.bytes[PAGE_REVOKED] -= seg->bytes;
	seg->m->tally.bytes[PAGE_REVOKED] -= seg->bytes;
	if (t->charged <= t->max_bytes)
		t->lowered = false;
}

void shrink_forget(struct segment *seg)
{
	seg->m->draining_bytes -= seg->bytes;
	if (seg->revoked)
		revoked_uncount(seg);
	seg->revoked = false;
	mapped_forget(seg);
}

/* It is empty, and draining. */
static void segment_revoke(struct segment *seg)
{
	if (segment_can_retire(seg)) {
		segment_retire(seg);
		return;
	}
	if (mapped_list(seg) < 0)
		return; /* again with the next tick */
	seg->revoked = true;
	revoked_count(seg);
	mapped_tell(seg);
}

/* It may be asked for by nobody any more: those who might have it have not. */
static void segment_end_revoked(struct segment *seg)
{
	mapped_tell(seg);
	if (!list_empty(&seg->importers) && !segment_can_retire(seg))
		return;
	seg->handed = false;
	seg->m->freed = true;
	segment_retire(seg);
}

/* ---- a step ---- */

/* Return: pages were given up, so that others can move. */
static bool segment_step(struct segment *seg)
{
	struct mem *m = seg->m;

	step_look(m, 1);
	if (seg->revoked)
		segment_end_revoked(seg);
	else if (seg->nr_pages == 0)
		segment_revoke(seg);
	else if (!m->move && seg->nr_cached)
		return move_some(seg) == MOVE_DONE && !m->move;
	return false;
}

static bool tenant_step(struct tenant *t)
{
	bool more = false;

	list_for_each_safe(pos, &t->segments) {
		struct segment *seg = list_entry(pos, struct segment, link);

		if (!seg->draining)
			continue;
		if (step_is_spent(t->m))
			return true;
		more |= segment_step(seg);
	}
	return more;
}

bool shrink_step(struct mem *m)
{
	bool more = false;

	if (m->in_grace)
		return false;
	shrink_mark(m);
	if (m->draining_bytes) {
		shrink_unmark(m);
		list_for_each(pos, &m->tenants)
			more |= tenant_step(list_entry(pos, struct tenant,
						       link));
	}
	if (m->segment_total <= m->pool_bytes)
		m->shrunk_from = 0;
	return more;
}

/* ---- the size ---- */

bool shrink_grow(struct mem *m)
{
	uint64_t more = m->pool_max - m->pool_bytes;

	if (!m->on_demand || !more || m->segment_total > m->pool_bytes)
		return false;
	m->pool_bytes += more < m->segment_bytes ? more : m->segment_bytes;
	return true;
}

int mem_resize(struct mem *m, uint64_t bytes)
{
	bytes = bytes / DEV_GRANULE * DEV_GRANULE;
	if (!bytes || bytes > m->pool_max)
		return -EINVAL;
	if (bytes < m->min_total)
		return -ERANGE;
	if (m->in_grace)
		return -EAGAIN;
	if (m->segment_total > m->pool_bytes || m->segment_total > bytes)
		m->shrunk_from = m->segment_total;
	m->pool_bytes = bytes;
	m->trimming = true; /* pins may have a part of it */
	m->freed = true;    /* or there is room */
	mem_has_work(m);
	mem_tell_room(m);
	return 0;
}

void mem_size(const struct mem *m, struct mem_size *ret)
{
	*ret = (struct mem_size){
		.bytes = m->pool_bytes,
		.max = m->pool_max,
		.segments = m->segment_total,
		.draining = m->draining_bytes,
		.revoked = m->tally.bytes[PAGE_REVOKED],
		.moved = m->nr_moved,
		.taken = m->nr_taken,
	};
}

void mem_unmapped(struct mem_client *c, uint32_t segment)
{
	struct segment *seg = segment_find(c->m, segment);

	if (!seg || seg->tenant != c->tenant || !seg->revoked)
		return;
	mapped_ack(seg, c);
	if (list_empty(&seg->importers))
		segment_end_revoked(seg);
	if (c->m->draining_bytes)
		mem_has_work(c->m); /* to tell of the next */
	mem_tell_room(c->m);
}

/* ---- the walker ---- */

uint64_t shrink_most(const struct mem *m)
{
	return m->shrunk_from > m->pool_bytes ? m->shrunk_from : m->pool_bytes;
}

uint64_t shrink_cells(const struct segment *seg)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; seg->draining && i < seg->nr_granules; i++)
		if (seg->slabs[i] && seg->slabs[i]->first == i)
			nr += seg->slabs[i]->nr_free;
	return nr;
}

static const char *verify_tenant(const struct tenant *t, uint64_t *draining,
				 uint64_t *revoked)
{
	uint64_t mine = 0;

	list_for_each(pos, &t->segments) {
		const struct segment *seg;

		seg = list_entry(pos, struct segment, link);
		if (seg->draining)
			*draining += seg->bytes;
		if (seg->revoked && (!seg->draining || seg->nr_pages))
			return "a revoked segment is in use";
		if (seg->revoked)
			mine += seg->bytes;
		if (!seg->revoked && !list_empty(&seg->importers))
			return "a segment that is not revoked is to be unmapped";
	}
	*revoked += mine;
	return mine == t->tally.bytes[PAGE_REVOKED] ? NULL :
	       "the revoked bytes of a tenant are not its segments'";
}

const char *shrink_verify(const struct mem *m)
{
	uint64_t draining = 0, revoked = 0;
	const char *why = NULL;

	list_for_each(pos, &m->tenants)
		if (!why)
			why = verify_tenant(list_entry(pos, struct tenant,
						       link),
					    &draining, &revoked);
	if (why)
		return why;
	if (draining != m->draining_bytes)
		return "the bytes of draining segments are miscounted";
	return revoked == m->tally.bytes[PAGE_REVOKED] ? NULL :
	       "the pool's revoked bytes are miscounted";
}
