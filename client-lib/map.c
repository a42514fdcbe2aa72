// SPDX-License-Identifier: Apache-2.0
/* map.c - segments mapped, ahead and on demand. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/map.h"
#include "client-lib/request.h"
#include "client-lib/space.h"

#define MAX_ID ((1u << 24) - 1) /* as a place can say */

static int map_grow(struct map *m)
{
	uint32_t room = 2 * m->nr + 16;
	uint64_t *bytes;
	uint32_t *ids;

	if (m->nr < m->room)
		return 0;
	ids = realloc(m->ids, room * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	m->ids = ids;
	bytes = realloc(m->bytes, room * sizeof(*bytes));
	if (!bytes)
		return -ENOMEM;
	m->bytes = bytes;
	m->room = room;
	return 0;
}

static int map_segment(struct kvd_space *sp, uint32_t id)
{
	struct device *d = sp->device;
	struct map *m = &sp->map;
	struct device_segment s;
	int r;

	r = map_grow(m);
	if (r)
		return fail(sp->k, r, "out of memory");
	r = request_map(sp, id, &s);
	if (r)
		return r;
	r = d->ops->map(d, &s);
	if (s.fd >= 0)
		close(s.fd);
	if (r)
		return fail(sp->k, r, "cannot map segment %u of %llu bytes",
			    id, (unsigned long long)s.bytes);
	m->ids[m->nr] = id;
	m->bytes[m->nr++] = s.bytes;
	return 0;
}

/* Where segment @id is in the bases; MAP_NONE: it is not mapped. */
static uint32_t map_find(struct map *m, uint32_t id)
{
	if (m->last < m->nr && m->ids[m->last] == id)
		return m->last;
	for (uint32_t i = m->nr; i-- > 0;)
		if (m->ids[i] == id)
			return m->last = i;
	return MAP_NONE;
}

void map_ahead(struct kvd_space *sp, const uint32_t *ids, uint32_t nr)
{
	int r = 0;

	for (uint32_t i = 0; i < nr && !r; i++)
		if (ids[i] <= MAX_ID && map_find(&sp->map, ids[i]) == MAP_NONE)
			r = map_segment(sp, ids[i]);
}

int map_place(struct kvd_space *sp, place_t place, uint32_t page_class,
	      uint32_t *ret_segment)
{
	uint64_t end = place_offset(place) +
		       sp->layouts[page_class].page_bytes;
	uint32_t id = place_segment(place);
	uint32_t segment = map_find(&sp->map, id);
	int r;

	if (segment == MAP_NONE) {
		r = map_segment(sp, id);
		if (r)
			return r;
		segment = sp->map.nr - 1;
	}
	if (end > sp->map.bytes[segment])
		return fail(sp->k, -EPROTO, "a page ends beyond its segment");
	*ret_segment = segment;
	return 0;
}

struct in_use {
	uint32_t segment;
	bool found;
};

static void look_at(struct hold *h, void *ctx)
{
	struct in_use *u = ctx;

	u->found |= h->segment == u->segment;
}

/* Stale pages too: they are read until their sequence is given up. */
bool map_revoke(struct kvd_space *sp, uint32_t id)
{
	const struct device_ops *ops = sp->device->ops;
	struct in_use u = { .segment = map_find(&sp->map, id) };

	if (u.segment == MAP_NONE)
		return true;
	if (!ops->unmap)
		return false;
	holds_each(sp->k, sp, look_at, &u);
	if (u.found || ops->unmap(sp->device, u.segment) < 0)
		return false;
	sp->map.ids[u.segment] = MAP_NONE;
	sp->map.bytes[u.segment] = 0;
	return true;
}

void map_forget(struct map *m)
{
	for (uint32_t i = 0; i < m->nr; i++)
		m->ids[i] = MAP_NONE;
}

void map_fini(struct map *m)
{
	free(m->ids);
	free(m->bytes);
}
