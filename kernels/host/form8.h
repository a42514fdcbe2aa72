/* SPDX-License-Identifier: Apache-2.0 */
/*
 * form8.h - 8 codes of a strip's form as floats: what AVX2 and AVX-512 share.
 */
#ifndef KERNELS_HOST_FORM8_H
#define KERNELS_HOST_FORM8_H

#include "kernels/host/strip.h"
#include "kernels/host/vec8.h"

/* f16 of 8 codes of e4m3, 1 / 256 of their values; NaN only if @f is of it. */
static inline __m128i v8_e4m3(enum form f, __m128i codes)
{
	__m128i x = _mm_unpacklo_epi8(_mm_setzero_si128(), codes);
	__m128i low = _mm_set1_epi16(0x3f80), nan;

	x = _mm_and_si128(_mm_srai_epi16(x, 1), _mm_set1_epi16((short)0xbfff));
	if (f == FORM_E4M3)
		return x;
	nan = _mm_cmpeq_epi16(_mm_and_si128(x, low), low);
	return _mm_or_si128(x, nan);
}

/* 8 codes of a form that is not packed, as floats. */
static inline __m256 v8_form(enum form f, const void *p)
{
	const __m128i *q = p;

	switch (f) {
	case FORM_F32:
		return _mm256_loadu_ps(p);
	case FORM_F16:
		return _mm256_cvtph_ps(_mm_loadu_si128(q));
	case FORM_BF16:
		return _mm256_castsi256_ps(_mm256_slli_epi32(
			_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), 16));
	case FORM_E4M3:
	case FORM_E4M3N:
		return _mm256_cvtph_ps(v8_e4m3(f, _mm_loadl_epi64(q)));
	case FORM_E5M2:
		return _mm256_cvtph_ps(_mm_unpacklo_epi8(
			_mm_setzero_si128(), _mm_loadl_epi64(q)));
	default:
		return _mm256_cvtepi32_ps(
			_mm256_cvtepu8_epi32(_mm_loadl_epi64(q)));
	}
}

/*
 * Entries of a table of two halves; bits of @i beyond those of an index are
 * ignored.
 */
static inline __m256 v8_lookup(enum form f, __m256 low, __m256 high, __m256i i)
{
	if (f == FORM_L2)
		return _mm256_permutevar_ps(low, i);
	low = _mm256_permutevar8x32_ps(low, i);
	if (f == FORM_L3)
		return low;
	return _mm256_blendv_ps(
		low, _mm256_permutevar8x32_ps(high, i),
		_mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}

#endif
