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
#include <stdio.h>
#include <string.h>
#define XXH_FORCE_MEMORY_ACCESS 0 /* by memcpy: no aliasing */
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "kernels/page.h"

#define DIM_STEP 8u /* k_dim and v_dim are multiples of this */

#define MAX_EXACT_PAGES 16u
#define MAX_SPARSE 65536u /* elements of a record: their places are u16 */

static const char *const format_names[KVD_NR_FORMATS] = {
	[KVD_F16] = "f16",
	[KVD_BF16] = "bf16",
	[KVD_INT8] = "int8",
	[KVD_FP8_E4M3] = "fp8_e4m3",
	[KVD_FP8_E5M2] = "fp8_e5m2",
	[KVD_INT4] = "int4",
	[KVD_INT4H] = "int4h",
	[KVD_KIVI4] = "kivi4",
	[KVD_KIVI2] = "kivi2",
	[KVD_KVQUANT4] = "kvquant4",
	[KVD_KVQUANT3] = "kvquant3",
	[KVD_KVQUANT2] = "kvquant2",
	[KVD_KVARN4] = "kvarn4",
	[KVD_KVARN3] = "kvarn3",
	[KVD_KVARN2] = "kvarn2",
	[KVD_OSCAR2] = "oscar2",
};

/* Names of pairs: of the same format the one name does. */
static const struct pair {
	const char *name;
	uint32_t k_format, v_format;
} pairs[] = {
	{ "kvarn44", KVD_KVARN4, KVD_KVARN4 },
	{ "kvarn42", KVD_KVARN4, KVD_KVARN2 },
	{ "kvarn33", KVD_KVARN3, KVD_KVARN3 },
	{ "kvarn22", KVD_KVARN2, KVD_KVARN2 },
};

#define NR_PAIRS (sizeof(pairs) / sizeof(pairs[0]))

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
	if (gr->exact > 1)
		return "exact must be 0 or 1";
	return NULL;
}

static int is_16(uint32_t format)
{
	return format == KVD_F16 || format == KVD_BF16;
}

/* What formats ask of the rest of the geometry. */
static const char *formats_check(const struct kvd_geometry *g)
{
	int k = format_coding(g->k_format) == CODING_KVQUANT;

	if ((format_needs_profile(g->k_format) ||
	     format_needs_profile(g->v_format)) &&
	    !g->profile)
		return "the format needs a profile: make one with kvctl "
		       "calibrate";
	if (k && g->rope_order == KVD_ROPE_POST)
		return "kvquant's keys are stored before RoPE: rope_order "
		       "must be KVD_ROPE_PRE";
	if (!is_16(g->open_format))
		return "open_format must be KVD_F16 or KVD_BF16";
	if (g->exact_pages > MAX_EXACT_PAGES)
		return "exact_pages must be 0 to 16";
	if (g->v_group && g->v_group != 32 && g->v_group != 64 &&
	    g->v_group != 128)
		return "v_group must be 32, 64 or 128";
	return NULL;
}

/* Can a side be stored in format @to without a profile, from @from? */
static int can_demote(uint32_t from, uint32_t to)
{
	return to < KVD_NR_FORMATS && format_bits(to) <= format_bits(from) &&
	       format_basis(to) == format_basis(from) && !is_16(to) &&
	       format_coding(to) != CODING_FP8 && !format_needs_profile(to) &&
	       !format_needs_profile(from);
}

/* Pages are stored once more without a transform, and without tables. */
static const char *demote_check(const struct kvd_geometry *g)
{
	if (!g->demote_k && !g->demote_v)
		return NULL;
	if (!can_demote(g->k_format, g->demote_k) ||
	    !can_demote(g->v_format, g->demote_v))
		return "demote_k and demote_v must be formats of fewer bits "
		       "and the same basis, not fp8 and without a profile";
	if (geometry_nr_classes(g) > PAGE_MAX_CLASSES)
		return "too many groups for demotion: their pages are of more "
		       "than 16 classes";
	return NULL;
}

static const char *group_formats_check(const struct kvd_geometry *g,
                                       const struct kvd_group *gr)
{
	if (g->rope_order == KVD_ROPE_PRE && !gr->v_dim)
		return "v_dim must not be 0 where keys are stored before RoPE";
	if (g->tile_order == KVD_TILE_MMA &&
	    (!gr->v_dim || gr->k_dim % TILE_DIM || gr->v_dim % TILE_DIM))
		return "k_dim and v_dim must be multiples of 32 in the tile "
		       "order of CUDA";
	if ((format_coding(g->k_format) == CODING_KVQUANT &&
	     g->page_tokens * gr->k_dim > MAX_SPARSE) ||
	    (format_coding(g->v_format) == CODING_KVQUANT &&
	     g->page_tokens * gr->v_dim > MAX_SPARSE))
		return "kvquant's pages must have at most 65536 elements of a "
		       "head";
	return NULL;
}

