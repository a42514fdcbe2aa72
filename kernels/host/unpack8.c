/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack8.c - see unpack8.h. Pure; any thread.
 */
#include "kernels/host/unpack8.h"
#include "kernels/pack.h"

#define INLINE static inline __attribute__((always_inline))

/* 8 lanes of @bits each, as words of 32. */
static __m256i lanes(uint32_t bits, const char *p)
{
	if (bits == 32)
		return _mm256_loadu_si256((const __m256i *)p);
	if (bits == 16)
		return _mm256_cvtepu16_epi32(
			_mm_loadu_si128((const __m128i *)p));
	return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* A row of 4, 2 or 1 bits; chunks only get narrower, so none straddles. */
static void words(uint32_t bits, const char *row, uint32_t dim, __m256i *out)
{
	uint32_t left = dim / PACK_LANES * bits, at = 0, lane;
	__m256i x;

	for (; left; left -= lane < left ? lane : left) {
		lane = pack_lane_bits(left);
		x = _mm256_sll_epi32(lanes(lane, row),
				     _mm_cvtsi32_si128(at % 32));
		if (at % 32)
			x = _mm256_or_si256(x, out[at / 32]);
		_mm256_storeu_si256(&out[at / 32], x);
		row += PACK_LANES * lane / 8;
		at += lane;
	}
}

static __m256i spread(__m256i x, int by, uint32_t mask)
{
	return _mm256_and_si256(_mm256_or_si256(x, _mm256_slli_epi32(x, by)),
				_mm256_set1_epi32((int)mask));
}

/* 8 fields of 2 bits and 8 of 1 become 8 of 4. */
static __m256i join3(__m256i low, __m256i high)
{
	low = _mm256_and_si256(low, _mm256_set1_epi32(0xffff));
	low = spread(low, 8, 0x00ff00ff);
	low = spread(low, 4, 0x0f0f0f0f);
	low = spread(low, 2, 0x33333333);
	high = _mm256_and_si256(high, _mm256_set1_epi32(0xff));
	high = spread(high, 12, 0x000f000f);
	high = spread(high, 6, 0x03030303);
	high = spread(high, 3, 0x11111111);
	return _mm256_or_si256(low, _mm256_slli_epi32(high, 2));
}

void unpack8_words(uint32_t bits, const char *row, uint32_t dim, char *out)
{
	__m256i low[KVD_MAX_DIM / 128 + 1], high[KVD_MAX_DIM / 256 + 1], x, y;
	uint32_t octets = dim / PACK_LANES, o;

	if (bits != 3) {
		words(bits, row, dim, (__m256i *)out);
		return;
	}
	words(2, row, dim, low);
	words(1, row + pack_row_bytes(2, dim), dim, high);
	for (o = 0; o < octets; o += 8, out += 32) {
		x = _mm256_srl_epi32(low[o / 16],
				     _mm_cvtsi32_si128(2 * (o % 16)));
		y = _mm256_srl_epi32(high[o / 32],
				     _mm_cvtsi32_si128((int)(o % 32)));
		_mm256_storeu_si256((__m256i *)out, join3(x, y));
	}
}

/* Values of elements d .. d + 7. What a form never has is left out. */
INLINE __m256 octet(enum form f, const struct unpack8 *u, const char *codes,
		    uint32_t d, __m256 low, __m256 high)
{
	uint32_t bits = form_field(f), j;
	__m256i w;
	__m256 x;

	if (!bits) {
		x = v8_form(f, codes + d * form_bytes(f));
	} else {
		j = d / 8 % (32 / bits);
		w = _mm256_loadu_si256(
			(const __m256i *)(codes + d / (256 / bits) * 32));
		w = _mm256_srl_epi32(w, _mm_cvtsi32_si128((int)(bits * j)));
		x = f < FORM_L4 ? _mm256_cvtepi32_ps(_mm256_and_si256(
					  w,
					  _mm256_set1_epi32((1 << bits) - 1))) :
				  v8_lookup(f, low, high, w);
	}
	if (form_exact(f))
		return x;
	x = _mm256_fmadd_ps(x, _mm256_loadu_ps(u->scale + d),
			    _mm256_loadu_ps(u->zero + d));
	if (f >= FORM_L4)
		return x;
	return _mm256_fmadd_ps(x, _mm256_set1_ps(u->a), _mm256_set1_ps(u->b));
}

INLINE void values(enum form f, const struct unpack8 *u, const char *codes,
		   float *out)
{
	__m256 low = _mm256_loadu_ps(u->lut);
	__m256 high = _mm256_loadu_ps(u->lut + 8), a, b, c, s;
	const uint32_t n = u->pairs, dim = u->dim;
	uint32_t d;

	for (d = 0; d < n; d += 8) {
		a = octet(f, u, codes, d, low, high);
		b = octet(f, u, codes, d + n, low, high);
		c = _mm256_loadu_ps(u->angles + d);
		s = _mm256_loadu_ps(u->angles + n + d);
		_mm256_storeu_ps(out + d,
				 _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
		_mm256_storeu_ps(out + n + d,
				 _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
	}
	for (d = 2 * n; d < dim; d += 8)
		_mm256_storeu_ps(out + d, octet(f, u, codes, d, low, high));
}

void unpack8_values(const struct unpack8 *u, const char *codes, float *out)
{
	switch (u->form) {
#define CASE(f)                                                                \
	case f:                                                                \
		values(f, u, codes, out);                                      \
		break;
	CASE(FORM_F16)
	CASE(FORM_BF16)
	CASE(FORM_U8)
	CASE(FORM_E4M3)
	CASE(FORM_E4M3N)
	CASE(FORM_E5M2)
	CASE(FORM_N4)
	CASE(FORM_N2)
	CASE(FORM_L4)
	CASE(FORM_L3)
	CASE(FORM_L2)
#undef CASE
	default:
		break;
	}
}
