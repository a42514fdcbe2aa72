/* SPDX-License-Identifier: Apache-2.0 */
/*
 * half.h - f16 and bf16 in software, and typed element access.
 *
 * Bit for bit what F16C and AVX512-BF16 give in the default rounding mode:
 * to nearest, ties to even, subnormals kept, overflow to infinity, signalling
 * NaNs quieted. Pure; any thread.
 */
#ifndef KERNELS_HOST_HALF_H
#define KERNELS_HOST_HALF_H

#include <stdint.h>
#include <string.h>
#include "kvd/geometry.h"

#define F16_EXP  0x7c00u /* exponent of Inf and NaN */
#define BF16_EXP 0x7f80u

static inline uint32_t f32_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, 4);
	return u;
}

static inline float f32_from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, 4);
	return x;
}

static inline float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
	uint32_t rest = (uint32_t)(h & 0x7fffu) << 13;

	if (rest > F16_EXP << 13) /* NaN, quieted */
		return f32_from_bits(sign | 0x7fc00000u | rest);
	if (rest == F16_EXP << 13)
		return f32_from_bits(sign | 0x7f800000u);
	if (rest < 0x0400u << 13) /* zero or subnormal: h * 2^-24 */
		return f32_from_bits(sign | f32_bits((h & 0x3ffu) * 0x1p-24f));
	return f32_from_bits(sign | (rest + ((127u - 15u) << 23)));
}

static inline uint16_t f16_from_f32(float x)
{
	uint32_t u = f32_bits(x), sign = u >> 16 & 0x8000u;

	u &= 0x7fffffffu;
	if (u > 0x7f800000u)
		return sign | 0x7e00u | (u >> 13 & 0x3ffu);
	if (u >= 0x47800000u) /* 65536 and up */
		return sign | F16_EXP;
	if (u < 0x38800000u) /* below 2^-14: let the FPU round */
		return sign | (f32_bits(f32_from_bits(u) + 0.5f) - 0x3f000000u);
	u += 0xfffu + (u >> 13 & 1u);
	return sign | ((u - ((127u - 15u) << 23)) >> 13);
}

static inline float bf16_to_f32(uint16_t b)
{
	return f32_from_bits((uint32_t)b << 16);
}

static inline uint16_t bf16_from_f32(float x)
{
	uint32_t u = f32_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return u >> 16 | 0x40u;
	return (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

/* Rounds to f16 and back. */
static inline float f16_round(float x)
{
	return f16_to_f32(f16_from_f32(x));
}

static inline uint32_t dtype_bytes(uint32_t dtype)
{
	return dtype == KVD_DTYPE_F32 ? 4 : 2;
}

/* Element @i of an array of @dtype. */
static inline float dtype_load(uint32_t dtype, const void *p, uint64_t i)
{
	switch (dtype) {
	case KVD_DTYPE_F16:
		return f16_to_f32(((const uint16_t *)p)[i]);
	case KVD_DTYPE_BF16:
		return bf16_to_f32(((const uint16_t *)p)[i]);
	default:
		return ((const float *)p)[i];
	}
}

static inline void dtype_store(uint32_t dtype, void *p, uint64_t i, float x)
{
	switch (dtype) {
	case KVD_DTYPE_F16:
		((uint16_t *)p)[i] = f16_from_f32(x);
		break;
	case KVD_DTYPE_BF16:
		((uint16_t *)p)[i] = bf16_from_f32(x);
		break;
	default:
		((float *)p)[i] = x;
	}
}

#endif
