/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec8.h - what AVX2 and AVX-512 builds both do on 8 lanes.
 */
#ifndef KERNELS_HOST_VEC8_H
#define KERNELS_HOST_VEC8_H

#include <immintrin.h>
#include <stdint.h>
#include "kvd/geometry.h"

/* 8 codes of @format as floats. */
static inline __m256 v8_codes(uint32_t format, const void *p)
{
	const __m128i *q = p;

	switch (format) {
	case KVD_F16:
		return _mm256_cvtph_ps(_mm_loadu_si128(q));
	case KVD_BF16:
		return _mm256_castsi256_ps(_mm256_slli_epi32(
			_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), 16));
	default:
		return _mm256_cvtepi32_ps(
			_mm256_cvtepu8_epi32(_mm_loadl_epi64(q)));
	}
}

static inline __m128 v4_of(__m256 a, int high)
{
	return high ? _mm256_extractf128_ps(a, 1) : _mm256_castps256_ps128(a);
}

static inline float v8_max(__m256 a)
{
	__m128 b = _mm_max_ps(v4_of(a, 0), v4_of(a, 1));

	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static inline float v8_min(__m256 a)
{
	__m128 b = _mm_min_ps(v4_of(a, 0), v4_of(a, 1));

	b = _mm_min_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_min_ss(b, _mm_movehdup_ps(b)));
}

static inline float v8_sum(__m256 a)
{
	__m128 b = _mm_add_ps(v4_of(a, 0), v4_of(a, 1));

	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* Of two vectors: per 128 bits a0+a2, b0+b2, a1+a3, b1+b3. */
static inline __m256 v8_sum2(const float *p)
{
	__m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + 8);

	return _mm256_add_ps(_mm256_unpacklo_ps(a, b),
	                     _mm256_unpackhi_ps(a, b));
}

/* Of four vectors: per 128 bits the sum of each. */
static inline __m256 v8_sum4(const float *p)
{
	__m256 a = v8_sum2(p), b = v8_sum2(p + 16);

	return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44),
	                     _mm256_shuffle_ps(a, b, 0xee));
}

/* The sums of 8 vectors of 8 floats at @p. */
static inline __m256 v8_sums(const float *p)
{
	__m256 a = v8_sum4(p), b = v8_sum4(p + 32);

	return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20),
	                     _mm256_permute2f128_ps(a, b, 0x31));
}

/* Scales and minima of 8 tokens. */
static inline void v8_meta(const void *meta, float *scale, float *min)
{
	__m256i m = _mm256_loadu_si256(meta);
	__m256i s = _mm256_and_si256(m, _mm256_set1_epi32(0xffff));
	__m256i n = _mm256_srli_epi32(m, 16);
	__m256i both =
		_mm256_permute4x64_epi64(_mm256_packus_epi32(s, n), 0xd8);

	_mm256_storeu_ps(scale, _mm256_cvtph_ps(_mm256_castsi256_si128(both)));
	_mm256_storeu_ps(min,
	                 _mm256_cvtph_ps(_mm256_extracti128_si256(both, 1)));
}

#endif
