/* SPDX-License-Identifier: Apache-2.0 */
/*
 * geometry.c - checks, names and hashes a geometry. Pure; any thread.
 *
 * A geometry that passes kvd_geometry_check() has pages that
 * page_layout_init() accepts in its own formats: everything later (pool,
 * protocol, kernels) relies on that and checks sizes no more.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#define XXH_FORCE_MEMORY_ACCESS 0 /* by memcpy: no aliasing */
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "kernels/page.h"

#define DIM_STEP 8u /* k_dim and v_dim are multiples of this */

static const char *const format_names[KVD_NR_FORMATS] = {
	[KVD_F16] = "f16",
	[KVD_BF16] = "bf16",
	[KVD_INT8] = "int8",
};

static const char *group_check(const struct kvd_group *gr)
{
	if (!gr->nr_layers || gr->nr_layers > KVD_MAX_LAYERS)
		return "nr_layers must be 1 to 512";
	if (!gr->nr_kv_heads || gr->nr_kv_heads > KVD_MAX_HEADS)
		return "nr_kv_heads must be 1 to 512";
	if (gr->head_first > UINT32_MAX - gr->nr_kv_heads)
		return "head_first is out of range";
	if (!gr->k_dim || gr->k_dim > KVD_MAX_DIM || gr->k_dim % DIM_STEP)
		return "k_dim must be a multiple of 8, 8 to 1024";
	if (gr->v_dim > KVD_MAX_DIM || gr->v_dim % DIM_STEP)
		return "v_dim must be a multiple of 8, 0 to 1024";
	return NULL;
}

const char *kvd_geometry_check(const struct kvd_geometry *g)
{
	struct page_layout l;
	const char *err;
	uint32_t i;

	if (g->size != sizeof(*g))
		return "size is not sizeof(struct kvd_geometry)";
	if (g->page_tokens != 32 && g->page_tokens != 64 &&
	    g->page_tokens != 128)
		return "page_tokens must be 32, 64 or 128";
	if (g->k_format >= KVD_NR_FORMATS)
		return "k_format is unknown";
	if (g->v_format >= KVD_NR_FORMATS)
		return "v_format is unknown";
	if (g->rope_order >= KVD_NR_ROPE_ORDERS)
		return "rope_order is unknown";
	if (g->tile_order >= KVD_NR_TILE_ORDERS)
		return "tile_order is unknown";
	if (!g->nr_groups || g->nr_groups > KVD_MAX_GROUPS)
		return "nr_groups must be 1 to 8";
	for (i = 0; i < g->nr_groups; i++) {
		err = group_check(&g->groups[i]);
		if (err)
			return err;
		if (page_layout_init(&l, g, i, g->k_format, g->v_format))
			return "a page of this group would exceed 64 MiB";
	}
	return NULL;
}

uint64_t kvd_geometry_fingerprint(const struct kvd_geometry *g)
{
	uint32_t f[6 + 6 * KVD_MAX_GROUPS], i, n = 0;

	f[n++] = htole32(g->page_tokens);
	f[n++] = htole32(g->k_format);
	f[n++] = htole32(g->v_format);
	f[n++] = htole32(g->rope_order);
	f[n++] = htole32(g->tile_order);
	f[n++] = htole32(g->nr_groups);
	for (i = 0; i < g->nr_groups; i++) {
		const struct kvd_group *gr = &g->groups[i];

		f[n++] = htole32(gr->nr_layers);
		f[n++] = htole32(gr->nr_kv_heads);
		f[n++] = htole32(gr->head_first);
		f[n++] = htole32(gr->k_dim);
		f[n++] = htole32(gr->v_dim);
		f[n++] = htole32(gr->window);
	}
	return XXH3_64bits(f, n * sizeof(f[0]));
}

const char *kvd_format_name(uint32_t format)
{
	return format < KVD_NR_FORMATS ? format_names[format] : "?";
}

int kvd_format_parse(const char *name)
{
	int i;

	for (i = 0; i < KVD_NR_FORMATS; i++)
		if (!strcmp(name, format_names[i]))
			return i;
	return -EINVAL;
}
