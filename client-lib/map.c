// SPDX-License-Identifier: Apache-2.0
/* map.c - segments mapped, ahead and on demand. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "client-lib/error.h"
#include "client-lib/map.h"
#include "client-lib/request.h"
#include "client-lib/space.h"

#define MAX_ID ((1u << 24) - 1) /* as a place can say */

static int map_grow(struct map *m, uint32_t id, uint32_t nr_segments)
{
	if (id >= m->nr_ids) {
		uint32_t nr = 2 * id + 16;
		uint32_t *p = realloc(m->local, nr * sizeof(*p));

		if (!p)
			return -ENOMEM;
		for (uint32_t i = m->nr_ids; i < nr; i++)
			p[i] = MAP_NONE;
		m->local = p;
		m->nr_ids = nr;
	}
	if (nr_segments >= m->nr_bytes) {
		uint32_t nr = 2 * nr_segments + 16;
		uint64_t *p = realloc(m->bytes, nr * sizeof(*p));

		if (!p)
			return -ENOMEM;
		m->bytes = p;
		m->nr_bytes = nr;
	}
	return 0;
}

static int map_segment(struct kvd_space *sp, uint32_t id)
{
	struct device *d = sp->device;
	struct device_segment s;
	int r;

	r = map_grow(&sp->map, id, d->nr_segments);
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
	sp->map.local[id] = d->nr_segments - 1;
	sp->map.bytes[d->nr_segments - 1] = s.bytes;
	return 0;
}

static bool map_has(const struct map *m, uint32_t id)
{
	return id < m->nr_ids && m->local[id] != MAP_NONE;
}

void map_ahead(struct kvd_space *sp, const uint32_t *ids, uint32_t nr)
{
	int r = 0;

	for (uint32_t i = 0; i < nr && !r; i++)
		if (ids[i] <= MAX_ID && !map_has(&sp->map, ids[i]))
			r = map_segment(sp, ids[i]);
}

int map_place(struct kvd_space *sp, place_t place, uint32_t page_class,
	      uint32_t *ret_segment)
{
	uint32_t id = place_segment(place), segment;
	uint64_t end = place_offset(place) +
		       sp->layouts[page_class].page_bytes;
	int r;

	if (!map_has(&sp->map, id)) {
		r = map_segment(sp, id);
		if (r)
			return r;
	}
	segment = sp->map.local[id];
	if (end > sp->map.bytes[segment])
		return fail(sp->k, -EPROTO, "a page ends beyond its segment");
	*ret_segment = segment;
	return 0;
}

void map_forget(struct map *m)
{
	for (uint32_t i = 0; i < m->nr_ids; i++)
		m->local[i] = MAP_NONE;
}

void map_fini(struct map *m)
{
	free(m->local);
	free(m->bytes);
}
