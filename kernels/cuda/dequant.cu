/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dequant.cu - a record's K or V as floats, for tests and tools: one block.
 */
#include "kernels/cuda/attend.h"
#include "kernels/cuda/side.cuh"

extern "C" __global__ void __launch_bounds__(DEQUANT_THREADS)
kv_dequant(const __grid_constant__ struct dequant_params p)
{
	const struct side s = side_at(&p.layout, (uint8_t *)(uintptr_t)p.page,
				      p.layer, p.head, p.is_v);

	side_load(s, p.tables, p.nr_tokens, p.out, threadIdx.x,
		  DEQUANT_THREADS);
}
