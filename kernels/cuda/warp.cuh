/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warp.cuh - what the lanes of a warp, or the threads of a block, find out
 * together. All of them must call; all get the same answer.
 *
 * None of it depends on an order: minima, maxima, counts and sums of integers.
 */
#ifndef KERNELS_CUDA_WARP_CUH
#define KERNELS_CUDA_WARP_CUH

#include "kernels/cuda/page.cuh"

#define MAX_WARPS 32u /* of a block: words that block_*() take as scratch */

DEVICE uint32_t lane_here(void)
{
	return threadIdx.x % WARP;
}

DEVICE uint32_t warp_here(void)
{
	return threadIdx.x / WARP;
}

DEVICE bool warp_any(bool x)
{
	return __ballot_sync(ALL_LANES, x) != 0;
}

DEVICE float warp_min(float x)
{
	for (unsigned mask = WARP / 2; mask; mask /= 2) {
		float y = __shfl_xor_sync(ALL_LANES, x, mask);

		x = y < x ? y : x;
	}
	return x;
}

DEVICE float warp_max(float x)
{
	return -warp_min(-x);
}

DEVICE uint32_t lane_xor(uint32_t x, unsigned mask)
{
	return f32_bits(__shfl_xor_sync(ALL_LANES, f32_from_bits(x), mask));
}

DEVICE uint32_t warp_sum(uint32_t x)
{
	for (unsigned mask = WARP / 2; mask; mask /= 2)
		x += lane_xor(x, mask);
	return x;
}

/* Sum over the lanes before this one. */
DEVICE uint32_t warp_before(uint32_t x, uint32_t *ret_total)
{
	uint32_t before = 0;

	for (unsigned mask = 1; mask < WARP; mask *= 2) {
		uint32_t other = lane_xor(x, mask);

		before += lane_here() & mask ? other : 0;
		x += other;
	}
	*ret_total = x;
	return before;
}

/* Starts and ends with a barrier. */
DEVICE bool block_any(bool x, uint32_t *scratch, uint32_t warps)
{
	uint32_t any = 0;

	x = warp_any(x);
	__syncthreads();
	if (lane_here() == 0)
		scratch[warp_here()] = x;
	__syncthreads();
	for (uint32_t i = 0; i < warps; i++)
		any |= scratch[i];
	return any != 0;
}

#endif
