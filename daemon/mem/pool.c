/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - a pool is made, told of, and unmade.
 */
#include "daemon/mem/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/limits.h"
#include "daemon/mem/pin.h"
#include "daemon/mem/restore.h"
#include "daemon/mem/save.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/shrink.h"
#include "daemon/mem/water.h"

#define MIN_SEGMENT  (64ull << 20)
#define MAX_SEGMENT  (1024ull << 20)
#define MIN_PAGES    4096u
#define MAX_PAGES    (4u << 20)
#define USUAL_PAGE   (16u << 10)
#define USUAL_SPACES 256u
#define LEARNED_TIERS 4u /* pools */

static uint64_t clamp(uint64_t n, uint64_t min, uint64_t max)
{
	return n < min ? min : n > max ? max : n;
}

/* A sixteenth of the pool, so that tenants share it without much waste. */
static uint64_t choose_segment_bytes(uint64_t pool_bytes)
{
	uint64_t n = clamp(pool_bytes / 16, MIN_SEGMENT, MAX_SEGMENT);

	n = n / DEV_GRANULE * DEV_GRANULE;
	return n < pool_bytes ? n : pool_bytes;
}

static int config_check(const struct mem_config *cfg)
{
	if (cfg->pool_bytes < DEV_GRANULE ||
	    (cfg->pool_max && cfg->pool_max < cfg->pool_bytes) ||
	    cfg->marks.low > cfg->marks.high ||
	    cfg->marks.high > cfg->pool_bytes ||
	    cfg->segment_bytes % DEV_GRANULE ||
	    cfg->segment_bytes > TABLE_MAX_SEGMENT_BYTES ||
	    cfg->max_pages > TABLE_MAX_ENTRIES ||
	    cfg->max_spaces > TABLE_MAX_SPACES ||
	    !policy_find(cfg->policy ? cfg->policy : ""))
		return -EINVAL;
	return 0;
}

/* An empty table as @cfg asks for. */
static int pool_new_table(struct mem *m, const struct mem_config *cfg)
{
	uint64_t pages = clamp(m->pool_max / USUAL_PAGE, MIN_PAGES,
			       MAX_PAGES);
	struct table_config tc = {
		.nr_entries = cfg->max_pages ? (uint32_t)cfg->max_pages :
					       (uint32_t)pages,
		.nr_spaces = cfg->max_spaces ? cfg->max_spaces : USUAL_SPACES,
		.segment_bytes = cfg->segment_bytes ?
					 cfg->segment_bytes :
					 choose_segment_bytes(m->pool_bytes),
		.device = dev_spec(m->dev),
	};

	return table_new(&m->table, &tc);
}

static int pool_alloc_arrays(struct mem *m)
{
	const struct table_header *h = m->table.h;

	m->segment_bytes = h->segment_bytes;
	m->nr_free = h->nr_entries;
	m->pages = calloc((size_t)h->nr_entries + 1, sizeof(*m->pages));
	m->spaces = calloc(h->nr_spaces, sizeof(*m->spaces));
	return m->pages && m->spaces ? 0 : -ENOMEM;
}

/* A name stands for one descriptor: the old goes before the new comes. */
static void pool_keep_table(struct mem *m)
{
	if (m->ops->keep_fd && dev_ops(m->dev)->survives)
		m->ops->keep_fd(m->ctx, MEM_FD_TABLE, m->table.fd);
}

static void pool_say_empty(const struct mem_fd *fds, size_t nr_fds,
			   const char *why, char *note, size_t note_bytes)
{
	size_t nr = restore_nr_segments(fds, nr_fds);

	if (nr)
		snprintf(note, note_bytes,
			 "starting empty: %s; segments dropped: %zu", why, nr);
	else
		snprintf(note, note_bytes, "starting empty: %s", why);
}

static int pool_init(struct mem *m, const struct mem_config *cfg,
		     struct mem_fd *fds, size_t nr_fds, char *note,
		     size_t note_bytes)
{
	const char *why;
	bool restored;
	int r;

	r = restore_table(m, fds, nr_fds, &why);
	if (r == -ENOMEM)
		return r;
	restored = r == 0;
	if (!restored) {
		pool_say_empty(fds, nr_fds, why, note, note_bytes);
		r = pool_new_table(m, cfg);
		if (r < 0)
			return -ENOMEM;
	}
	r = pool_alloc_arrays(m);
	if (r < 0)
		return r;
	if (restored)
		r = restore_pages(m, fds, nr_fds, note, note_bytes);
	if (r < 0)
		return r;
	restore_drop_unused(m, fds, nr_fds);
	if (!restored)
		pool_keep_table(m);
	return 0;
}