/* All classes of a group must fit. */
static const char *group_size_check(const struct kvd_geometry *g, uint32_t i)
{
	uint32_t demoted = geometry_demoted_class(g, i);
	struct page_layout l, d;

	if (page_layout_class(&l, g, i) ||
	    page_layout_class(&l, g, geometry_sealed_class(g, i)))
		return "a page of this group would exceed 64 MiB";
	if (demoted != PAGE_NO_CLASS &&
	    (page_layout_class(&d, g, demoted) ||
	     d.page_bytes >= l.page_bytes))
		return "a demoted page of this group would be no smaller";
	return NULL;
}

const char *kvd_geometry_check(const struct kvd_geometry *g)
{
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
	err = formats_check(g);
	if (!err)
		err = demote_check(g);
	if (err)
		return err;
	for (i = 0; i < g->nr_groups; i++) {
		err = group_check(&g->groups[i]);
		if (!err)
			err = group_formats_check(g, &g->groups[i]);
		if (!err)
			err = group_size_check(g, i);
		if (err)
			return err;
	}
	return NULL;
}

uint64_t kvd_geometry_fingerprint(const struct kvd_geometry *g)
{
	uint32_t f[13 + 7 * KVD_MAX_GROUPS], i, n = 0;

	f[n++] = htole32(g->page_tokens);
	f[n++] = htole32(g->k_format);
	f[n++] = htole32(g->v_format);
	f[n++] = htole32(g->rope_order);
	f[n++] = htole32(g->tile_order);
	f[n++] = htole32(g->open_format);
	f[n++] = htole32(g->exact_pages);
	f[n++] = htole32(g->v_group);
	f[n++] = htole32(g->nr_groups);
	f[n++] = htole32((uint32_t)g->profile);
	f[n++] = htole32((uint32_t)(g->profile >> 32));
	for (i = 0; i < g->nr_groups; i++) {
		const struct kvd_group *gr = &g->groups[i];

		f[n++] = htole32(gr->nr_layers);
		f[n++] = htole32(gr->nr_kv_heads);
		f[n++] = htole32(gr->head_first);
		f[n++] = htole32(gr->k_dim);
		f[n++] = htole32(gr->v_dim);
		f[n++] = htole32(gr->window);
		f[n++] = htole32(gr->exact);
	}
	if (g->demote_k || g->demote_v) {
		f[n++] = htole32(g->demote_k);
		f[n++] = htole32(g->demote_v);
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

/* "k=NAME,v=NAME" */
static int sides_parse(const char *text, uint32_t *ret_k, uint32_t *ret_v)
{
	char name[KVD_FORMATS_TEXT];
	const char *comma = strchr(text, ',');
	int k, v;

	if (strncmp(text, "k=", 2) || !comma || strncmp(comma, ",v=", 3) ||
	    comma - text >= KVD_FORMATS_TEXT)
		return -EINVAL;
	memcpy(name, text + 2, comma - text - 2);
	name[comma - text - 2] = '\0';
	k = kvd_format_parse(name);
	v = kvd_format_parse(comma + 3);
	if (k < 0 || v < 0)
		return -EINVAL;
	*ret_k = k;
	*ret_v = v;
	return 0;
}

int kvd_formats_parse(const char *text, uint32_t *ret_k, uint32_t *ret_v)
{
	int both = kvd_format_parse(text);
	size_t i;

	if (!strcmp(text, "fp8"))
		both = KVD_FP8_E4M3;
	if (both >= 0) {
		*ret_k = *ret_v = both;
		return 0;
	}
	for (i = 0; i < NR_PAIRS; i++)
		if (!strcmp(text, pairs[i].name)) {
			*ret_k = pairs[i].k_format;
			*ret_v = pairs[i].v_format;
			return 0;
		}
	return sides_parse(text, ret_k, ret_v);
}

const char *kvd_formats_name(uint32_t k_format, uint32_t v_format, char *text)
{
	size_t i;

	for (i = 0; i < NR_PAIRS; i++)
		if (pairs[i].k_format == k_format &&
		    pairs[i].v_format == v_format) {
			snprintf(text, KVD_FORMATS_TEXT, "%s", pairs[i].name);
			return text;
		}
	if (k_format == v_format)
		snprintf(text, KVD_FORMATS_TEXT, "%s",
		         kvd_format_name(k_format));
	else
		snprintf(text, KVD_FORMATS_TEXT, "k=%s,v=%s",
		         kvd_format_name(k_format), kvd_format_name(v_format));
	return text;
}

int kvd_formats_whole(uint32_t k_format, uint32_t v_format)
{
	return format_whole(k_format) || format_whole(v_format);
}

int kvd_formats_lag(uint32_t k_format, uint32_t v_format)
{
	return format_bits(k_format) <= 3 || format_bits(v_format) <= 3;
}
