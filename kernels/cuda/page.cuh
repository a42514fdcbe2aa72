/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.cuh - sequences, elements and pages, as every kernel here meets them.
 */
#ifndef KERNELS_CUDA_PAGE_CUH
#define KERNELS_CUDA_PAGE_CUH

#include <device.cuh>
#include "kernels/kernels.h"

#define WARP 32u
#define ALL_LANES 0xffffffffu

/* Of two numbers; @a where they do not compare. */
DEVICE float larger(float a, float b)
{
	return b > a ? b : a;
}

/*
 * The sequence that @row belongs to, or @nr_seqs. For whole warps: each lane
 * looks at every 32nd.
 */
DEVICE uint32_t seq_of_row(const struct kv_seq *seqs, uint32_t nr_seqs,
			   uint32_t row)
{
	for (uint32_t base = 0; base < nr_seqs; base += WARP) {
		uint32_t i = base + threadIdx.x % WARP;
		bool mine = i < nr_seqs &&
			    row - seqs[i].first_row < seqs[i].nr_rows;
		unsigned lanes = __ballot_sync(ALL_LANES, mine);

		if (lanes)
			return base + (uint32_t)__ffs(lanes) - 1;
	}
	return nr_seqs;
}

/* Element @i of an array of @dtype. */
DEVICE float element_load(uint32_t dtype, const void *p, uint64_t i)
{
	switch (dtype) {
	case KVD_DTYPE_F16:
		return f16_to_f32(((const uint16_t *)p)[i]);
	case KVD_DTYPE_BF16:
		return bf16_to_f32(((const uint16_t *)p)[i]);
	default:
		return ((const float *)p)[i];
	}
}

DEVICE void element_store(uint32_t dtype, void *p, uint64_t i, float x)
{
	switch (dtype) {
	case KVD_DTYPE_F16:
		((uint16_t *)p)[i] = f16_from_f32(x);
		break;
	case KVD_DTYPE_BF16:
		((uint16_t *)p)[i] = bf16_from_f32(x);
		break;
	default:
		((float *)p)[i] = x;
	}
}

/* E4M3FN and E5M2 of OCP. */
DEVICE float fp8_value(uint32_t format, uint8_t b)
{
	if (format == KVD_FP8_E5M2)
		return f16_to_f32((uint16_t)(b << 8));
	if ((b & 0x7fu) == 0x7fu)
		return NAN;
	return f16_to_f32((uint16_t)((b & 0x80u) << 8 | (b & 0x7fu) << 7)) *
	       256.0f;
}

/* K or V of one head in one page. */
struct part {
	uint8_t *codes;
	struct affine_meta *meta;	/* int8 only */
	uint32_t format;
	uint32_t dim;
};

/* K serves as V where V has no elements of its own. */
DEVICE struct part page_part(const struct page_layout *l, uint8_t *page,
			     uint32_t layer, uint32_t head, bool v)
{
	uint8_t *record = page + page_record(l, layer, head);
	bool own = v && l->v_dim;
	struct part p;

	p.codes = record + (own ? l->v_codes : 0);
	p.meta = (struct affine_meta *)(record + (own ? l->v_meta : l->k_meta));
	p.format = own ? l->v_format : l->k_format;
	p.dim = own ? l->v_dim : l->k_dim;
	return p;
}

/* Scale and minimum of an int8 row, as floats. */
struct affine {
	float scale, min;
};

DEVICE struct affine affine_load(const struct affine_meta *m)
{
	struct affine a;

	a.scale = f16_to_f32(m->scale);
	a.min = f16_to_f32(m->min);
	return a;
}

/* Codes @i to @i + 3, as the values they stand for; @i is a multiple of 4. */
template <uint32_t FORMAT>
DEVICE f4 values_load(const uint8_t *codes, uint64_t i, struct affine a)
{
	if (FORMAT == KVD_F16)
		return f4_from_f16(codes + 2 * i);
	if (FORMAT == KVD_BF16)
		return f4_from_bf16(codes + 2 * i);
	return f4_mad(f4_from_u8(codes + i), f4_splat(a.scale),
		      f4_splat(a.min));
}

#endif
