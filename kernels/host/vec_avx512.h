/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_avx512.h - the vectors of attend.inc.c on AVX-512 F, BW, VL and DQ.
 *
 * See vec_avx2.h. Here LANES lanes are one vector, and a dot product's 8 lanes
 * are half of one: two tokens are side by side.
 */
#ifndef KERNELS_HOST_VEC_H
#define KERNELS_HOST_VEC_H

#include <immintrin.h>
#include "kernels/host/vec8.h"

#define VLANES  16u
#define VPARTS  1u  /* vectors in LANES lanes */
#define VTOKENS 2u  /* tokens side by side in a dot product */
#define VACCS   16u /* accumulators that stay in registers */

typedef __m512 vec;
typedef __mmask16 vmask;

static inline vec v_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, vec a)
{
	_mm512_storeu_ps(p, a);
}

/* What v_repeat8() loads is in a register: nothing takes it from memory. */
static inline vec v_keep(vec a)
{
	return a;
}

static inline vec v_set(float x)
{
	return _mm512_set1_ps(x);
}

static inline vec v_add(vec a, vec b)
{
	return _mm512_add_ps(a, b);
}

static inline vec v_sub(vec a, vec b)
{
	return _mm512_sub_ps(a, b);
}

static inline vec v_mul(vec a, vec b)
{
	return _mm512_mul_ps(a, b);
}

static inline vec v_div(vec a, vec b)
{
	return _mm512_div_ps(a, b);
}

static inline vec v_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* @b where either is NaN. */
static inline vec v_max(vec a, vec b)
{
	return _mm512_max_ps(a, b);
}

static inline vec v_round(vec a)
{
	return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT |
	                                       _MM_FROUND_NO_EXC);
}

static inline vec v_abs(vec a)
{
	return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a);
}

/* |a| with the sign of @b. */
static inline vec v_copysign(vec a, vec b)
{
	__m512 sign = _mm512_set1_ps(-0.0f);

	return _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b));
}

/* a * 2^n, n integral; a and the result are normal. */
static inline vec v_scale2(vec a, vec n)
{
	return _mm512_castsi512_ps(
		_mm512_add_epi32(_mm512_castps_si512(a),
	                         _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23)));
}

static inline vmask v_less(vec a, vec b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

/* Lanes i with lo <= base + i < hi. */
static inline vmask v_range(uint32_t base, uint32_t lo, uint32_t hi)
{
	__m512i i =
		_mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
	                                           10, 11, 12, 13, 14, 15),
	                         _mm512_set1_epi32((int)base));

	return _mm512_cmpge_epi32_mask(i, _mm512_set1_epi32((int)lo)) &
	       _mm512_cmplt_epi32_mask(i, _mm512_set1_epi32((int)hi));
}

/* @a where @m, else @b. */
static inline vec v_select(vmask m, vec a, vec b)
{
	return _mm512_mask_mov_ps(b, m, a);
}

static inline __m256 v_half(vec a, int high)
{
	return high ? _mm512_extractf32x8_ps(a, 1) : _mm512_castps512_ps256(a);
}

static inline float v_hmax(vec a)
{
	return v8_max(_mm256_max_ps(v_half(a, 0), v_half(a, 1)));
}

/* Sum over LANES lanes, given as VPARTS vectors. */
static inline float v_sum(const vec *a)
{
	return v8_sum(_mm256_add_ps(v_half(a[0], 0), v_half(a[0], 1)));
}

/* 16 codes of f16 or bf16 as floats. */
static inline vec v16_halves(uint32_t format, __m256i codes)
{
	if (format == KVD_F16)
		return _mm512_cvtph_ps(codes);
	return _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}

/* 8 floats at @p, for each token of a vector. */
static inline vec v_repeat8(const float *p)
{
	return _mm512_broadcast_f32x8(_mm256_loadu_ps(p));
}

/* 8 codes of each of VTOKENS tokens, @row bytes apart. */
static inline vec v_tokens(uint32_t format, const char *p, size_t row)
{
	const __m128i *a = (const __m128i *)p, *b = (const __m128i *)(p + row);

	if (format == KVD_INT8)
		return _mm512_cvtepi32_ps(
			_mm512_cvtepu8_epi32(_mm_unpacklo_epi64(
				_mm_loadl_epi64(a), _mm_loadl_epi64(b))));
	return v16_halves(format,
	                  _mm256_inserti128_si256(
				  _mm256_castsi128_si256(_mm_loadu_si128(a)),
				  _mm_loadu_si128(b), 1));
}

/* VLANES codes as floats. */
static inline vec v_codes(uint32_t format, const void *p)
{
	if (format == KVD_INT8)
		return _mm512_cvtepi32_ps(
			_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
	return v16_halves(format, _mm256_loadu_si256(p));
}

/* 8 codes as floats, zeros in lanes past them. */
static inline vec v_codes8(uint32_t format, const void *p)
{
	return _mm512_insertf32x8(_mm512_setzero_ps(), v8_codes(format, p), 0);
}

#endif
