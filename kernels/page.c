/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.c - computes a page's byte layout from its geometry. Pure; any thread.
 */
#include <errno.h>
#include <stddef.h>
#include "kernels/page.h"

#define PART_ALIGN 16u /* of each part of a record */

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

/* Bytes of codes of one page of @dim elements in @format. */
static uint64_t codes_bytes(uint32_t format, uint64_t tokens, uint32_t dim)
{
	return round_up(tokens * dim * page_code_bytes(format), PART_ALIGN);
}

static uint64_t meta_bytes(uint32_t format, uint64_t tokens, uint32_t dim)
{
	if (format != KVD_INT8 || !dim)
		return 0;
	return round_up(tokens * sizeof(struct int8_meta), PART_ALIGN);
}

int page_layout_init(struct page_layout *l, const struct kvd_geometry *g,
                     uint32_t group, uint32_t k_format, uint32_t v_format)
{
	const struct kvd_group *gr;
	uint64_t k_meta, v_codes, v_meta, record, page;
	uint32_t tokens = g->page_tokens;

	if (group >= g->nr_groups || k_format >= KVD_NR_FORMATS ||
	    v_format >= KVD_NR_FORMATS)
		return -EINVAL;
	gr = &g->groups[group];
	k_meta = codes_bytes(k_format, tokens, gr->k_dim);
	v_codes = k_meta + meta_bytes(k_format, tokens, gr->k_dim);
	v_meta = v_codes + codes_bytes(v_format, tokens, gr->v_dim);
	record = v_meta + meta_bytes(v_format, tokens, gr->v_dim);
	page = round_up(record * gr->nr_layers * gr->nr_kv_heads, PAGE_ALIGN);
	if (page > KVD_MAX_PAGE_BYTES)
		return -E2BIG;
	*l = (struct page_layout){
		.page_tokens = tokens,
		.nr_layers = gr->nr_layers,
		.nr_heads = gr->nr_kv_heads,
		.k_dim = gr->k_dim,
		.v_dim = gr->v_dim,
		.k_format = k_format,
		.v_format = v_format,
		.k_meta = k_meta,
		.v_codes = v_codes,
		.v_meta = v_meta,
		.record_bytes = record,
		.page_bytes = page,
	};
	return 0;
}
