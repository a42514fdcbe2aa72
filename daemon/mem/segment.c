/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - where bytes come from: segments of a tenant, cut into granules.
 */
#include "daemon/mem/segment.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "daemon/mem/shrink.h"
#include "daemon/mem/tenant.h"
#include "daemon/util/fault.h"

static struct segment *segment_of(struct dev_job *job)
{
	return list_entry(job, struct segment, job);
}

static struct segment *segment_alloc(struct tenant *t, uint64_t bytes)
{
	uint32_t nr = (uint32_t)(bytes / DEV_GRANULE);
	struct segment *seg;

	seg = calloc(1, sizeof(*seg) + nr * sizeof(seg->slabs[0]));
	if (!seg)
		return NULL;
	list_init(&seg->link);
	list_init(&seg->importers);
	seg->m = t->m;
	seg->tenant = t;
	seg->bytes = bytes;
	seg->nr_granules = nr;
	seg->nr_free = nr;
	seg->dev.fd = -1;
	return seg;
}

/* It has memory: the tenant may use it. The map has room. */
static void segment_link(struct segment *seg)
{
	int r = map_put(&seg->m->segments, seg->id, (uintptr_t)seg);

	assert(r == 0);
	list_add_tail(&seg->tenant->segments, &seg->link);
	seg->tenant->nr_granules += seg->nr_granules;
}

static void segment_name(const struct segment *seg, char *buf, size_t bytes)
{
	snprintf(buf, bytes, MEM_FD_SEGMENT "%u", seg->id);
}

struct segment *segment_find(const struct mem *m, uint32_t id)
{
	uint64_t *v = map_get(&m->segments, id);

	return v ? (struct segment *)(uintptr_t)*v : NULL;
}

/* ---- making ---- */

static void segment_make_run(struct dev *d, struct dev_job *job)
{
	struct segment *seg = segment_of(job);

	seg->err = fault_at(FAULT_SEGMENT);
	if (seg->err == 0)
		seg->err = dev_ops(d)->segment_new(d, seg->bytes,
						   &seg->dev);
}

static void segment_keep(struct segment *seg)
{
	struct mem *m = seg->m;
	char name[32];

	if (seg->dev.fd < 0 || !dev_ops(m->dev)->survives || !m->ops->keep_fd)
		return;
	segment_name(seg, name, sizeof(name));
	m->ops->keep_fd(m->ctx, name, seg->dev.fd);
}

/* Kept outside before it is in the table, in the table before it has pages. */
static void segment_make_done(struct dev *d, struct dev_job *job)
{
	struct segment *seg = segment_of(job);
	struct tenant *t = seg->tenant;
	struct mem *m = seg->m;

	t->making = false;
	t->nr_coming = 0;
	m->nr_making--;
	if (seg->err < 0) {
		m->grow_failed = true;
		m->segment_total -= seg->bytes;
		t->segment_bytes -= seg->bytes;
		free(seg);
	} else {
		segment_keep(seg);
		seg->record = table_segment_find(&m->table);
		table_segment_put(&m->table, seg->record, seg->id,
				  (uint32_t)t->record, seg->bytes);
		segment_link(seg);
	}
	m->freed = true;
	mem_tell_room(m);
}

static uint32_t segment_new_id(struct mem *m)
{
	uint32_t *next = &m->table.h->next_segment;
	uint32_t id;

	do {
		id = *next;
		*next = id == TABLE_MAX_SEGMENT_ID ? 1 : id + 1;
	} while (segment_find(m, id));
	return id;
}

static uint64_t segment_room(const struct mem *m)
{
	uint64_t room = pool_room(m);

	return room < m->segment_bytes ? room : m->segment_bytes;
}

/* Pages of many sizes leave holes: a segment more than the limit needs. */
bool segment_is_allowed(const struct tenant *t)
{
	uint64_t each = t->m->segment_bytes;

	if (!t->max_bytes)
		return true;
	return t->segment_bytes / each <= (t->max_bytes - 1) / each + 1;
}

int segment_make(struct tenant *t, uint32_t granules)
{
	struct mem *m = t->m;
	uint64_t bytes = segment_room(m);
	struct segment *seg;

	if (t->making)
		return 0;
	if (bytes < (uint64_t)granules * DEV_GRANULE && shrink_grow(m))
		bytes = segment_room(m);
	if (bytes < (uint64_t)granules * DEV_GRANULE || m->grow_failed ||
	    m->segments.nr + m->nr_making >= TABLE_NR_SEGMENTS ||
	    !segment_is_allowed(t))
		return -ENOSPC;
	if (map_reserve(&m->segments, m->nr_making + 1) < 0)
		return -ENOMEM;
	seg = segment_alloc(t, bytes);
	if (!seg)
		return -ENOMEM;
	seg->id = segment_new_id(m);
	seg->job.run = segment_make_run;
	seg->job.done = segment_make_done;
	t->making = true;
	t->nr_coming = seg->nr_granules;
	m->nr_making++;
	t->segment_bytes += bytes;
	m->segment_total += bytes;
	dev_submit(m->dev, &seg->job);
	return 0;
}

