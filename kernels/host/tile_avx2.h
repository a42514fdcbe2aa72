/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tile_avx2.h - tile.h, 8 elements at a time; the same results.
 */
#ifndef KERNELS_HOST_TILE_AVX2_H
#define KERNELS_HOST_TILE_AVX2_H

#include <immintrin.h>
#include "kernels/host/tile.h"
#include "kernels/host/vec8.h"

#define RNE (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline __m256 v8_abs(__m256 x)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/* As tile_in_reach(); @n is a multiple of 8. */
static inline int v8_in_reach(const float *x, uint32_t n)
{
	__m256 max = _mm256_set1_ps(F16_MAX), bad = _mm256_setzero_ps();
	uint32_t i;

	for (i = 0; i < n; i += 8)
		bad = _mm256_or_ps(
			bad, _mm256_cmp_ps(v8_abs(_mm256_loadu_ps(x + i)), max,
					   _CMP_NLE_UQ));
	return !_mm256_movemask_ps(bad);
}

/* As f16_from_f32(), which is slow. */
static inline uint16_t v1_to_f16(float x)
{
	return _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), RNE), 0);
}

/* Stores 8 integers of at most @lane bits as lanes of that width. */
static inline void v8_lanes_store(uint8_t *p, __m256i c, uint32_t lane)
{
	__m128i w;

	if (lane == 32) {
		_mm256_storeu_si256((__m256i *)p, c);
		return;
	}
	w = _mm_packus_epi32(_mm256_castsi256_si128(c),
			     _mm256_extracti128_si256(c, 1));
	if (lane == 16)
		_mm_storeu_si128((__m128i *)p, w);
	else
		_mm_storel_epi64((__m128i *)p, _mm_packus_epi16(w, w));
}

/* A row of the @bits from bit @low up of each code. Return: past its end. */
static inline uint8_t *v8_pack_plane(uint8_t *p, uint32_t bits, uint32_t low,
				     const uint8_t *codes, uint32_t dim)
{
	uint32_t left = dim / PACK_LANES * bits;
	const __m256i mask = _mm256_set1_epi32((1 << bits) - 1);

	while (left) {
		uint32_t lane = pack_lane_bits(left), at;
		__m256i acc = _mm256_setzero_si256();

		for (at = 0; at < lane && left; at += bits, left -= bits) {
			__m256i c = _mm256_cvtepu8_epi32(
				_mm_loadl_epi64((const __m128i *)codes));

			c = _mm256_and_si256(
				_mm256_srl_epi32(c, _mm_cvtsi32_si128(low)),
				mask);
			acc = _mm256_or_si256(
				acc,
				_mm256_sll_epi32(c, _mm_cvtsi32_si128(at)));
			codes += 8;
		}
		v8_lanes_store(p, acc, lane);
		p += PACK_LANES * lane / 8;
	}
	return p;
}

/* As tile_pack(). */
static inline void v8_pack(const struct side *s, uint32_t t,
			   const uint8_t *codes)
{
	uint8_t *row = s->codes + (uint64_t)t * s->row, *p = row;
	uint32_t bits = format_bits(s->format);

	if (bits == 3) {
		p = v8_pack_plane(p, 2, 0, codes, s->dim);
		p = v8_pack_plane(p, 1, 2, codes, s->dim);
	} else {
		p = v8_pack_plane(p, bits, 0, codes, s->dim);
	}
	memset(p, 0, row + s->row - p);
}

/* 8 codes, integers below 256 as floats, to bytes. */
static inline void v8_bytes_store(uint8_t *p, __m256 x)
{
	v8_lanes_store(p, _mm256_cvtps_epi32(x), 8);
}

#endif
