/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_dequant.c - what the codes of a page stand for: the definition.
 *
 * One product and one sum of f32 per affine value, each rounded; FORMATS.md
 * has the formulas. Values are in the page's basis: rotated where the format
 * rotates, before RoPE where keys are kept so. Stateless; any thread.
 */
#include <string.h>
#include "kernels/host/convert.h"
#include "kernels/host/fp8.h"
#include "kernels/host/order.h"
#include "kernels/host/row.h"
#include "kernels/host/side.h"

static float affine(uint32_t code, uint16_t scale, uint16_t min)
{
	float x = (float)code * f16_to_f32(scale);

	return x + f16_to_f32(min);
}

static float kivi_value(const struct side *s, uint32_t t, uint32_t d,
			uint32_t code)
{
	const struct affine_meta *m;

	if (!s->is_v)
		return affine(code, side_scales(s)[d], side_mins(s)[d]);
	m = side_affine(s) + d / s->v_group * s->tokens + t;
	return affine(code, m->scale, m->min);
}

static float kvarn_value(const struct side *s, uint32_t t, uint32_t d,
			 uint32_t code)
{
	const struct affine_meta *m = side_affine(s) + t;

	if (!s->is_v)
		return affine(code, side_scales(s)[d], side_mins(s)[d]) *
		       f16_to_f32(side_factors(s)[t]);
	return affine(code, m->scale, m->min) *
	       f16_to_f32(side_factors(s)[d]);
}

/* Of a dense code; outliers are added later. */
static float kvquant_value(const struct side *s, const struct kv_tables *tb,
			   uint32_t t, uint32_t d, uint32_t code)
{
	const struct affine_meta *m = side_affine(s) + t;
	float x = side_codebook(s, tb)[code];
	uint64_t c = ((uint64_t)s->layer * tb->nr_heads + s->head) * s->dim + d;

	if (s->is_v) {
		x *= f16_to_f32(m->scale);
		return x + f16_to_f32(m->min);
	}
	x *= tb->k_range[c];
	return x + tb->k_zero[c];
}

static float value(const struct side *s, const struct kv_tables *tb, uint32_t t,
		   uint32_t d)
{
	const uint8_t *row = s->codes + (uint64_t)t * s->row;
	uint32_t code;
	float scale;

	if (s->format == KVD_F16)
		return f16_to_f32(((const uint16_t *)row)[d]);
	if (s->format == KVD_BF16)
		return bf16_to_f32(((const uint16_t *)row)[d]);
	code = pack_get(format_bits(s->format), row, s->dim, d);
	switch (format_coding(s->format)) {
	case CODING_FP8:
		memcpy(&scale, s->meta, sizeof(scale));
		return fp8_to_f32(s->format, code) * scale;
	case CODING_KIVI:
		return kivi_value(s, t, d, code);
	case CODING_KVARN:
		return kvarn_value(s, t, d, code);
	case CODING_KVQUANT:
		return kvquant_value(s, tb, t, d, code);
	default:
		return affine(code, side_affine(s)[t].scale,
			      side_affine(s)[t].min);
	}
}

static void outliers_add(const struct side *s, uint32_t nr_tokens, float *out)
{
	const struct sparse_head *h = side_sparse(s);
	const struct sparse_entry *e = (const struct sparse_entry *)(h + 1);
	uint32_t i;

	for (i = 0; i < h->nr; i++)
		if (e[i].at < nr_tokens * s->dim)
			out[e[i].at] += f16_to_f32(e[i].value);
}

/**
 * ref_side_load() - the values of the first @nr_tokens of one side, in rows
 * @x:	[nr_tokens][dim]
 */
void ref_side_load(const struct side *s, uint32_t nr_tokens,
		   const struct kv_tables *tables, float *x)
{
	uint32_t t, d;

	for (t = 0; t < nr_tokens; t++)
		for (d = 0; d < s->dim; d++)
			x[(uint64_t)t * s->dim + d] = value(s, tables, t, d);
	if (format_coding(s->format) == CODING_KVQUANT)
		outliers_add(s, nr_tokens, x);
}

/* The same of a side in tile order. */
static void tile_load(const struct side *s, uint32_t nr_tokens,
		      const struct kv_tables *tables, float *x)
{
	uint8_t rows[ORDER_SIDE] __attribute__((aligned(16)));
	struct side r = side_in_rows(s, rows);

	side_gather(s, 0, nr_tokens, rows);
	ref_side_load(&r, nr_tokens, tables, x);
}

/**
 * ref_dequant() - the values of the first @nr_tokens of one record's K or V
 * @tables:	NULL where the format needs none
 * @out:	[nr_tokens][k_dim], or [v_dim] with @is_v
 *
 * With v_dim 0 the values of V are those of K.
 */
void ref_dequant(const struct page_layout *l, const void *page, uint32_t layer,
		 uint32_t head, int is_v, uint32_t nr_tokens,
		 const struct kv_tables *tables, float *out)
{
	struct side s = side_at(l, (void *)(uintptr_t)page, layer, head, is_v);

	if (s.order == KVD_TILE_ROW)
		ref_side_load(&s, nr_tokens, tables, out);
	else
		tile_load(&s, nr_tokens, tables, out);
}
