/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_256.cu - attention on tensor cores at a dim of 256.
 */
#include "kernels/cuda/mma_attend.cuh"

extern "C" __global__ void __launch_bounds__(MMA_THREADS, MMA_BLOCKS)
kv_mma_256x8(const __grid_constant__ struct mma_params p)
{
	mma_attend<by_mask, 256, 1>(p);
}
