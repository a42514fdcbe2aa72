/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fp8.h - E4M3FN and E5M2 in software, as OCP's 8-bit formats define them.
 *
 * Encoding rounds to nearest, ties to even, keeps subnormals and saturates:
 * what is larger than the largest finite value, infinities too, becomes that.
 * NaN stays NaN. E4M3FN: bias 7, largest 448 = 0x7e, NaN 0x7f, no infinity.
 * E5M2: bias 15, largest 57344 = 0x7b. Pure; any thread.
 */
#ifndef KERNELS_HOST_FP8_H
#define KERNELS_HOST_FP8_H

#include <math.h>
#include "kernels/host/half.h"

#define E4M3_MAX 448.0f
#define E5M2_MAX 57344.0f
#define E4M3_NAN 0x7fu
#define E5M2_NAN 0x7eu

static inline float fp8_max(uint32_t format)
{
	return format == KVD_FP8_E4M3 ? E4M3_MAX : E5M2_MAX;
}

static inline float e4m3_to_f32(uint8_t b)
{
	uint16_t h = (uint16_t)((b & 0x80u) << 8 | (b & 0x7fu) << 7);

	if ((b & 0x7fu) == E4M3_NAN)
		return NAN;
	return f16_to_f32(h) * 256.0f;
}

static inline float e5m2_to_f32(uint8_t b)
{
	return f16_to_f32((uint16_t)(b << 8));
}

static inline float fp8_to_f32(uint32_t format, uint8_t b)
{
	return format == KVD_FP8_E4M3 ? e4m3_to_f32(b) : e5m2_to_f32(b);
}

/* @x >= 0 and not too large, to @mantissa bits above exponent -@bias. */
static inline uint8_t fp8_round(float x, uint32_t mantissa, int bias)
{
	uint32_t u, drop = 23 - mantissa;
	float least = ldexpf(1.0f, 1 - bias); /* the smallest normal */

	if (x < least) /* subnormal: a multiple of least / 2^mantissa */
		return (uint8_t)nearbyintf(ldexpf(x, bias - 1 + (int)mantissa));
	u = f32_bits(x);
	u += (1u << (drop - 1)) - 1 + (u >> drop & 1u);
	return (uint8_t)((u - ((127u - (uint32_t)bias) << 23)) >> drop);
}

static inline uint8_t e4m3_from_f32(float x)
{
	uint8_t sign = f32_bits(x) >> 24 & 0x80u;

	if (isnan(x))
		return sign | E4M3_NAN;
	return sign | fp8_round(fminf(fabsf(x), E4M3_MAX), 3, 7);
}

static inline uint8_t e5m2_from_f32(float x)
{
	uint8_t sign = f32_bits(x) >> 24 & 0x80u;

	if (isnan(x))
		return sign | E5M2_NAN;
	return sign | fp8_round(fminf(fabsf(x), E5M2_MAX), 2, 15);
}

static inline uint8_t fp8_from_f32(uint32_t format, float x)
{
	return format == KVD_FP8_E4M3 ? e4m3_from_f32(x) : e5m2_from_f32(x);
}

#endif
