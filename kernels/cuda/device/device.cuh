/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.cuh - what our kernels use of the machine: the GPU.
 *
 * The build picks this file for nvcc and tests/fakecuda/device/device.cuh for
 * the double. Conversions give the same bits as kernels/host/half.h, payloads
 * of NaNs included.
 */
#ifndef KERNELS_CUDA_DEVICE_CUH
#define KERNELS_CUDA_DEVICE_CUH

#include <stdint.h>

#define DEVICE static __device__ __forceinline__

#define UNROLL _Pragma("unroll")

/* Floats, as many as the launch asks for, of the block. */
#define SHARED_FLOATS(name) extern __shared__ float name[]

/* a * b + c, rounded once. */
DEVICE float mad(float a, float b, float c)
{
	return fmaf(a, b, c);
}

DEVICE float f16_to_f32(uint16_t h)
{
	float x;

	if ((h & 0x7fffu) > 0x7c00u)
		return __uint_as_float((h & 0x8000u) << 16 | 0x7fc00000u |
				       (h & 0x7fffu) << 13);
	asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
	return x;
}

DEVICE uint16_t f16_from_f32(float x)
{
	uint32_t u = __float_as_uint(x);
	uint16_t h;

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)((u >> 16 & 0x8000u) | 0x7e00u |
				  (u >> 13 & 0x3ffu));
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
	return h;
}

/* Rounds to f16 and back. */
DEVICE float f16_round(float x)
{
	return f16_to_f32(f16_from_f32(x));
}

/* The eight f16 in 16 bytes; the payload of a NaN is lost. */
DEVICE void f16x8_to_f32(const void *p, float *x)
{
	const uint4 v = *(const uint4 *)p;
	const uint32_t w[4] = { v.x, v.y, v.z, v.w };

	UNROLL
	for (int i = 0; i < 4; i++) {
		asm("cvt.f32.f16 %0, %1;"
		    : "=f"(x[2 * i])
		    : "h"((uint16_t)w[i]));
		asm("cvt.f32.f16 %0, %1;"
		    : "=f"(x[2 * i + 1])
		    : "h"((uint16_t)(w[i] >> 16)));
	}
}

DEVICE float bf16_to_f32(uint16_t b)
{
	return __uint_as_float((uint32_t)b << 16);
}

DEVICE uint16_t bf16_from_f32(float x)
{
	uint32_t u = __float_as_uint(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40u);
	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

#endif
