/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append_avx2.c - stores rows as ref.c defines, 8 elements at a time.
 *
 * ref.c says why fp32 arithmetic rounded to f16 is f16 arithmetic. Stateless;
 * any thread.
 */
#include <math.h>
#include "kernels/host/basis.h"
#include "kernels/host/fp8.h"
#include "kernels/host/row.h"
#include "kernels/host/store8.h"
#include "kernels/host/vec8.h"

/* 16-bit codes with all bits of @exp set are Inf or NaN. */
static inline int has_exp(__m128i codes, uint16_t exp)
{
	__m128i e = _mm_set1_epi16((short)exp);

	return _mm_movemask_epi8(_mm_cmpeq_epi16(_mm_and_si128(codes, e), e));
}

/*
 * A row that is already what its page is in. Return: whether all is finite; if
 * not, NaNs have yet to be quieted.
 */
static int row_copy(const struct row *r, uint16_t exp)
{
	const uint16_t *src = r->src;
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i += 8) {
		__m128i c = _mm_loadu_si128((const __m128i *)(src + i));

		_mm_storeu_si128((__m128i *)(codes + i), c);
		bad |= has_exp(c, exp);
	}
	return !bad;
}

static int f16_row_store(const struct row *r)
{
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	if (r->dtype == KVD_DTYPE_F16 && row_copy(r, F16_EXP))
		return 0;
	for (i = 0; i < r->dim; i += 8) {
		__m256 x = s8_load(r->dtype, r->src, i);
		__m128i c = _mm256_cvtps_ph(x, S8_RNE);

		_mm_storeu_si128((__m128i *)(codes + i), c);
		bad |= has_exp(c, F16_EXP);
	}
	return bad != 0;
}

/* As bf16_from_f32(). */
static inline __m128i to_bf16(__m256 x)
{
	__m256i u = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
	__m256i near = _mm256_add_epi32(
		u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	__m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));

	near = _mm256_blendv_epi8(
		near, nan,
		_mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
	return s8_to_u16(_mm256_srli_epi32(near, 16));
}

static int bf16_row_store(const struct row *r)
{
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	if (r->dtype == KVD_DTYPE_BF16 && row_copy(r, BF16_EXP))
		return 0;
	for (i = 0; i < r->dim; i += 8) {
		__m128i c = to_bf16(s8_load(r->dtype, r->src, i));

		_mm_storeu_si128((__m128i *)(codes + i), c);
		bad |= has_exp(c, BF16_EXP);
	}
	return bad != 0;
}

/*
 * fp8 with @mantissa bits and this bias, of a quotient: fp8_round() and the
 * sign. Below the smallest normal number codes count multiples of the
 * smallest subnormal one, which @fine brings to 1.
 */
S8_INLINE __m256i fp8_codes(uint32_t mantissa, uint32_t bias, float max,
			    float fine, int nan_code, __m256 y)
{
	const int drop = 23 - (int)mantissa;
	__m256i sign = _mm256_and_si256(
		_mm256_srli_epi32(_mm256_castps_si256(y), 24),
		_mm256_set1_epi32(0x80));
	__m256 x = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), y);
	__m256 least = _mm256_set1_ps(
		f32_from_bits((127u - bias + 1) << 23));
	__m256i u, odd, small;

	x = _mm256_min_ps(x, _mm256_set1_ps(max));
	u = _mm256_castps_si256(x);
	odd = _mm256_and_si256(_mm256_srli_epi32(u, drop),
			       _mm256_set1_epi32(1));
	u = _mm256_add_epi32(
		_mm256_add_epi32(u, odd),
		_mm256_set1_epi32((1 << (drop - 1)) - 1 -
				  (int)((127u - bias) << 23)));
	u = _mm256_srli_epi32(u, drop);
	small = _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(fine)));
	u = _mm256_blendv_epi8(u, small,
			       _mm256_castps_si256(_mm256_cmp_ps(
				       x, least, _CMP_LT_OQ)));
	u = _mm256_blendv_epi8(u, _mm256_set1_epi32(nan_code),
			       _mm256_castps_si256(_mm256_cmp_ps(
				       y, y, _CMP_UNORD_Q)));
	return _mm256_or_si256(u, sign);
}

S8_INLINE __m256i e4m3(__m256 y)
{
	return fp8_codes(3, 7, E4M3_MAX, 0x1p9f, E4M3_NAN, y);
}

S8_INLINE __m256i e5m2(__m256 y)
{
	return fp8_codes(2, 15, E5M2_MAX, 0x1p16f, E5M2_NAN, y);
}

struct fp8_row {
	uint32_t format;
	uint32_t dtype;
	const void *src;
	int product;  /* factor is 1 / scale, and exact; else it is scale */
	__m256 factor;
	__m256 watch;
};

S8_INLINE __m256i fp8_octet(void *ctx, uint32_t j)
{
	struct fp8_row *c = ctx;
	__m256 x = s8_load(c->dtype, c->src, 8 * j), y;

	c->watch = s8_watch(c->watch, x);
	y = c->product ? _mm256_mul_ps(x, c->factor) :
			 _mm256_div_ps(x, c->factor);
	return c->format == KVD_FP8_E4M3 ? e4m3(y) : e5m2(y);
}

/* A power of two whose reciprocal is one: x * (1 / scale) is x / scale. */
static int is_power(float scale)
{
	uint32_t u = f32_bits(scale), exp = u >> 23;

	return !(u & 0x7fffff) && exp > 1 && exp < 253;
}

