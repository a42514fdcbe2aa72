/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.cu - quantizes and stores rows of K and V.
 *
 * A warp stores one row of one head: blocks are (row, head, K or V). The bytes
 * are those of kernels/host/ref.c, where the formats are defined: every
 * intermediate that is an f16 there is rounded here, and products are not
 * fused (the build sees to that).
 */
#include "kernels/cuda/page.cuh"

#define NAN_MIN 0x7e00u	/* of an int8 row that holds no numbers */

/* A row on its way into a page. */
struct row {
	const void *src;
	uint64_t first;		/* element of src */
	uint32_t dtype;
	uint32_t token;		/* in the page */
};

DEVICE float warp_min(float x)
{
	for (unsigned mask = WARP / 2; mask; mask /= 2) {
		float y = __shfl_xor_sync(ALL_LANES, x, mask);

		x = y < x ? y : x;
	}
	return x;
}

DEVICE bool f16_store(const struct part &p, const struct row &r)
{
	uint16_t *codes = (uint16_t *)p.codes + (uint64_t)r.token * p.dim;
	bool bad = false;

	for (uint32_t i = threadIdx.x; i < p.dim; i += WARP) {
		codes[i] = f16_from_f32(element_load(r.dtype, r.src,
						     r.first + i));
		bad = bad || (codes[i] & 0x7c00u) == 0x7c00u;
	}
	return bad;
}

DEVICE bool bf16_store(const struct part &p, const struct row &r)
{
	uint16_t *codes = (uint16_t *)p.codes + (uint64_t)r.token * p.dim;
	bool bad = false;

	for (uint32_t i = threadIdx.x; i < p.dim; i += WARP) {
		codes[i] = bf16_from_f32(element_load(r.dtype, r.src,
						      r.first + i));
		bad = bad || (codes[i] & 0x7f80u) == 0x7f80u;
	}
	return bad;
}

DEVICE uint8_t int8_code(float x, float min, float inv)
{
	float t = f16_round(f16_round(x - min) * inv);

	return t < 255.0f ? (uint8_t)rintf(t) : 255;
}

DEVICE bool int8_store(const struct part &p, const struct row &r)
{
	uint8_t *codes = p.codes + (uint64_t)r.token * p.dim;
	struct affine_meta *meta = p.meta + r.token;
	float min = INFINITY, max = -INFINITY, scale, inv = 0.0f;
	bool bad = false;

	for (uint32_t i = threadIdx.x; i < p.dim; i += WARP) {
		float x = f16_round(element_load(r.dtype, r.src, r.first + i));

		bad = bad || !isfinite(x);
		min = x < min ? x : min;
		max = x > max ? x : max;
	}
	bad = __ballot_sync(ALL_LANES, bad) != 0;
	min = warp_min(min) + 0.0f; /* -0 taken as +0 */
	max = -warp_min(-max) + 0.0f;
	scale = f16_round((max - min) * (1.0f / 255.0f));
	if (scale > 0.0f)
		inv = 1.0f / scale;
	if (isfinite(f16_round(inv)))
		inv = f16_round(inv);
	for (uint32_t i = threadIdx.x; i < p.dim; i += WARP) {
		float x = f16_round(element_load(r.dtype, r.src, r.first + i));

		codes[i] = bad ? 0 : int8_code(x, min, inv);
	}
	if (threadIdx.x == 0) {
		meta->scale = bad ? 0 : f16_from_f32(scale);
		meta->min = bad ? NAN_MIN : f16_from_f32(min);
	}
	return bad || !isfinite(f16_round(max - min));
}

extern "C" __global__ void __launch_bounds__(WARP)
kv_append(const __grid_constant__ struct kv_append_args a)
{
	const uint32_t row = blockIdx.x, head = blockIdx.y;
	const bool v = blockIdx.z;
	const uint32_t seq = seq_of_row(a.seqs, a.nr_seqs, row);

	if (seq == a.nr_seqs)
		return;
	const struct kv_seq *s = &a.seqs[seq];
	const uint32_t pos = s->pos + (row - s->first_row);
	const uint32_t page_tokens = a.layouts[0].page_tokens;
	const struct kv_page_ref *ref =
		&a.pages[kv_seq_page(s, pos / page_tokens)];
	const struct part p = page_part(
		&a.layouts[ref->layout],
		(uint8_t *)a.bases[ref->segment] + ref->offset, a.layer, head,
		v);
	struct row r;
	bool bad;

	r.src = v ? a.v : a.k;
	r.first = row * (v ? a.v_stride : a.k_stride) + (uint64_t)head * p.dim;
	r.dtype = a.dtype;
	r.token = pos % page_tokens;
	switch (p.format) {
	case KVD_F16:
		bad = f16_store(p, r);
		break;
	case KVD_BF16:
		bad = bf16_store(p, r);
		break;
	default:
		bad = int8_store(p, r);
	}
	if (bad)
		a.nonfinite[seq] = 1;
}
