/* SPDX-License-Identifier: Apache-2.0 */
/*
 * code.cuh - elements of the formats that are appended in place, as codes.
 *
 * The device's kernels/host/ref.c and fp8.h: every intermediate that is an f16
 * there is rounded here, and products are not fused (the build sees to that).
 */
#ifndef KERNELS_CUDA_CODE_CUH
#define KERNELS_CUDA_CODE_CUH

#include "kernels/cuda/warp.cuh"

#define NAN_MIN 0x7e00u	    /* f16: min of what could not be coded */
#define ONE_NAN 0x7fc00000u /* f32: what the host's arithmetic makes */

/* To the nearest even of @mantissa bits above exponent -@bias; in range. */
DEVICE uint32_t fp8_round(float x, uint32_t mantissa, uint32_t bias)
{
	const uint32_t drop = 23 - mantissa;
	uint32_t u = f32_bits(x);

	if (u < (128 - bias) << 23) /* subnormal: of 2^(1 - bias - mantissa) */
		return (uint32_t)rintf(
			x * f32_from_bits((127 + bias - 1 + mantissa) << 23));
	u += (1u << (drop - 1)) - 1 + (u >> drop & 1u);
	return (u - ((127u - bias) << 23)) >> drop;
}

DEVICE uint32_t fp8_code(uint32_t format, float x)
{
	const uint32_t sign = f32_bits(x) >> 24 & 0x80u;
	const bool wide = format == KVD_FP8_E5M2;
	const float most = wide ? 57344.0f : 448.0f;

	if (x != x)
		return sign | (wide ? 0x7eu : 0x7fu);
	x = fabsf(x);
	x = x < most ? x : most;
	return sign | (wide ? fp8_round(x, 2, 15) : fp8_round(x, 3, 7));
}

/* A NaN keeps its sign, which no quotient of a GPU does. */
DEVICE uint32_t fp8_code(uint32_t format, float x, float scale)
{
	return fp8_code(format, x != x ? x : x / scale);
}

/* What elements of an fp8 side are divided by; @t may be NULL. */
DEVICE float fp8_scale(const struct kv_tables *t, bool is_v, uint32_t layer,
		       uint32_t head)
{
	const float *a = !t ? nullptr : is_v ? t->v_scale : t->k_scale;

	return a ? a[(uint64_t)layer * t->nr_heads + head] : 1.0f;
}

/* How a row is coded between its minimum and maximum. */
struct affine_row {
	struct affine_meta meta;
	float min, inv;	/* inv 0: all codes are 0 */
	bool bad;
};

/* Of a row of f16 values, not all finite where @bad. */
DEVICE struct affine_row affine_row_of(float min, float max, bool bad, float q)
{
	struct affine_row r;
	float scale, inv = 0.0f;

	r.meta.scale = 0;
	r.meta.min = NAN_MIN;
	r.min = r.inv = 0.0f;
	r.bad = true;
	if (bad)
		return r;
	min += 0.0f; /* -0 taken as +0 */
	max += 0.0f;
	scale = f16_round((max - min) * (1.0f / q));
	if (scale > 0.0f)
		inv = 1.0f / scale;
	if (isfinite(f16_round(inv)))
		inv = f16_round(inv);
	r.meta.scale = f16_from_f32(scale);
	r.meta.min = f16_from_f32(min);
	r.min = min;
	r.inv = inv;
	r.bad = !isfinite(f16_round(max - min));
	return r;
}

/* @x is an f16's value. */
DEVICE uint32_t affine_code(float x, float min, float inv, float q)
{
	const float t = f16_round(f16_round(x - min) * inv);

	if (inv == 0.0f)
		return 0;
	return t < q ? (uint32_t)rintf(t) : (uint32_t)q;
}

/* The highest code of a format, as a float. */
DEVICE float code_top(uint32_t format)
{
	return (float)((1u << format_bits(format)) - 1);
}

/* Code of f16 or bf16. @bad is set for what is not finite then. */
DEVICE uint32_t half_code(uint32_t format, float x, bool *bad)
{
	const uint32_t exponent = format == KVD_F16 ? 0x7c00u : 0x7f80u;
	const uint32_t code = format == KVD_F16 ? f16_from_f32(x) :
						  bf16_from_f32(x);

	*bad = *bad || (code & exponent) == exponent;
	return code;
}

#endif
