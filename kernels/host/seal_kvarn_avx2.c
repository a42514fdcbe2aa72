/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kvarn_avx2.c - ref_kvarn.c, 8 channels at a time. Stateless; any thread.
 */
#include "kernels/host/kvarn.h"
#include "kernels/host/tile_avx2.h"

#define CHANNELS 4 /* vectors of channels side by side, to hide latency */

static void token_std(struct tile *m)
{
	const float *x = m->x, *inv = m->channel.inv;
	uint32_t t, d;

	for (t = 0; t < m->tokens; t++, x += m->dim) {
		__m256 first = _mm256_set1_ps(x[0] * inv[0]);
		__m256 sum = _mm256_setzero_ps(), squares = sum;

		for (d = 0; d < m->dim; d += 8) {
			__m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + d),
						 _mm256_loadu_ps(inv + d));

			y = _mm256_sub_ps(y, first);
			sum = _mm256_add_ps(sum, y);
			squares = _mm256_add_ps(squares, _mm256_mul_ps(y, y));
		}
		m->token.sd[t] = sd_of(v8_sum(sum), v8_sum(squares), m->dim);
	}
}

/* Of @n vectors of channels from channel @d on. */
static inline __attribute__((always_inline)) void
channels_std(struct tile *m, uint32_t d, int n)
{
	__m256 first[CHANNELS], sum[CHANNELS], squares[CHANNELS];
	float s[8 * CHANNELS], q[8 * CHANNELS];
	const float *x = m->x + d;
	uint32_t t;
	int i;

	for (i = 0; i < n; i++) {
		first[i] = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i),
					 _mm256_set1_ps(m->token.inv[0]));
		sum[i] = squares[i] = _mm256_setzero_ps();
	}
	for (t = 0; t < m->tokens; t++, x += m->dim) {
		__m256 inv = _mm256_set1_ps(m->token.inv[t]);

		for (i = 0; i < n; i++) {
			__m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i),
						 inv);

			y = _mm256_sub_ps(y, first[i]);
			sum[i] = _mm256_add_ps(sum[i], y);
			squares[i] = _mm256_add_ps(squares[i],
						   _mm256_mul_ps(y, y));
		}
	}
	for (i = 0; i < n; i++) {
		_mm256_storeu_ps(s + 8 * i, sum[i]);
		_mm256_storeu_ps(q + 8 * i, squares[i]);
	}
	for (i = 0; i < 8 * n; i++)
		m->channel.sd[d + i] = sd_of(s[i], q[i], m->tokens);
}

static void channel_std(struct tile *m)
{
	uint32_t d = 0;

	for (; d + 8 * CHANNELS <= m->dim; d += 8 * CHANNELS)
		channels_std(m, d, CHANNELS);
	for (; d < m->dim; d += 8)
		channels_std(m, d, 1);
}

static int in_reach(const float *x, uint32_t n)
{
	return v8_in_reach(x, n);
}

static inline __m256 code_of(__m256 y, __m256 zero, __m256 inv, float top)
{
	__m256 q = _mm256_mul_ps(_mm256_sub_ps(y, zero), inv);

	return _mm256_min_ps(_mm256_round_ps(q, RNE), _mm256_set1_ps(top));
}

/* Least and largest of 8 channels over tokens. */
static void channel_range(const struct side *s, const float *x,
			  const float *inv, __m256 *ret_min, __m256 *ret_max)
{
	__m256 mn = _mm256_set1_ps(INFINITY), mx = _mm256_set1_ps(-INFINITY);
	uint32_t t;

	for (t = 0; t < s->tokens; t++, x += s->dim) {
		__m256 y = _mm256_mul_ps(_mm256_loadu_ps(x),
					 _mm256_set1_ps(inv[t]));

		mn = _mm256_min_ps(mn, y);
		mx = _mm256_max_ps(mx, y);
	}
	*ret_min = _mm256_add_ps(mn, _mm256_setzero_ps());
	*ret_max = _mm256_add_ps(mx, _mm256_setzero_ps());
}

