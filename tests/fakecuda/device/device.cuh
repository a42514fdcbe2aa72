/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.cuh - what our kernels use of the machine: the double.
 *
 * The other half of kernels/cuda/device/device.cuh. A multiply-add here rounds
 * twice, so attention differs from a GPU's in the last bits; pages do not.
 */
#ifndef TESTS_FAKECUDA_DEVICE_CUH
#define TESTS_FAKECUDA_DEVICE_CUH

#include <math.h>
#include <stdint.h>
#include <string.h>
#include "kernels/host/half.h"
#include "tests/fakecuda/simt.h"

#define DEVICE static inline __attribute__((always_inline))
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define UNROLL _Pragma("GCC unroll 8")
#define threadIdx (simt_thread->thread)
#define blockIdx (simt_block.block)
#define SHARED_FLOATS(name) float *const name = (float *)simt_block.shared

static inline void __syncthreads(void)
{
	simt_sync_block();
}

static inline unsigned __ballot_sync(unsigned, bool bit)
{
	return simt_ballot(bit);
}

static inline float __shfl_xor_sync(unsigned, float x, unsigned mask)
{
	return f32_from_bits((uint32_t)simt_exchange(f32_bits(x),
						     simt_thread->lane ^ mask));
}

static inline int __ffs(unsigned x)
{
	return __builtin_ffs((int)x);
}

DEVICE float mad(float a, float b, float c)
{
	return a * b + c;
}

/* f16 as it is in an f32's exponent range, infinities and NaNs put back. */
DEVICE void f16x8_to_f32(const void *p, float *x)
{
	uint16_t h[8];

	memcpy(h, p, sizeof(h));
	for (int i = 0; i < 8; i++) {
		uint32_t rest = (uint32_t)(h[i] & 0x7fff) << 13;
		uint32_t special = rest >= 0x0f800000u ? 0x7f800000u : 0;
		float scaled = f32_from_bits(rest) * 0x1p112f;

		x[i] = f32_from_bits(f32_bits(scaled) | special |
				     (uint32_t)(h[i] & 0x8000) << 16);
	}
}

#endif
