/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_avx2.h - the vectors of attend.inc.c on AVX2, FMA and F16C.
 *
 * vec_avx512.h is the other one; both give the same bits. Where lanes are
 * summed their number is fixed: a dot product has 8, lane i adding dims i,
 * i + 8, ... in order, then summed as in v8_sum(); weights have LANES = 16,
 * lane i adding tokens i, i + 16, ... in order, then lane i + 8 is added to
 * lane i, then v8_sum().
 */
#ifndef KERNELS_HOST_VEC_H
#define KERNELS_HOST_VEC_H

#include <immintrin.h>
#include "kernels/host/form8.h"

#define VLANES  8u
#define VPARTS  2u  /* vectors in LANES lanes */
#define VTOKENS 1u  /* tokens side by side in a dot product */
#define VACCS   12u /* accumulators that stay in registers */

typedef __m256 vec;
typedef __m256i vint;
typedef __m256 vmask;

static inline vec v_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, vec a)
{
	_mm256_storeu_ps(p, a);
}

/* @a, kept in a register: not loaded again at each use. */
static inline vec v_keep(vec a)
{
	__asm__("" : "+x"(a));
	return a;
}

static inline vec v_set(float x)
{
	return _mm256_set1_ps(x);
}

static inline vec v_add(vec a, vec b)
{
	return _mm256_add_ps(a, b);
}

static inline vec v_sub(vec a, vec b)
{
	return _mm256_sub_ps(a, b);
}

static inline vec v_mul(vec a, vec b)
{
	return _mm256_mul_ps(a, b);
}

static inline vec v_div(vec a, vec b)
{
	return _mm256_div_ps(a, b);
}

static inline vec v_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* @b where either is NaN. */
static inline vec v_max(vec a, vec b)
{
	return _mm256_max_ps(a, b);
}

static inline vec v_round(vec a)
{
	return _mm256_round_ps(a,
	                       _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec v_abs(vec a)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

/* |a| with the sign of @b. */
static inline vec v_copysign(vec a, vec b)
{
	__m256 sign = _mm256_set1_ps(-0.0f);

	return _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b));
}

/* a * 2^n, n integral; a and the result are normal. */
static inline vec v_scale2(vec a, vec n)
{
	return _mm256_castsi256_ps(
		_mm256_add_epi32(_mm256_castps_si256(a),
	                         _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}

static inline vmask v_less(vec a, vec b)
{
	return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

/* Lanes i with lo <= base + i < hi. */
static inline vmask v_range(uint32_t base, uint32_t lo, uint32_t hi)
{
	__m256i i = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
	                             _mm256_set1_epi32((int)base));

	return _mm256_castsi256_ps(_mm256_andnot_si256(
		_mm256_cmpgt_epi32(_mm256_set1_epi32((int)lo), i),
		_mm256_cmpgt_epi32(_mm256_set1_epi32((int)hi), i)));
}

/* @a where @m, else @b. */
static inline vec v_select(vmask m, vec a, vec b)
{
	return _mm256_blendv_ps(b, a, m);
}

static inline float v_hmax(vec a)
{
	return v8_max(a);
}

/* Sum over LANES lanes, given as VPARTS vectors. */
static inline float v_sum(const vec *a)
{
	return v8_sum(_mm256_add_ps(a[0], a[1]));
}

/* 8 floats at @p, for each token of a vector. */
static inline vec v_repeat8(const float *p)
{
	return _mm256_loadu_ps(p);
}

/* 8 codes of each of VTOKENS tokens, @row bytes apart. */
static inline vec v_tokens(enum form f, const char *p, size_t row)
{
	return v8_form(f, p);
}

/* VLANES codes as floats. */
static inline vec v_codes(enum form f, const void *p)
{
	return v8_form(f, p);
}

/* 8 codes as floats, zeros in lanes past them. */
static inline vec v_codes8(enum form f, const void *p)
{
	return v8_form(f, p);
}

/* 8 words of each of VTOKENS tokens, @row bytes apart. */
static inline vint v_words(const char *p, size_t row)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* 8 words, for each octet of a vector. */
static inline vint v_repeat_words(const char *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* Field @j of @bits, as the float that strip.h says it is. */
static inline vec v_field(uint32_t bits, vint w, uint32_t j)
{
	uint32_t mask = (1u << bits) - 1;

	if (bits * (j + 1) == 32) {
		w = _mm256_srli_epi32(w, (int)bits);
		j--;
	}
	return _mm256_cvtepi32_ps(_mm256_and_si256(
		w, _mm256_set1_epi32((int)(mask << bits * j))));
}

/* Fields @j and up, one to each octet of a vector. */
static inline vec v_fields(uint32_t bits, vint w, uint32_t j)
{
	return v_field(bits, w, j);
}

/* The same, as entries of @lut. */
static inline vec v_lookup(enum form f, const float *lut, vint w, uint32_t j)
{
	return v8_lookup(f, v_load(lut), v_load(lut + 8),
	                 _mm256_srli_epi32(w, (int)(form_field(f) * j)));
}

#endif