S8_INLINE int fp8_row(const struct row *r, uint32_t format, uint32_t dtype)
{
	struct fp8_row c = {
		.format = format,
		.dtype = dtype,
		.src = r->src,
		.product = is_power(r->scale),
		.watch = _mm256_setzero_ps(),
	};

	c.factor = _mm256_set1_ps(c.product ? 1.0f / r->scale : r->scale);
	s8_pack(8, r->dim / 8, fp8_octet, &c, r->codes);
	return !s8_all_finite(c.watch);
}

static int fp8_row_store(const struct row *r)
{
	int wide = r->format == KVD_FP8_E5M2;

	switch (r->dtype) {
	case KVD_DTYPE_F32:
		return wide ? fp8_row(r, KVD_FP8_E5M2, KVD_DTYPE_F32) :
			      fp8_row(r, KVD_FP8_E4M3, KVD_DTYPE_F32);
	case KVD_DTYPE_F16:
		return wide ? fp8_row(r, KVD_FP8_E5M2, KVD_DTYPE_F16) :
			      fp8_row(r, KVD_FP8_E4M3, KVD_DTYPE_F16);
	default:
		return wide ? fp8_row(r, KVD_FP8_E5M2, KVD_DTYPE_BF16) :
			      fp8_row(r, KVD_FP8_E4M3, KVD_DTYPE_BF16);
	}
}

/* Minimum and maximum of a row of f16, -0 as +0. Return: is it finite? */
S8_INLINE int row_range(uint32_t dtype, const void *src, uint32_t dim,
			float *ret_min, float *ret_max)
{
	__m256 mn = _mm256_set1_ps(INFINITY), mx = _mm256_set1_ps(-INFINITY);
	__m256 watch = _mm256_setzero_ps();
	uint32_t i;

	for (i = 0; i < dim; i += 8) {
		__m256 x = s8_load_f16(dtype, src, i);

		watch = s8_watch(watch, x);
		mn = _mm256_min_ps(mn, x);
		mx = _mm256_max_ps(mx, x);
	}
	*ret_min = v8_min(mn) + 0.0f;
	*ret_max = v8_max(mx) + 0.0f;
	return s8_all_finite(watch);
}

struct affine_row {
	uint32_t dtype;
	const void *src;
	__m256 min, inv, q;
};

S8_INLINE __m256i affine_octet(void *ctx, uint32_t j)
{
	struct affine_row *c = ctx;
	__m256 x = s8_load_f16(c->dtype, c->src, 8 * j);

	x = s8_round_f16(_mm256_sub_ps(x, c->min));
	x = s8_round_f16(_mm256_mul_ps(x, c->inv));
	return _mm256_cvtps_epi32(_mm256_min_ps(x, c->q));
}

/* As f16_from_f32(), which is slow. */
static inline uint16_t to_f16(float x)
{
	return _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), S8_RNE), 0);
}

static inline float round_f16(float x)
{
	return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtps_ph(_mm_set_ss(x), S8_RNE)));
}

S8_INLINE int affine_row(const struct row *r, uint32_t bits, uint32_t dtype)
{
	const float q = (float)((1u << bits) - 1);
	struct affine_row c = { .dtype = dtype, .src = r->src };
	float mn, mx, scale, inv;

	if (!row_range(dtype, r->src, r->dim, &mn, &mx)) {
		memset(r->codes, 0, pack_row_bytes(bits, r->dim));
		*r->meta = (struct affine_meta){ 0, AFFINE_NAN };
		return 1;
	}
	scale = round_f16((mx - mn) * (1.0f / q));
	inv = scale > 0.0f ? 1.0f / scale : 0.0f;
	if (round_f16(inv) < INFINITY)
		inv = round_f16(inv);
	c.min = _mm256_set1_ps(mn);
	c.inv = _mm256_set1_ps(inv);
	c.q = _mm256_set1_ps(q);
	s8_pack(bits, r->dim / 8, affine_octet, &c, r->codes);
	*r->meta = (struct affine_meta){ to_f16(scale), to_f16(mn) };
	return round_f16(mx - mn) == INFINITY;
}

static int affine_row_store(const struct row *r)
{
	int wide = r->format == KVD_INT8;

	switch (r->dtype) {
	case KVD_DTYPE_F32:
		return wide ? affine_row(r, 8, KVD_DTYPE_F32) :
			      affine_row(r, 4, KVD_DTYPE_F32);
	case KVD_DTYPE_F16:
		return wide ? affine_row(r, 8, KVD_DTYPE_F16) :
			      affine_row(r, 4, KVD_DTYPE_F16);
	default:
		return wide ? affine_row(r, 8, KVD_DTYPE_BF16) :
			      affine_row(r, 4, KVD_DTYPE_BF16);
	}
}

static int coded_row_store(const struct row *r)
{
	switch (format_coding(r->format)) {
	case CODING_16:
		return r->format == KVD_F16 ? f16_row_store(r) :
					      bf16_row_store(r);
	case CODING_FP8:
		return fp8_row_store(r);
	default:
		return affine_row_store(r);
	}
}

/**
 * avx2_row_store() - stores one row, with the bytes of ref_row_store()
 *
 * Return: 1 when the row holds what the format cannot, else 0.
 */
int avx2_row_store(const struct row *r)
{
	float x[KVD_MAX_DIM], y[KVD_MAX_DIM];
	struct row turned = *r;
	uint32_t i;

	if (r->basis == BASIS_PLAIN)
		return coded_row_store(r);
	for (i = 0; i < r->dim; i += 8)
		_mm256_storeu_ps(x + i, s8_load(r->dtype, r->src, i));
	avx2_basis_apply(r->basis, r->dim, r->rotation, x, y);
	turned.dtype = KVD_DTYPE_F32;
	turned.src = y;
	return coded_row_store(&turned);
}
