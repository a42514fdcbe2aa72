/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_pool.h - a pool that holds a given number of tokens.
 *
 * The daemon cuts granules of 2 MiB into pages, and has numbers for so many
 * pages as the pool has 16 KiB. So the pages of a toy geometry would run out
 * of numbers before memory; and a pool's size moves in steps of a granule.
 * What decides a page's bytes is ours to choose: the geometry is the smallest
 * of which a whole number of granules holds the tokens to within 1 in 1000.
 */
#ifndef TOOLS_KVBENCH_TRACE_POOL_H
#define TOOLS_KVBENCH_TRACE_POOL_H

#include <stdint.h>
#include "kernels/page.h"
#include "tools/kvbench/formats.h"

struct trace_pool {
	struct kvd_geometry geometry;
	struct page_layout open;   /* where tokens are written */
	struct page_layout sealed; /* the same, where there is one class */
	struct page_layout small;  /* demoted; as sealed where none is */
	uint64_t pages;            /* sealed ones that fill it */
	uint64_t tokens;           /* pages * page_tokens */
	uint64_t small_pages;      /* that fill it once they are demoted */
	uint64_t bytes;            /* of the pool */
	uint64_t segment_bytes;
};

/**
 * trace_pool_fit() - choose geometry and size
 * @demote:	what pages are demoted to; NULL: nothing
 * @tokens:	to hold, in pages of @format
 *
 * Return: 0, or -EINVAL when nothing near does; the caller looks at how near.
 */
int trace_pool_fit(struct trace_pool *p, const struct format_pair *format,
                   const struct format_pair *demote, uint32_t page_tokens,
                   uint64_t tokens);

#endif
