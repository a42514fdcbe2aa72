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
#include "kernels/host/form8.h"

#define VLANES  16u
#define VPARTS  1u  /* vectors in LANES lanes */
#define VTOKENS 2u  /* tokens side by side in a dot product */
#define VACCS   16u /* accumulators that stay in registers */

typedef __m512 vec;
typedef __m512i vint;
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

/* 8 floats at @p, for each token of a vector. */
static inline vec v_repeat8(const float *p)
{
	return _mm512_broadcast_f32x8(_mm256_loadu_ps(p));
}

static inline __m256i v_both(__m128i a, __m128i b)
{
	return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* 16 codes of 16 bits. */
static inline vec v16_halves(enum form f, __m256i codes)
{
	if (f == FORM_BF16)
		return _mm512_castsi512_ps(
			_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
	return _mm512_cvtph_ps(codes);
}

/* 16 codes of 8 bits. */
static inline vec v16_bytes(enum form f, __m128i codes)
{
	__m128i high = _mm_srli_si128(codes, 8), zero = _mm_setzero_si128();

	if (f == FORM_E4M3 || f == FORM_E4M3N)
		return _mm512_cvtph_ps(
			v_both(v8_e4m3(f, codes), v8_e4m3(f, high)));
	if (f == FORM_E5M2)
		return _mm512_cvtph_ps(v_both(_mm_unpacklo_epi8(zero, codes),
		                              _mm_unpacklo_epi8(zero, high)));
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
}

/* 8 codes of each of VTOKENS tokens, @row bytes apart. */
static inline vec v_tokens(enum form f, const char *p, size_t row)
{
	const __m128i *a = (const __m128i *)p, *b = (const __m128i *)(p + row);

	if (f == FORM_F32)
		return _mm512_insertf32x8(
			_mm512_castps256_ps512(_mm256_loadu_ps((float *)a)),
			_mm256_loadu_ps((float *)b), 1);
	if (form_bytes(f) == 1)
		return v16_bytes(f, _mm_unpacklo_epi64(_mm_loadl_epi64(a),
		                                       _mm_loadl_epi64(b)));
	return v16_halves(f, v_both(_mm_loadu_si128(a), _mm_loadu_si128(b)));
}

/* VLANES codes as floats. */
static inline vec v_codes(enum form f, const void *p)
{
	if (f == FORM_F32)
		return _mm512_loadu_ps((const float *)p);
	if (form_bytes(f) == 1)
		return v16_bytes(f, _mm_loadu_si128(p));
	return v16_halves(f, _mm256_loadu_si256(p));
}

/* 8 codes as floats, zeros in lanes past them. */
static inline vec v_codes8(enum form f, const void *p)
{
	return _mm512_insertf32x8(_mm512_setzero_ps(), v8_form(f, p), 0);
}

/* 8 words of each of VTOKENS tokens, @row bytes apart. */
static inline vint v_words(const char *p, size_t row)
{
	const __m256i *a = (const __m256i *)p, *b = (const __m256i *)(p + row);

	return _mm512_inserti64x4(
		_mm512_castsi256_si512(_mm256_loadu_si256(a)),
		_mm256_loadu_si256(b), 1);
}

/* 8 words, for each octet of a vector. */
static inline vint v_repeat_words(const char *p)
{
	return _mm512_broadcast_i64x4(
		_mm256_loadu_si256((const __m256i *)p));
}

/* Field @j of @bits, as the float that strip.h says it is. */
static inline vec v_field(uint32_t bits, vint w, uint32_t j)
{
	uint32_t mask = (1u << bits) - 1;

	if (bits * (j + 1) == 32) {
		w = _mm512_srli_epi32(w, bits);
		j--;
	}
	return _mm512_cvtepi32_ps(_mm512_and_si512(
		w, _mm512_set1_epi32((int)(mask << bits * j))));
}

/* @a in the first octet, @b in the second. */
static inline vint v_octets(uint32_t a, uint32_t b)
{
	return _mm512_inserti64x4(_mm512_set1_epi32((int)a),
	                          _mm256_set1_epi32((int)b), 1);
}

/* Fields @j and up, one to each octet of a vector. */
static inline vec v_fields(uint32_t bits, vint w, uint32_t j)
{
	uint32_t low = ((1u << bits) - 1) << bits * j;

	if (bits * (j + 2) < 32)
		return _mm512_cvtepi32_ps(
			_mm512_and_si512(w, v_octets(low, low << bits)));
	w = _mm512_srlv_epi32(w, v_octets(0, bits));
	return _mm512_cvtepi32_ps(_mm512_and_si512(w, v_octets(low, low)));
}

/* The same, as entries of @lut. */
static inline vec v_lookup(enum form f, const float *lut, vint w, uint32_t j)
{
	uint32_t by = form_field(f) * j;

	w = _mm512_srlv_epi32(w, v_octets(by, by + form_field(f)));
	return _mm512_permutexvar_ps(w, _mm512_loadu_ps(lut));
}

#endif
