// SPDX-License-Identifier: Apache-2.0
/*
 * trace_pool.c - a pool that holds a given number of tokens.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include "tools/kvbench/trace_pool.h"

/* What the daemon does: daemon/mem/pool.c, daemon/dev/dev.h. */
#define GRANULE        (2ull << 20)
#define BYTES_A_NUMBER (16ull << 10)
#define MIN_NUMBERS    4096u
#define SEGMENT        (64ull << 20)

#define MAX_HEADS 64u
#define MIN_DIM   32u
#define NEAR      1e-3

/* A slab is one granule only where it wastes at most a 16th of it. */
static bool slab_is_granule(uint64_t page_bytes)
{
	return page_bytes <= GRANULE && GRANULE % page_bytes * 16 <= GRANULE;
}

static uint64_t numbers(uint64_t pool_bytes)
{
	uint64_t nr = pool_bytes / BYTES_A_NUMBER;

	return nr < MIN_NUMBERS ? MIN_NUMBERS : nr;
}

/* The layouts of @p->geometry. Return: 0 or -EINVAL. */
static int layouts(struct trace_pool *p)
{
	const struct kvd_geometry *g = &p->geometry;

	if (kvd_geometry_check(g) || page_layout_class(&p->open, g, 0) ||
	    page_layout_class(&p->sealed, g, geometry_sealed_class(g, 0)))
		return -EINVAL;
	p->small = p->sealed;
	if (geometry_demoted_class(g, 0) == PAGE_NO_CLASS)
		return 0;
	return page_layout_class(&p->small, g, geometry_demoted_class(g, 0));
}

/* As many granules as come nearest to @tokens. Return: 0 or -EINVAL. */
static int size(struct trace_pool *p, uint64_t tokens)
{
	uint64_t want = tokens / p->geometry.page_tokens, cells, granules;

	if (!slab_is_granule(p->sealed.page_bytes) ||
	    !slab_is_granule(p->small.page_bytes))
		return -EINVAL;
	cells = GRANULE / p->sealed.page_bytes;
	granules = (want + cells / 2) / cells;
	if (!granules)
		granules = 1;
	p->pages = granules * cells;
	p->small_pages = granules * (GRANULE / p->small.page_bytes);
	p->tokens = p->pages * p->geometry.page_tokens;
	p->bytes = granules * GRANULE;
	p->segment_bytes = p->bytes < SEGMENT ? p->bytes : SEGMENT;
	return p->small_pages <= numbers(p->bytes) ? 0 : -EINVAL;
}

static double error_of(const struct trace_pool *p, uint64_t tokens)
{
	double e = (double)p->tokens / (double)tokens - 1;

	return e < 0 ? -e : e;
}

/* Near enough and smaller, or at least nearer. */
static bool is_better(const struct trace_pool *a, const struct trace_pool *b,
                      uint64_t tokens)
{
	double ea = error_of(a, tokens), eb = error_of(b, tokens);

	if (ea <= NEAR && eb <= NEAR)
		return a->sealed.page_bytes < b->sealed.page_bytes;
	return ea < eb;
}

int trace_pool_fit(struct trace_pool *p, const struct format_pair *format,
                   const struct format_pair *demote, uint32_t page_tokens,
                   uint64_t tokens)
{
	struct trace_pool try = { .geometry = { .size = sizeof(try.geometry),
		                                .page_tokens = page_tokens,
		                                .k_format = format->k,
		                                .v_format = format->v,
		                                .demote_k = demote ? demote->k : 0,
		                                .demote_v = demote ? demote->v : 0,
		                                .nr_groups = 1 } };
	struct kvd_group *g = &try.geometry.groups[0];
	uint32_t heads, dim;
	bool found = false;

	for (heads = 1; heads <= MAX_HEADS; heads++) {
		for (dim = MIN_DIM; dim <= KVD_MAX_DIM; dim += 8) {
			*g = (struct kvd_group){ .nr_layers = 1,
				                 .nr_kv_heads = heads,
				                 .k_dim = dim,
				                 .v_dim = dim };
			if (layouts(&try) || size(&try, tokens))
				continue;
			if (!found || is_better(&try, p, tokens))
				*p = try;
			found = true;
		}
	}
	return found ? 0 : -EINVAL;
}
