/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_pool.h - pages in a GPU's memory, and the tables to read them with.
 *
 * First everything is taken of the GPU's memory; when it turns out to be
 * there, everything is put into it. Pages are copies of one, of random tokens,
 * made on the host; they lie in random order.
 */
#ifndef TOOLS_KVBENCH_GPU_POOL_H
#define TOOLS_KVBENCH_GPU_POOL_H

#include "tools/kvbench/gpu.h"
#include "tools/kvbench/pages.h"

/* Pages of one layout. */
struct gpu_pool {
	struct page_layout layout;
	cu_ptr base;
	uint32_t nr; /* pages */
	bool filled; /* to be, with tokens */
};

static inline uint64_t gpu_pool_bytes(const struct gpu_pool *p)
{
	return (uint64_t)p->nr * p->layout.page_bytes;
}

/* What the pages' records hold, without what rounds pages up. */
static inline uint64_t gpu_page_bytes(const struct page_layout *l)
{
	return (uint64_t)l->nr_layers * l->nr_heads * l->record_bytes;
}

/* struct kv_tables on the device, and what it points to. */
struct gpu_tables {
	cu_ptr tables, floats;
};

void gpu_pool_take(struct gpu_pool *p, struct gpu *g);

/**
 * gpu_pool_put() - fill the pages
 * @of:		layouts and tables, of pages_plan()
 *
 * Return: 0 or -errno, with a line on stderr.
 */
int gpu_pool_put(const struct gpu_pool *p, struct gpu *g,
                 const struct pages *of);

void gpu_tables_take(struct gpu_tables *t, struct gpu *g,
                     const struct synth *s);
/* Return: as gpu_pool_put(). */
int gpu_tables_put(const struct gpu_tables *t, struct gpu *g,
                   const struct synth *s);

/* "needs 12 MiB of memory, 8 are there": what was taken since @used. */
void gpu_need_text(const struct gpu *g, uint64_t used, char *text,
                   size_t bytes);

#endif
