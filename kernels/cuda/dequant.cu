/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dequant.cu - a record's K or V as floats, for tests and tools: a block a
 * token.
 */
#include "kernels/cuda/attend.h"
#include "kernels/cuda/page.cuh"

DEVICE float value(const struct part &p, uint32_t token, uint32_t d)
{
	const uint64_t i = (uint64_t)token * p.dim + d;
	struct affine a;

	switch (p.format) {
	case KVD_F16:
		return f16_to_f32(((const uint16_t *)p.codes)[i]);
	case KVD_BF16:
		return bf16_to_f32(((const uint16_t *)p.codes)[i]);
	default:
		a = affine_load(&p.meta[token]);
		return mad((float)p.codes[i], a.scale, a.min);
	}
}

extern "C" __global__ void __launch_bounds__(WARP)
kv_dequant(const __grid_constant__ struct dequant_params p)
{
	const uint32_t token = blockIdx.x;
	const struct part part =
		page_part(&p.layout, (uint8_t *)(uintptr_t)p.page, p.layer,
			  p.head, p.is_v);

	for (uint32_t d = threadIdx.x; d < part.dim; d += WARP)
		p.out[(uint64_t)token * part.dim + d] = value(part, token, d);
}