int mem_new(const struct mem_config *cfg, const struct mem_ops *ops, void *ctx,
	    struct dev *dev, struct mem_fd *fds, size_t nr_fds, char *note,
	    size_t note_bytes, struct mem **ret)
{
	struct mem *m;
	int r;

	r = config_check(cfg);
	if (r < 0)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->ops = ops;
	m->ctx = ctx;
	m->dev = dev;
	m->table = (struct table)TABLE_NULL;
	m->pool_bytes = cfg->pool_bytes / DEV_GRANULE * DEV_GRANULE;
	m->pool_max = cfg->pool_max / DEV_GRANULE * DEV_GRANULE;
	if (m->pool_max < m->pool_bytes)
		m->pool_max = m->pool_bytes;
	m->kept_max = m->pool_max + clamp(cfg->tier_bytes, 0,
					  LEARNED_TIERS * m->pool_max);
	m->on_demand = cfg->on_demand;
	m->policy = policy_find(cfg->policy ? cfg->policy : "");
	m->marks = cfg->marks;
	m->marks_bounded = cfg->marks_bounded;
	list_init(&m->ghosts);
	list_init(&m->free_pages);
	list_init(&m->tenants);
	list_init(&m->limits);
	list_init(&m->writers);
	list_init(&m->leaving);
	list_init(&m->unclaimed);
	list_init(&m->fetches);
	pins_init(&m->pins);
	r = pool_init(m, cfg, fds, nr_fds, note, note_bytes);
	if (r < 0) {
		mem_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

/* ---- the end ---- */

/* Without giving back what it held: that is in the table. */
static void pool_free_clients(struct tenant *t)
{
	list_for_each_safe(pos, &t->clients) {
		struct mem_client *c;

		c = list_entry(pos, struct mem_client, link);
		list_del(&c->link);
		list_del(&c->leave);
		map_fini(&c->holds);
		map_fini(&c->spaces);
		free(c->writer);
		free(c);
	}
}

static void pool_forget_pages(struct mem *m)
{
	for (uint32_t nr = 1; nr <= m->nr_touched; nr++)
		if (m->pages[nr].state != PAGE_FREE)
			page_forget(&m->pages[nr]);
	list_for_each_safe(pos, &m->writers)
		writer_reap(list_entry(pos, struct writer, link));
}

static void pool_free_tenants(struct mem *m)
{
	list_for_each_safe(i, &m->tenants) {
		struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each_safe(j, &t->segments)
			segment_fini(list_entry(j, struct segment, link));
		pool_free_clients(t);
		tenant_free(t);
	}
}

void mem_free(struct mem *m)
{
	if (!m)
		return;
	m->wanting = false;
	mem_set_tiers(m, NULL);
	m->working = true; /* it will not be done */
	dev_drain(m->dev);
	assert(list_empty(&m->fetches));
	pins_fini(m);
	if (m->pages)
		pool_forget_pages(m);
	for (uint32_t i = 0; m->spaces && i < m->table.h->nr_spaces; i++)
		if (m->spaces[i])
			space_free(m->spaces[i]);
	pool_free_tenants(m);
	limits_fini(m);
	map_fini(&m->segments);
	free(m->spaces);
	free(m->pages);
	table_fini(&m->table);
	free(m);
}

/* ---- telling ---- */

void mem_tell_room(struct mem *m)
{
	bool tell = m->freed && m->wanting;

	m->freed = false;
	if (!tell)
		return;
	m->wanting = false;
	m->ops->room(m->ctx);
}

void mem_has_work(struct mem *m)
{
	if (m->working)
		return;
	m->working = true;
	if (m->ops->work)
		m->ops->work(m->ctx);
}

bool mem_trim(struct mem *m)
{
	bool more;

	step_begin(m);
	more = clients_step(m);
	more |= writers_step(m);
	more |= restore_step(m);
	save_step(m);
	more |= limits_step(m);
	more |= water_step(m);
	more |= shrink_step(m);
	m->working = more;
	mem_tell_room(m); /* who is told may make more of it */
	return m->working;
}

void mem_tick(struct mem *m)
{
	bool more;

	m->freed |= m->grow_failed;
	m->grow_failed = false;
	m->trimming = true; /* what was held may be cached since */
	step_begin(m);
	more = limits_step(m);
	more |= shrink_step(m);
	if (more)
		mem_has_work(m);
	save_step(m);
	clients_trim(m);
	mem_tell_room(m);
}

uint64_t mem_epoch(const struct mem *m)
{
	return m->table.h->epoch;
}

uint32_t mem_restarts(const struct mem *m)
{
	return m->table.h->restarts;
}

bool mem_in_grace(const struct mem *m)
{
	return m->in_grace;
}