static int rows_of_k(const struct side *s, const float *x, const float *inv)
{
	float zero[KVD_MAX_DIM], invs[KVD_MAX_DIM];
	float top = (float)((1 << format_bits(s->format)) - 1);
	const __m256 one = _mm256_set1_ps(1.0f);
	uint8_t codes[KVD_MAX_DIM];
	uint32_t t, d;

	for (d = 0; d < s->dim; d += 8) {
		__m256 mn, mx, scale, keep;
		__m128i half;

		channel_range(s, x + d, inv, &mn, &mx);
		scale = _mm256_mul_ps(_mm256_sub_ps(mx, mn),
				      _mm256_set1_ps(1.0f / top));
		keep = _mm256_cmp_ps(scale, _mm256_set1_ps(0x1p-25f),
				     _CMP_GT_OQ);
		_mm256_storeu_ps(invs + d, _mm256_and_ps(
						   keep, _mm256_div_ps(one,
								       scale)));
		_mm256_storeu_ps(zero + d, mn);
		half = _mm256_cvtps_ph(mn, RNE);
		_mm_storeu_si128((__m128i *)(side_mins(s) + d), half);
		_mm_storeu_si128((__m128i *)(side_scales(s) + d),
				 _mm256_cvtps_ph(scale, RNE));
		if (_mm256_movemask_ps(_mm256_cmp_ps(
			    v8_abs(_mm256_cvtph_ps(half)),
			    _mm256_set1_ps(F16_MAX), _CMP_GT_OQ)))
			return 0;
	}
	for (t = 0; t < s->tokens; t++, x += s->dim) {
		for (d = 0; d < s->dim; d += 8)
			v8_bytes_store(
				codes + d,
				code_of(_mm256_mul_ps(_mm256_loadu_ps(x + d),
						      _mm256_set1_ps(inv[t])),
					_mm256_loadu_ps(zero + d),
					_mm256_loadu_ps(invs + d), top));
		v8_pack(s, t, codes);
	}
	return 1;
}

static int rows_of_v(const struct side *s, const float *x, const float *inv)
{
	float top = (float)((1 << format_bits(s->format)) - 1);
	uint8_t codes[KVD_MAX_DIM];
	float y[KVD_MAX_DIM];
	uint32_t t, d;

	for (t = 0; t < s->tokens; t++, x += s->dim) {
		__m256 mn = _mm256_set1_ps(INFINITY);
		__m256 mx = _mm256_set1_ps(-INFINITY);
		float min, scale, invs;

		for (d = 0; d < s->dim; d += 8) {
			__m256 a = _mm256_mul_ps(_mm256_loadu_ps(x + d),
						 _mm256_loadu_ps(inv + d));

			mn = _mm256_min_ps(mn, a);
			mx = _mm256_max_ps(mx, a);
			_mm256_storeu_ps(y + d, a);
		}
		min = v8_min(mn) + 0.0f;
		scale = (v8_max(mx) - min + 0.0f) * (1.0f / top);
		invs = row_inverse(scale);
		side_affine(s)[t] = (struct affine_meta){ v1_to_f16(scale),
							  v1_to_f16(min) };
		if ((v1_to_f16(min) & F16_EXP) == F16_EXP)
			return 0;
		for (d = 0; d < s->dim; d += 8)
			v8_bytes_store(codes + d,
				       code_of(_mm256_loadu_ps(y + d),
					       _mm256_set1_ps(min),
					       _mm256_set1_ps(invs), top));
		v8_pack(s, t, codes);
	}
	return 1;
}

#include "kernels/host/kvarn.inc.c"

/**
 * avx2_kvarn_store() - seals a side with the bytes of ref_kvarn_store()
 */
int avx2_kvarn_store(const struct side *s, const float *x,
		     const struct kv_tables *tables)
{
	return kvarn_store(s, x);
}
