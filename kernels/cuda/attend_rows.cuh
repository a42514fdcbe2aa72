/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_rows.cuh - rows of floats in the memory of a block of attention: what
 * is done to them as a whole. All threads of a block call these together.
 *
 * Transforms are those of host/basis.h, for queries, keys and results, which
 * no page will hold: sums may be fused.
 */
#ifndef KERNELS_CUDA_ATTEND_ROWS_CUH
#define KERNELS_CUDA_ATTEND_ROWS_CUH

#include "kernels/cuda/attend.h"
#include "kernels/cuda/page.cuh"

struct matrix {
	float *x;
	uint32_t nr;
	uint32_t stride;	/* floats from row to row */
	uint32_t dim;
};

/* Warps take rows in turn. */
#define ROW_STEP (ATTEND_THREADS / WARP)

DEVICE uint32_t row_first(void)
{
	return threadIdx.x / WARP;
}

DEVICE uint32_t row_lane(void)
{
	return threadIdx.x % WARP;
}

DEVICE float *row_at(const struct matrix &r, uint32_t i)
{
	return r.x + i * r.stride;
}

/* 1 / sqrt(n) of a power of two. */
DEVICE float hadamard_scale(uint32_t n)
{
	float f = 1.0f;

	for (; n >= 4; n /= 4)
		f *= 0.5f;
	return n == 2 ? f * 0x1.6a09e6p-1f : f;
}

DEVICE void rows_hadamard(const struct matrix &r)
{
	const uint32_t n = hadamard_order(r.dim);
	const float factor = hadamard_scale(n);

	for (uint32_t h = 1; h < n; h *= 2) {
		for (uint32_t i = row_first(); i < r.nr; i += ROW_STEP)
			for (uint32_t p = row_lane(); p < r.dim / 2;
			     p += WARP) {
				float *x = row_at(r, i) + p + (p & ~(h - 1));
				const float a = x[0], b = x[h];

				x[0] = a + b;
				x[h] = a - b;
			}
		__syncthreads();
	}
	for (uint32_t i = row_first(); i < r.nr; i += ROW_STEP)
		for (uint32_t d = row_lane(); d < r.dim; d += WARP)
			row_at(r, i)[d] *= factor;
	__syncthreads();
}

/*
 * Each row times a matrix of [dim][dim] whose element (i, j), of input i and
 * output j, is at i * @in + j * @out.
 */
DEVICE void rows_multiply(const struct matrix &r, const float *matrix,
			  uint32_t in, uint32_t out, float *spare)
{
	for (uint32_t i = 0; i < r.nr; i++) {
		float *x = row_at(r, i);

		for (uint32_t j = threadIdx.x; j < r.dim; j += ATTEND_THREADS) {
			float sum = 0.0f;

			for (uint32_t d = 0; d < r.dim; d++)
				sum = mad(x[d], matrix[d * in + j * out], sum);
			spare[j] = sum;
		}
		__syncthreads();
		for (uint32_t j = threadIdx.x; j < r.dim; j += ATTEND_THREADS)
			x[j] = spare[j];
		__syncthreads();
	}
}

/* Brings rows to @basis. @spare is a row of memory. */
DEVICE void rows_apply(const struct matrix &r, uint32_t basis,
		       const float *rotation, float *spare)
{
	if (basis == BASIS_HADAMARD)
		rows_hadamard(r);
	else if (basis == BASIS_PROFILE)
		rows_multiply(r, rotation, r.dim, 1, spare);
}

/* Brings rows back. */
DEVICE void rows_undo(const struct matrix &r, uint32_t basis,
		      const float *rotation, float *spare)
{
	if (basis == BASIS_HADAMARD)
		rows_hadamard(r);
	else if (basis == BASIS_PROFILE)
		rows_multiply(r, rotation, 1, r.dim, spare);
}

/* The layer's rotation of K, or of V; NULL where its basis is another. */
DEVICE const float *rotation_of(const struct kv_attend_args *a, bool v)
{
	const struct page_layout *l = &a->layouts[0];
	const bool own = v && l->v_dim;
	const uint32_t dim = own ? l->v_dim : l->k_dim;

	if ((own ? l->v_basis : l->k_basis) != BASIS_PROFILE)
		return NULL;
	return (own ? a->tables->v_rotation : a->tables->k_rotation) +
	       (uint64_t)a->layer * dim * dim;
}

/* Turns keys, of tokens from @first on of page @page, by RoPE's angles. */
DEVICE void rows_turn(const struct matrix &r, const struct kv_tables *tb,
		      uint32_t page, uint32_t first)
{
	const uint32_t n = tb->rope_pairs;
	const float *p = tb->rope_page + (uint64_t)page * 2 * n;

	for (uint32_t i = row_first(); i < r.nr; i += ROW_STEP) {
		const float *t = tb->rope_token + (uint64_t)(first + i) * 2 * n;

		for (uint32_t d = row_lane(); d < n; d += WARP) {
			const float c = p[d] * t[d] - p[n + d] * t[n + d];
			const float s = p[n + d] * t[d] + p[d] * t[n + d];
			float *a = row_at(r, i) +
				   (tb->rope_interleaved ? 2 * d : d);
			float *b = tb->rope_interleaved ? a + 1 : a + n;
			const float x = *a, y = *b;

			*a = x * c - y * s;
			*b = x * s + y * c;
		}
	}
	__syncthreads();
}

#endif
