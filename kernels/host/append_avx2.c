/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append_avx2.c - stores rows as ref.c defines, 8 elements at a time.
 *
 * ref.c says why fp32 arithmetic rounded to f16 is f16 arithmetic. Stateless;
 * any thread.
 */
#include <math.h>
#include "kernels/host/half.h"
#include "kernels/host/row.h"
#include "kernels/host/vec8.h"

#define RNE (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline __m256 row_load(const struct row *r, uint32_t i)
{
	switch (r->dtype) {
	case KVD_DTYPE_F16:
		return v8_codes(KVD_F16, (const uint16_t *)r->src + i);
	case KVD_DTYPE_BF16:
		return v8_codes(KVD_BF16, (const uint16_t *)r->src + i);
	default:
		return _mm256_loadu_ps((const float *)r->src + i);
	}
}

static inline __m256 v8_round_f16(__m256 x)
{
	return _mm256_cvtph_ps(_mm256_cvtps_ph(x, RNE));
}

/* 16-bit codes with all bits of @exp set are Inf or NaN. */
static inline int has_exp(__m128i codes, uint16_t exp)
{
	__m128i e = _mm_set1_epi16((short)exp);

	return _mm_movemask_epi8(_mm_cmpeq_epi16(_mm_and_si128(codes, e), e));
}

static int f16_row_store(const struct row *r)
{
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i += 8) {
		__m128i c = _mm256_cvtps_ph(row_load(r, i), RNE);

		_mm_storeu_si128((__m128i *)(codes + i), c);
		bad |= has_exp(c, F16_EXP);
	}
	return bad != 0;
}

/* As bf16_from_f32(). */
static inline __m128i v8_to_bf16(__m256 x)
{
	__m256i u = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
	__m256i near = _mm256_add_epi32(
		u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	__m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));

	near = _mm256_blendv_epi8(
		near, nan,
		_mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
	near = _mm256_srli_epi32(near, 16);
	return _mm_packus_epi32(_mm256_castsi256_si128(near),
	                        _mm256_extracti128_si256(near, 1));
}

static int bf16_row_store(const struct row *r)
{
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i += 8) {
		__m128i c = v8_to_bf16(row_load(r, i));

		_mm_storeu_si128((__m128i *)(codes + i), c);
		bad |= has_exp(c, BF16_EXP);
	}
	return bad != 0;
}

/*
 * Rounds a row to f16 in @out, and gives its minimum and maximum, -0 as +0.
 * Return: whether all of it is finite.
 */
static int row_round(const struct row *r, uint16_t *out, float *ret_min,
                     float *ret_max)
{
	__m256 mn = _mm256_set1_ps(INFINITY), mx = _mm256_set1_ps(-INFINITY);
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i += 8) {
		__m128i h = _mm256_cvtps_ph(row_load(r, i), RNE);
		__m256 x = _mm256_cvtph_ps(h);

		_mm_storeu_si128((__m128i *)(out + i), h);
		bad |= has_exp(h, F16_EXP);
		mn = _mm256_min_ps(mn, x);
		mx = _mm256_max_ps(mx, x);
	}
	*ret_min = v8_min(mn) + 0.0f;
	*ret_max = v8_max(mx) + 0.0f;
	return !bad;
}

/* Codes of 8 elements as 32-bit integers. */
static inline __m256i v8_codes_of(const uint16_t *x, __m256 min, __m256 inv)
{
	__m256 d = v8_round_f16(_mm256_sub_ps(v8_codes(KVD_F16, x), min));
	__m256 t = v8_round_f16(_mm256_mul_ps(d, inv));

	return _mm256_cvtps_epi32(_mm256_min_ps(t, _mm256_set1_ps(255.0f)));
}

static void codes_store(uint8_t *codes, const uint16_t *x, uint32_t dim,
                        float min, float inv)
{
	__m256 n = _mm256_set1_ps(min), m = _mm256_set1_ps(inv);
	uint32_t i;

	for (i = 0; i < dim; i += 8) {
		__m256i c = v8_codes_of(x + i, n, m);
		__m128i w = _mm_packus_epi32(_mm256_castsi256_si128(c),
		                             _mm256_extracti128_si256(c, 1));

		_mm_storel_epi64((__m128i *)(codes + i),
		                 _mm_packus_epi16(w, w));
	}
}

/* As f16_from_f32(), which is slow. */
static inline uint16_t to_f16(float x)
{
	return _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), RNE), 0);
}

static inline float round_f16(float x)
{
	return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtps_ph(_mm_set_ss(x), RNE)));
}

static int int8_row_store(const struct row *r)
{
	uint16_t x[KVD_MAX_DIM];
	float mn, mx, scale, inv;

	if (!row_round(r, x, &mn, &mx))
		return ref_row_store(r);
	scale = round_f16((mx - mn) * (1.0f / 255.0f));
	inv = scale > 0.0f ? 1.0f / scale : 0.0f;
	if (round_f16(inv) < INFINITY)
		inv = round_f16(inv);
	codes_store(r->codes, x, r->dim, mn, inv);
	r->meta->scale = to_f16(scale);
	r->meta->min = to_f16(mn);
	return round_f16(mx - mn) == INFINITY;
}

/**
 * avx2_row_store() - stores one row, with the bytes of ref_row_store()
 *
 * Return: 1 when the row holds what the format cannot, else 0.
 */
int avx2_row_store(const struct row *r)
{
	switch (r->format) {
	case KVD_F16:
		return f16_row_store(r);
	case KVD_BF16:
		return bf16_row_store(r);
	default:
		return int8_row_store(r);
	}
}
