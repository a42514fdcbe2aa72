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

/* A function that is called: what is big, and seldom needed. */
#define DEVICE_CALL static __device__ __noinline__

#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")

/*
 * What is before this is loaded before what is after it. A compiler that moves
 * the loads of an unrolled loop to its top runs out of registers.
 */
DEVICE void loads_in_order(void)
{
	asm volatile("" ::: "memory");
}

/*
 * @x, as a number that a compiler knows nothing of: what is computed from it
 * stays here, and is not kept in registers from before a loop or a branch.
 */
DEVICE uint32_t opaque(uint32_t x)
{
	asm volatile("" : "+r"(x));
	return x;
}

DEVICE float opaque(float x)
{
	asm volatile("" : "+f"(x));
	return x;
}

/* Floats, as many as the launch asks for, of the block. */
#define SHARED_FLOATS(name) extern __shared__ float name[]

/* The same memory as bytes; no other name of it in the same kernel. */
#define SHARED_BYTES(name) extern __shared__ __align__(128) char name[]

/* Names of the host's for what __float_as_uint() and its inverse do. */
DEVICE uint32_t f32_bits(float x)
{
	return __float_as_uint(x);
}

DEVICE float f32_from_bits(uint32_t u)
{
	return __uint_as_float(u);
}

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

/* ---- four at a time; addresses are multiples of what is read ---- */

typedef float4 f4;

DEVICE f4 f4_splat(float x)
{
	return make_float4(x, x, x, x);
}

DEVICE f4 f4_load(const float *p)
{
	return *(const float4 *)p;
}

DEVICE void f4_store(float *p, f4 x)
{
	*(float4 *)p = x;
}

DEVICE f4 f4_mad(f4 a, f4 b, f4 c)
{
	return make_float4(mad(a.x, b.x, c.x), mad(a.y, b.y, c.y),
			   mad(a.z, b.z, c.z), mad(a.w, b.w, c.w));
}

DEVICE float f4_sum(f4 a)
{
	return (a.x + a.z) + (a.y + a.w);
}

/* As f16_to_f32(), but for the payload of a NaN. */
DEVICE float f16_value(uint32_t h)
{
	float x;

	asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((uint16_t)h));
	return x;
}

DEVICE f4 f4_from_f16(const void *p)
{
	const uint2 w = *(const uint2 *)p;

	return make_float4(f16_value(w.x), f16_value(w.x >> 16),
			   f16_value(w.y), f16_value(w.y >> 16));
}

DEVICE f4 f4_from_bf16(const void *p)
{
	const uint2 w = *(const uint2 *)p;

	return make_float4(__uint_as_float(w.x << 16),
			   __uint_as_float(w.x & 0xffff0000u),
			   __uint_as_float(w.y << 16),
			   __uint_as_float(w.y & 0xffff0000u));
}

DEVICE f4 f4_from_u8(const void *p)
{
	const uchar4 b = *(const uchar4 *)p;

	return make_float4(b.x, b.y, b.z, b.w);
}

/* ---- 16 bytes, at multiples of 16, that no cache need keep ---- */

typedef uint4 u4;

DEVICE u4 u4_zero(void)
{
	return make_uint4(0, 0, 0, 0);
}

/* Of memory that nobody writes while the kernel runs. */
DEVICE u4 u4_load_once(const void *p)
{
	u4 x;

	asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
		     : "l"(p));
	return x;
}

DEVICE void u4_store_once(void *p, u4 x)
{
	asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};"
		     :
		     : "l"(p), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
		     : "memory");
}

#endif
