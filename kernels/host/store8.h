/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store8.h - what storing codes takes on 8 lanes: loads, rounding, packing.
 *
 * For files built with AVX2, FMA and F16C. half.h, pack.h and fp8.h say the
 * same in scalar C. An octet is 8 neighbours, one in each lane.
 */
#ifndef KERNELS_HOST_STORE8_H
#define KERNELS_HOST_STORE8_H

#include <immintrin.h>
#include <stdint.h>
#include "kernels/host/half.h"
#include "kernels/pack.h"

#define S8_RNE	  (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define S8_INLINE static inline __attribute__((always_inline))

/* 8 elements of an array of @dtype from @i on. */
S8_INLINE __m256 s8_load(uint32_t dtype, const void *p, size_t i)
{
	const uint16_t *h = (const uint16_t *)p + i;

	if (dtype == KVD_DTYPE_F32)
		return _mm256_loadu_ps((const float *)p + i);
	if (dtype == KVD_DTYPE_F16)
		return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)h));
	return _mm256_castsi256_ps(_mm256_slli_epi32(
		_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)h)),
		16));
}

/* As f16_round(). */
S8_INLINE __m256 s8_round_f16(__m256 x)
{
	return _mm256_cvtph_ps(_mm256_cvtps_ph(x, S8_RNE));
}

/* Of 8 elements the nearest f16; nothing to do where they are f16. */
S8_INLINE __m256 s8_load_f16(uint32_t dtype, const void *p, size_t i)
{
	__m256 x = s8_load(dtype, p, i);

	return dtype == KVD_DTYPE_F16 ? x : s8_round_f16(x);
}

/*
 * Sums up whether all was finite: @acc starts as 0 and stays so until a lane
 * meets Inf or NaN.
 */
S8_INLINE __m256 s8_watch(__m256 acc, __m256 x)
{
	return _mm256_fmadd_ps(x, _mm256_setzero_ps(), acc);
}

S8_INLINE int s8_all_finite(__m256 acc)
{
	return !_mm256_movemask_ps(_mm256_cmp_ps(acc, acc, _CMP_UNORD_Q));
}

/* 8 integers of 0 to 65535 as u16, and of 0 to 255 as u8. */
S8_INLINE __m128i s8_to_u16(__m256i c)
{
	return _mm_packus_epi32(_mm256_castsi256_si128(c),
				_mm256_extracti128_si256(c, 1));
}

S8_INLINE void s8_store_u8(uint8_t *p, __m256i c)
{
	__m128i w = s8_to_u16(c);

	_mm_storel_epi64((__m128i *)p, _mm_packus_epi16(w, w));
}

/* Codes of octet @j of a row. */
typedef __m256i s8_octet_fn(void *ctx, uint32_t j);

/* @n octets from @j on, of @bits per code, in one lane each. */
S8_INLINE __m256i s8_lanes(uint32_t bits, uint32_t n, s8_octet_fn *octet,
			   void *ctx, uint32_t j)
{
	__m256i acc = octet(ctx, j);
	uint32_t i;

	for (i = 1; i < n; i++)
		acc = _mm256_or_si256(
			acc, _mm256_slli_epi32(octet(ctx, j + i),
					       (int)(bits * i)));
	return acc;
}

/* A row of @nr octets, of 8 bits: one byte each. */
S8_INLINE void s8_store_bytes(uint32_t nr, s8_octet_fn *octet, void *ctx,
			      uint8_t *row)
{
	uint32_t j;

	for (j = 0; j + 2 <= nr; j += 2) {
		__m128i a = s8_to_u16(octet(ctx, j));
		__m128i b = s8_to_u16(octet(ctx, j + 1));

		_mm_storeu_si128((__m128i *)(row + 8 * j),
				 _mm_packus_epi16(a, b));
	}
	if (j < nr)
		s8_store_u8(row + 8 * j, octet(ctx, j));
}

/* A row of @nr octets of 8, 4 or 2 bits, packed as pack.h says. */
S8_INLINE void s8_pack(uint32_t bits, uint32_t nr, s8_octet_fn *octet,
		       void *ctx, uint8_t *row)
{
	uint32_t j = 0;

	if (bits == 8) {
		s8_store_bytes(nr, octet, ctx, row);
		return;
	}
	for (; (nr - j) * bits >= 32; j += 32 / bits, row += 32)
		_mm256_storeu_si256((__m256i *)row,
				    s8_lanes(bits, 32 / bits, octet, ctx, j));
	if ((nr - j) * bits >= 16) {
		_mm_storeu_si128(
			(__m128i *)row,
			s8_to_u16(s8_lanes(bits, 16 / bits, octet, ctx, j)));
		j += 16 / bits;
		row += 16;
	}
	if ((nr - j) * bits >= 8) {
		s8_store_u8(row, s8_lanes(bits, 8 / bits, octet, ctx, j));
		j += 8 / bits;
		row += 8;
	}
	if (j < nr)
		s8_store_u8(row, s8_lanes(bits, nr - j, octet, ctx, j));
}

#endif
