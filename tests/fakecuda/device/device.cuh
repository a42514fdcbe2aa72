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

#define DEVICE static inline
#define DEVICE_CALL static __attribute__((noinline))
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define UNROLL
#define NO_UNROLL
#define threadIdx (simt_thread->thread)
#define blockIdx (simt_block.block)
#define blockDim (simt_block.block_dim)
#define gridDim (simt_block.grid_dim)
#define SHARED_FLOATS(name) float *const name = (float *)simt_block.shared
#define SHARED_BYTES(name) char *const name = (char *)simt_block.shared

DEVICE uint32_t opaque(uint32_t x)
{
	return x;
}

DEVICE float opaque(float x)
{
	return x;
}

DEVICE void loads_in_order(void)
{
}

static inline void __syncthreads(void)
{
	simt_sync_block();
}

static inline unsigned __ballot_sync(unsigned, bool bit)
{
	return simt_ballot(bit);
}

static inline void __syncwarp(unsigned = ~0u)
{
	simt_sync_warp();
}

static inline uint32_t __shfl_sync(unsigned, uint32_t x, unsigned lane)
{
	return (uint32_t)simt_exchange(x, lane);
}

static inline float __shfl_sync(unsigned, float x, unsigned lane)
{
	return f32_from_bits((uint32_t)simt_exchange(f32_bits(x), lane));
}

static inline uint32_t __shfl_xor_sync(unsigned mask, uint32_t x, unsigned bits)
{
	return __shfl_sync(mask, x, simt_thread->lane ^ bits);
}

static inline float __shfl_xor_sync(unsigned mask, float x, unsigned bits)
{
	return __shfl_sync(mask, x, simt_thread->lane ^ bits);
}

static inline uint32_t atomicAdd(uint32_t *p, uint32_t x)
{
	return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
}

static inline int __ffs(unsigned x)
{
	return __builtin_ffs((int)x);
}

static inline int __popc(unsigned x)
{
	return __builtin_popcount(x);
}

DEVICE float mad(float a, float b, float c)
{
	return a * b + c;
}

/* ---- four at a time ---- */

typedef float f4 __attribute__((vector_size(16)));
typedef uint32_t u4 __attribute__((vector_size(16)));

DEVICE f4 f4_splat(float x)
{
	return (f4){ x, x, x, x };
}

DEVICE f4 f4_load(const float *p)
{
	return *(const f4 *)p;
}

DEVICE void f4_store(float *p, f4 x)
{
	*(f4 *)p = x;
}

DEVICE f4 f4_mad(f4 a, f4 b, f4 c)
{
	return a * b + c;
}

DEVICE float f4_sum(f4 a)
{
	return (a[0] + a[2]) + (a[1] + a[3]);
}

DEVICE u4 u4_from_u16(const void *p)
{
	typedef uint16_t h4 __attribute__((vector_size(8), may_alias));

	return __builtin_convertvector(*(const h4 *)p, u4);
}

/* In an f32's range of exponents; then Inf and NaN are put back. */
DEVICE f4 f4_from_f16(const void *p)
{
	const u4 h = u4_from_u16(p);
	const u4 rest = (h & 0x7fff) << 13;
	const u4 special = (u4)(rest >= 0x0f800000u) & 0x7f800000u;
	const f4 scaled = (f4)rest * 0x1p112f;

	return (f4)((u4)scaled | special | (h & 0x8000) << 16);
}

DEVICE f4 f4_from_bf16(const void *p)
{
	return (f4)(u4_from_u16(p) << 16);
}

DEVICE f4 f4_from_u8(const void *p)
{
	typedef uint8_t b4 __attribute__((vector_size(4), may_alias));

	return __builtin_convertvector(*(const b4 *)p, f4);
}

/* ---- 16 bytes, at multiples of 16, of memory that is a kernel's ---- */

DEVICE u4 u4_zero(void)
{
	return (u4){ 0, 0, 0, 0 };
}

DEVICE u4 u4_load_once(const void *p)
{
	u4 x;

	simt_touch(p, sizeof(x), false);
	memcpy(&x, p, sizeof(x));
	return x;
}

DEVICE void u4_store_once(void *p, u4 x)
{
	simt_touch(p, sizeof(x), true);
	memcpy(p, &x, sizeof(x));
}

#endif
