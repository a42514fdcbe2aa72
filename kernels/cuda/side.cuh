/* SPDX-License-Identifier: Apache-2.0 */
/*
 * side.cuh - K or V of one record, and what each of its codes stands for.
 *
 * The device's host/side.h and host/ref_dequant.c: the same values, bit for
 * bit, in either order of codes. One element at a time, for kernels that are
 * not in a hurry; attend_mma.cu never asks for a single value.
 */
#ifndef KERNELS_CUDA_SIDE_CUH
#define KERNELS_CUDA_SIDE_CUH

#include "kernels/cuda/page.cuh"

/* A side. Where K serves as V (v_dim 0), the side of V is that of K. */
struct side {
	struct codes place;
	uint32_t basis;
	uint32_t v_group;
	uint32_t layer;
	uint32_t head;
	uint8_t *codes;
	uint8_t *meta;
};

DEVICE struct side side_at(const struct page_layout *l, uint8_t *page,
			   uint32_t layer, uint32_t head, bool is_v)
{
	uint8_t *record = page + page_record(l, layer, head);
	struct side s;

	s.place = page_codes(l, is_v);
	s.basis = s.place.is_v ? l->v_basis : l->k_basis;
	s.v_group = l->v_group;
	s.layer = layer;
	s.head = head;
	s.codes = record + (s.place.is_v ? l->v_codes : 0);
	s.meta = record + (s.place.is_v ? l->v_meta : l->k_meta);
	return s;
}

/* affine_meta[tokens] that begins the metadata, where the coding has it. */
DEVICE struct affine_meta *side_affine(const struct side &s)
{
	return (struct affine_meta *)s.meta;
}

/* Arrays of f16 of per-channel K: scale[dim], min or zero[dim], factor[T]. */
DEVICE uint16_t *side_scales(const struct side &s)
{
	return (uint16_t *)s.meta;
}

DEVICE uint16_t *side_mins(const struct side &s)
{
	return (uint16_t *)s.meta + s.place.dim;
}

/* kvarn: K's factor[tokens], V's factor[dim]. */
DEVICE uint16_t *side_factors(const struct side &s)
{
	return (uint16_t *)s.meta + 2 * (s.place.is_v ? s.place.tokens :
						       s.place.dim);
}

/* kvquant's list; its entries follow it. */
DEVICE struct sparse_head *side_sparse(const struct side &s)
{
	uint32_t affine = (uint32_t)sizeof(struct affine_meta);

	return (struct sparse_head *)(s.meta + (s.place.is_v ?
							affine * s.place.tokens :
							0));
}

/* Codebook of kvquant: what codes stand for, before range and zero. */
DEVICE const float *side_codebook(const struct side &s,
				  const struct kv_tables *t)
{
	return (s.place.is_v ? t->v_out : t->k_out) + s.layer * TABLES_CODES;
}

DEVICE float affine_value(float code, uint16_t scale, uint16_t min)
{
	return code * f16_to_f32(scale) + f16_to_f32(min);
}

DEVICE float kivi_value(const struct side &s, uint32_t t, uint32_t d,
			float code)
{
	const struct affine_meta *m =
		side_affine(s) + d / s.v_group * s.place.tokens + t;

	if (!s.place.is_v)
		return affine_value(code, side_scales(s)[d], side_mins(s)[d]);
	return affine_value(code, m->scale, m->min);
}

DEVICE float kvarn_value(const struct side &s, uint32_t t, uint32_t d,
			 float code)
{
	const struct affine_meta *m = side_affine(s) + t;

	if (!s.place.is_v)
		return affine_value(code, side_scales(s)[d], side_mins(s)[d]) *
		       f16_to_f32(side_factors(s)[t]);
	return affine_value(code, m->scale, m->min) *
	       f16_to_f32(side_factors(s)[d]);
}

/* Of a dense code; its outlier is not added. */
DEVICE float kvquant_value(const struct side &s, const struct kv_tables *tb,
			   uint32_t t, uint32_t d, uint32_t code)
{
	const struct affine_meta *m = side_affine(s) + t;
	const uint64_t c = ((uint64_t)s.layer * tb->nr_heads + s.head) *
				   s.place.dim +
			   d;
	const float x = side_codebook(s, tb)[code];

	if (s.place.is_v)
		return x * f16_to_f32(m->scale) + f16_to_f32(m->min);
	return x * tb->k_range[c] + tb->k_zero[c];
}

/*
 * What the code of element (@t, @d) stands for; kvquant's outliers must be
 * added to that. @tb is NULL where the format needs no tables.
 */
DEVICE float side_value(const struct side &s, const struct kv_tables *tb,
			uint32_t t, uint32_t d)
{
	const uint32_t code = codes_get(&s.place, s.codes, t, d);

	switch (format_coding(s.place.format)) {
	case CODING_16:
		return s.place.format == KVD_F16 ?
			       f16_to_f32((uint16_t)code) :
			       bf16_to_f32((uint16_t)code);
	case CODING_FP8:
		return fp8_value(s.place.format, (uint8_t)code) *
		       *(const float *)s.meta;
	case CODING_KIVI:
		return kivi_value(s, t, d, (float)code);
	case CODING_KVARN:
		return kvarn_value(s, t, d, (float)code);
	case CODING_KVQUANT:
		return kvquant_value(s, tb, t, d, code);
	default:
		return affine_value((float)code, side_affine(s)[t].scale,
				    side_affine(s)[t].min);
	}
}

/*
 * Values of the first @nr_tokens, by all @threads of a block, of which the
 * caller is number @thread: @x is [nr_tokens][dim]. Ends with a barrier.
 */
DEVICE void side_load(const struct side &s, const struct kv_tables *tb,
		      uint32_t nr_tokens, float *x, uint32_t thread,
		      uint32_t threads)
{
	const uint32_t dim = s.place.dim, n = nr_tokens * dim;

	for (uint32_t i = thread; i < n; i += threads)
		x[i] = side_value(s, tb, i / dim, i % dim);
	__syncthreads();
	if (format_coding(s.place.format) != CODING_KVQUANT)
		return;
	const struct sparse_head *h = side_sparse(s);
	const struct sparse_entry *e = (const struct sparse_entry *)(h + 1);

	for (uint32_t i = thread; i < h->nr; i += threads)
		if (e[i].at < n)
			x[e[i].at] += f16_to_f32(e[i].value);
	__syncthreads();
}

#endif
