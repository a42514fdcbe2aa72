/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_64.cu - attention on tensor cores at a dim of 64.
 */
#include "kernels/cuda/mma_attend.cuh"

extern "C" __global__ void __launch_bounds__(MMA_THREADS, MMA_BLOCKS)
kv_mma_64x8(const __grid_constant__ struct mma_params p)
{
	mma_attend<by_mask, 64, 1>(p);
}

extern "C" __global__ void __launch_bounds__(MMA_THREADS, MMA_BLOCKS)
kv_mma_64x16(const __grid_constant__ struct mma_params p)
{
	mma_attend<by_mask, 64, 2>(p);
}
