/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.cu - what a Llama does to rows beside matrices and attention.
 *
 * In the order of operations of model.c, but for the sum of RMSNorm, which is
 * in double and so the same to a float's last bit nearly always. A row's
 * result depends on the row alone: neither on others nor on their number.
 */
#include <device.cuh>
#include "tools/kvworker/layer.h"

/* First element of this thread in its row; the next is LAYER_THREADS on. */
DEVICE uint32_t part_first(void)
{
	return blockIdx.y * LAYER_PART + threadIdx.x;
}

/* Where this block's part of @width elements ends. */
DEVICE uint32_t part_end(uint32_t width)
{
	const uint32_t end = (blockIdx.y + 1) * LAYER_PART;

	return end < width ? end : width;
}

extern "C" __global__ void __launch_bounds__(LAYER_THREADS)
worker_embed(const __grid_constant__ struct embed_params p)
{
	const uint32_t token = blockIdx.x - p.first; /* or beyond nr */
	float *x = p.x + (uint64_t)blockIdx.x * p.width;
	const float *from = p.table;

	if (token < p.nr)
		from += (uint64_t)p.tokens[token] * p.width;
	for (uint32_t i = part_first(); i < part_end(p.width);
	     i += LAYER_THREADS)
		x[i] = token < p.nr ? from[i] : 0.0f;
}

/* Sum over the block, in a fixed order. @sums: [LAYER_THREADS], shared */
DEVICE double block_sum(double *sums, double mine)
{
	sums[threadIdx.x] = mine;
	for (uint32_t n = LAYER_THREADS / 2; n; n /= 2) {
		__syncthreads();
		if (threadIdx.x < n)
			sums[threadIdx.x] += sums[threadIdx.x + n];
	}
	__syncthreads();
	return sums[0];
}

extern "C" __global__ void __launch_bounds__(LAYER_THREADS)
worker_normalize(const __grid_constant__ struct normalize_params p)
{
	SHARED_BYTES(shared);
	const float *x = p.x + (uint64_t)blockIdx.x * p.width;
	float *out = p.out + (uint64_t)blockIdx.x * p.width;
	double sum = 0;
	float scale;

	for (uint32_t i = threadIdx.x; i < p.width; i += LAYER_THREADS)
		sum += (double)x[i] * x[i];
	sum = block_sum((double *)shared, sum);
	scale = (float)(1 / sqrt(sum / p.width + p.eps));
	for (uint32_t i = threadIdx.x; i < p.width; i += LAYER_THREADS)
		out[i] = x[i] * scale * p.weight[i];
}

extern "C" __global__ void __launch_bounds__(LAYER_THREADS)
worker_rotate(const __grid_constant__ struct rotate_params p)
{
	const uint32_t n = p.nr_pairs;
	const float *cos_of = p.cos_sin + (uint64_t)blockIdx.x * 2 * n;
	const float *sin_of = cos_of + n;
	float *row = p.x + (uint64_t)blockIdx.x * p.stride;

	for (uint32_t i = part_first(); i < part_end(p.nr_heads * n);
	     i += LAYER_THREADS) {
		const uint32_t pair = i % n;
		float *x = row + i / n * 2 * n + pair;
		const float a = x[0], b = x[n];

		x[0] = a * cos_of[pair] - b * sin_of[pair];
		x[n] = b * cos_of[pair] + a * sin_of[pair];
	}
}

extern "C" __global__ void __launch_bounds__(LAYER_THREADS)
worker_activate(const __grid_constant__ struct activate_params p)
{
	const float *gate = p.gate_up + (uint64_t)blockIdx.x * 2 * p.width;
	const float *up = gate + p.width;
	float *out = p.out + (uint64_t)blockIdx.x * p.width;

	for (uint32_t i = part_first(); i < part_end(p.width);
	     i += LAYER_THREADS)
		out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}