/* Failing is no news here: who needs it will ask again, and be told. */
void segment_make_ahead(struct tenant *t)
{
	if (t->max_bytes && t->segment_bytes >= t->max_bytes)
		return;
	if (t->segment_bytes &&
	    t->nr_granules * DEV_GRANULE >= t->m->segment_bytes / 4)
		return;
	segment_make(t, 1);
}

/* ---- adopting ---- */

static void segment_adopt_run(struct dev *d, struct dev_job *job)
{
	struct segment *seg = segment_of(job);

	seg->err = dev_ops(d)->segment_adopt(d, seg->dev.fd, seg->bytes,
					     &seg->dev);
}

static void segment_adopt_done(struct dev *d, struct dev_job *job)
{
}

int segment_adopt(struct mem *m, int record, int fd)
{
	const struct table_segment *rec = &m->table.segments[record];
	struct tenant *t = NULL;
	struct segment *seg;
	int r;

	list_for_each(pos, &m->tenants)
		if (list_entry(pos, struct tenant, link)->record ==
		    (int)rec->tenant)
			t = list_entry(pos, struct tenant, link);
	if (!t || rec->bytes == 0 || rec->bytes % DEV_GRANULE ||
	    rec->bytes > m->pool_max - m->segment_total ||
	    rec->id == 0 || rec->id > TABLE_MAX_SEGMENT_ID ||
	    segment_find(m, rec->id))
		return -EINVAL;
	if (map_reserve(&m->segments, 1) < 0)
		return -ENOMEM;
	seg = segment_alloc(t, rec->bytes);
	if (!seg)
		return -ENOMEM;
	seg->record = record;
	seg->id = rec->id;
	seg->handed = true;
	seg->dev.fd = fd;
	seg->job.run = segment_adopt_run;
	seg->job.done = segment_adopt_done;
	dev_submit(m->dev, &seg->job);
	dev_drain(m->dev);
	r = seg->err;
	if (r < 0) {
		free(seg);
		return r;
	}
	t->segment_bytes += seg->bytes;
	m->segment_total += seg->bytes;
	if (m->pool_bytes < m->segment_total)
		m->pool_bytes = m->segment_total;
	segment_link(seg);
	return 0;
}

/* ---- leaving ---- */

static void segment_free_run(struct dev *d, struct dev_job *job)
{
	dev_ops(d)->segment_free(d, &segment_of(job)->dev);
}

static void segment_unlink(struct segment *seg)
{
	assert(seg->nr_pages == 0 && seg->nr_free == seg->nr_granules);
	list_del(&seg->link);
	map_del(&seg->m->segments, seg->id);
	seg->tenant->segment_bytes -= seg->bytes;
	if (seg->draining)
		shrink_forget(seg);
	else
		seg->tenant->nr_granules -= seg->nr_granules;
	seg->tenant = NULL;
}

static void segment_retire_done(struct dev *d, struct dev_job *job)
{
	struct segment *seg = segment_of(job);
	struct mem *m = seg->m;

	m->segment_total -= seg->bytes;
	m->nr_leaving--;
	m->leaving_bytes -= seg->bytes;
	m->grow_failed = false;
	m->freed = true;
	free(seg);
	mem_tell_room(m);
}

bool segment_can_retire(const struct segment *seg)
{
	return !seg->handed || !tenant_is_mapped(seg->tenant);
}

void segment_retire(struct segment *seg)
{
	struct mem *m = seg->m;
	char name[32];

	assert(segment_can_retire(seg));
	segment_unlink(seg);
	m->table.segments[seg->record].used = 0;
	segment_name(seg, name, sizeof(name));
	if (m->ops->drop_fd && dev_ops(m->dev)->survives)
		m->ops->drop_fd(m->ctx, name);
	m->nr_leaving++;
	m->leaving_bytes += seg->bytes;
	seg->job.run = segment_free_run;
	seg->job.done = segment_retire_done;
	dev_submit(m->dev, &seg->job);
}

static void segment_fini_done(struct dev *d, struct dev_job *job)
{
	free(segment_of(job));
}

void segment_fini(struct segment *seg)
{
	struct mem *m = seg->m;

	segment_unlink(seg);
	seg->job.run = segment_free_run;
	seg->job.done = segment_fini_done;
	dev_submit(m->dev, &seg->job);
	dev_drain(m->dev);
}

int segment_find_run(const struct segment *seg, uint32_t nr)
{
	uint32_t run = 0;

	if (seg->nr_free < nr)
		return -ENOSPC;
	for (uint32_t i = 0; i < seg->nr_granules; i++) {
		run = seg->slabs[i] ? 0 : run + 1;
		if (run == nr)
			return (int)(i + 1 - nr);
	}
	return -ENOSPC;
}
