/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_oscar_avx2.c - ref_oscar.c, 8 elements at a time. Stateless; any thread.
 */
#include "kernels/host/tile_avx2.h"

/* How many of |x| are below the float of bits @least. */
static uint32_t nr_below(const float *x, uint32_t dim, uint32_t least)
{
	__m256i m = _mm256_set1_epi32((int)least), nr = _mm256_setzero_si256();
	__m128i n;
	uint32_t d;

	for (d = 0; d < dim; d += 8) {
		__m256 a = v8_abs(_mm256_loadu_ps(x + d));

		nr = _mm256_sub_epi32(
			nr, _mm256_cmpgt_epi32(m, _mm256_castps_si256(a)));
	}
	n = _mm_add_epi32(_mm256_castsi256_si128(nr),
			  _mm256_extracti128_si256(nr, 1));
	n = _mm_add_epi32(n, _mm_shuffle_epi32(n, 0x4e));
	n = _mm_add_epi32(n, _mm_shuffle_epi32(n, 0xb1));
	return (uint32_t)_mm_cvtsi128_si32(n);
}

/* Floats of one sign are in the order of their bits: bit by bit. */
static float limit_of(const float *x, uint32_t dim, int is_v)
{
	uint32_t rank = dim * (is_v ? 92 : 96) / 100, u = 0, bit;

	for (bit = 1u << 30; bit; bit >>= 1)
		if (nr_below(x, dim, u | bit) <= rank)
			u |= bit;
	return f32_from_bits(u);
}

static inline __m256 v8_clip(const float *x, __m256 limit)
{
	__m256 low = _mm256_xor_ps(limit, _mm256_set1_ps(-0.0f));

	return _mm256_min_ps(_mm256_max_ps(_mm256_loadu_ps(x), low), limit);
}

static void codes_of(const struct side *s, uint32_t t, const float *x,
		     float limit)
{
	__m256 l = _mm256_set1_ps(limit), mn = l, mx = _mm256_set1_ps(-limit);
	uint8_t codes[KVD_MAX_DIM];
	float min, max, scale;
	uint32_t d;

	for (d = 0; d < s->dim; d += 8) {
		mn = _mm256_min_ps(mn, v8_clip(x + d, l));
		mx = _mm256_max_ps(mx, v8_clip(x + d, l));
	}
	min = v8_min(mn) + 0.0f;
	max = v8_max(mx);
	scale = (max - min > 1e-8f ? max - min : 1e-8f) / 3.0f;
	side_affine(s)[t] =
		(struct affine_meta){ v1_to_f16(scale), v1_to_f16(min) };
	for (d = 0; d < s->dim; d += 8) {
		__m256 q = _mm256_sub_ps(v8_clip(x + d, l),
					 _mm256_set1_ps(min));

		q = _mm256_div_ps(q, _mm256_set1_ps(scale));
		q = _mm256_add_ps(q, _mm256_set1_ps(0.5f));
		q = _mm256_min_ps(q, _mm256_set1_ps(3.0f));
		v8_bytes_store(codes + d, _mm256_floor_ps(q));
	}
	if (!side_affine(s)[t].scale)
		memset(codes, 0, s->dim);
	v8_pack(s, t, codes);
}

/**
 * avx2_oscar_store() - seals a side with the bytes of ref_oscar_store()
 */
int avx2_oscar_store(const struct side *s, const float *x,
		     const struct kv_tables *tables)
{
	uint32_t t;
	int bad = 0;

	for (t = 0; t < s->tokens; t++, x += s->dim) {
		if (v8_in_reach(x, s->dim)) {
			codes_of(s, t, x, limit_of(x, s->dim, s->is_v));
			continue;
		}
		side_affine(s)[t] = (struct affine_meta){ 0, F16_NAN };
		memset(s->codes + (uint64_t)t * s->row, 0, s->row);
		bad = 1;
	}
	return bad;
}
