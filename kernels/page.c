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

/* What an example takes: a change here changes pages that are in use. */
PAGE_ASSERT(sizeof(struct page_layout) == 19 * 4);

int page_layout_init(struct page_layout *l, const struct kvd_geometry *g,
                     uint32_t group, uint32_t k_format, uint32_t v_format)
{
	const struct kvd_group *gr;
	uint64_t record, page;
	uint32_t tokens = g->page_tokens;
	uint32_t v_group = g->v_group ? g->v_group : V_GROUP_DEFAULT;
	struct page_layout x;

	if (group >= g->nr_groups || k_format >= KVD_NR_FORMATS ||
	    v_format >= KVD_NR_FORMATS)
		return -EINVAL;
	gr = &g->groups[group];
	x = (struct page_layout){
		.page_tokens = tokens,
		.nr_layers = gr->nr_layers,
		.nr_heads = gr->nr_kv_heads,
		.k_dim = gr->k_dim,
		.v_dim = gr->v_dim,
		.k_format = k_format,
		.v_format = v_format,
		.k_basis = format_basis(g->k_format),
		.v_basis = format_basis(gr->v_dim ? g->v_format : g->k_format),
		.rope_order = g->rope_order,
		.tile_order = g->tile_order,
		.v_group = v_group,
		.k_row = codes_row_bytes(g->tile_order, k_format, gr->k_dim),
		.v_row = codes_row_bytes(g->tile_order, v_format, gr->v_dim),
	};
	x.k_meta = round_up((uint64_t)tokens * x.k_row, PART_ALIGN);
	x.v_codes = x.k_meta + round_up(page_meta_bytes(k_format, 0, tokens,
	                                                gr->k_dim, v_group),
	                                PART_ALIGN);
	x.v_meta = x.v_codes + round_up((uint64_t)tokens * x.v_row, PART_ALIGN);
	record = x.v_meta;
	if (gr->v_dim)
		record += round_up(page_meta_bytes(v_format, 1, tokens,
		                                   gr->v_dim, v_group),
		                   PART_ALIGN);
	page = round_up(record * gr->nr_layers * gr->nr_kv_heads, PAGE_ALIGN);
	if (page > KVD_MAX_PAGE_BYTES)
		return -E2BIG;
	x.record_bytes = record;
	x.page_bytes = page;
	*l = x;
	return 0;
}

/* Its tokens are appended in another class than the geometry's formats. */
static int group_has_two(const struct kvd_geometry *g, uint32_t group)
{
	return !g->groups[group].exact &&
	       (format_whole(g->k_format) || format_whole(g->v_format) ||
	        g->exact_pages);
}

/* Its sealed pages may be stored once more, smaller. */
static int group_demotes(const struct kvd_geometry *g, uint32_t group)
{
	return g->demote_k && !g->groups[group].exact;
}

uint32_t geometry_nr_classes(const struct kvd_geometry *g)
{
	uint32_t nr = g->nr_groups, i;

	for (i = 0; i < g->nr_groups; i++)
		nr += group_has_two(g, i) + group_demotes(g, i);
	return nr;
}

uint32_t geometry_sealed_class(const struct kvd_geometry *g, uint32_t group)
{
	uint32_t c = g->nr_groups, i;

	if (!group_has_two(g, group))
		return group;
	for (i = 0; i < group; i++)
		c += group_has_two(g, i);
	return c;
}

uint32_t geometry_demoted_class(const struct kvd_geometry *g, uint32_t group)
{
	uint32_t c = g->nr_groups, i;

	if (!group_demotes(g, group))
		return PAGE_NO_CLASS;
	for (i = 0; i < g->nr_groups; i++)
		c += group_has_two(g, i);
	for (i = 0; i < group; i++)
		c += group_demotes(g, i);
	return c;
}

uint32_t geometry_class_group(const struct kvd_geometry *g, uint32_t c)
{
	uint32_t i;

	for (i = 0; c >= g->nr_groups; i++)
		if (geometry_sealed_class(g, i) == c ||
		    geometry_demoted_class(g, i) == c)
			return i;
	return c;
}

void geometry_class_formats(const struct kvd_geometry *g, uint32_t c,
                            uint32_t *ret_k, uint32_t *ret_v)
{
	uint32_t group = geometry_class_group(g, c);

	*ret_k = *ret_v = g->open_format;
	if (geometry_demoted_class(g, group) == c) {
		*ret_k = g->demote_k;
		*ret_v = g->demote_v;
	} else if (!g->groups[group].exact && geometry_sealed_class(g, group) == c) {
		*ret_k = g->k_format;
		*ret_v = g->v_format;
	}
}

int page_layout_class(struct page_layout *l, const struct kvd_geometry *g,
                      uint32_t c)
{
	uint32_t k, v;

	geometry_class_formats(g, c, &k, &v);
	return page_layout_init(l, g, geometry_class_group(g, c), k, v);
}
