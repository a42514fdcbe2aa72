/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kivi_avx2.c - seals pages of kivi, with the bytes of ref_kivi.c.
 *
 * K goes by strips of channels, one word of packed codes wide, so that what
 * was read for the ranges is still near when it is coded. V goes by 8 tokens,
 * whose scales are computed together. Stateless; any thread.
 */
#include <math.h>
#include "kernels/host/kivi.h"
#include "kernels/host/store8.h"

#define MAX_GROUPS (KVD_MAX_DIM / 32) /* scales of a token of V */
#define STRIP	   128u		     /* channels of a strip of 2 bits */

/* Values of a side: rows of @dim elements that follow each other. */
struct source {
	uint32_t dtype;
	const void *x;
};

/* Running minimum, maximum and finiteness. */
struct range {
	__m256 min, max, watch;
};

S8_INLINE void range_init(struct range *r)
{
	r->min = _mm256_set1_ps(INFINITY);
	r->max = _mm256_set1_ps(-INFINITY);
	r->watch = _mm256_setzero_ps();
}

S8_INLINE void range_add(struct range *r, __m256 x)
{
	r->min = _mm256_min_ps(r->min, x);
	r->max = _mm256_max_ps(r->max, x);
	r->watch = s8_watch(r->watch, x);
}

/* Minimum, divisor and f16 metadata of 8 runs. */
struct scales {
	__m256 min;
	__m256 by; /* scale; Inf where codes are to be 0 */
	__m128i scale, min_bits;
	int flagged;
};

S8_INLINE struct scales range_scales(const struct range *r, float q)
{
	const __m256 inf = _mm256_set1_ps(INFINITY), zero = _mm256_setzero_ps();
	__m256 nan = _mm256_cmp_ps(r->watch, r->watch, _CMP_UNORD_Q);
	__m256 min = _mm256_add_ps(r->min, zero);
	__m256 span = _mm256_sub_ps(_mm256_add_ps(r->max, zero), min);
	__m256 range = s8_round_f16(span), over, scale;
	struct scales s;

	over = _mm256_cmp_ps(range, inf, _CMP_EQ_OQ);
	scale = s8_round_f16(_mm256_div_ps(_mm256_blendv_ps(range, span, over),
					   _mm256_set1_ps(q)));
	s.flagged = _mm256_movemask_ps(_mm256_or_ps(over, nan)) != 0;
	scale = _mm256_andnot_ps(nan, scale);
	s.by = _mm256_blendv_ps(scale, inf,
				_mm256_cmp_ps(scale, zero, _CMP_EQ_OQ));
	s.min = _mm256_andnot_ps(nan, min);
	s.scale = _mm256_cvtps_ph(scale, S8_RNE);
	min = _mm256_blendv_ps(
		s.min, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), nan);
	s.min_bits = _mm256_cvtps_ph(min, S8_RNE);
	return s;
}

/*
 * Codes of 8 elements. What NaN, and Inf by Inf, give is no number: the
 * maximum with 0 makes it 0.
 */
S8_INLINE __m256i codes_of(__m256 x, __m256 min, __m256 by, float q)
{
	x = s8_round_f16(_mm256_sub_ps(x, min));
	x = s8_round_f16(_mm256_div_ps(x, by));
	x = _mm256_max_ps(x, _mm256_setzero_ps());
	return _mm256_cvtps_epi32(_mm256_min_ps(x, _mm256_set1_ps(q)));
}

/* Octets of one token of K, from channel d on. */
struct k_row {
	struct source src;
	size_t at; /* of the token's channel d */
	float q;
	const float *min, *by; /* from channel d on */
};

S8_INLINE __m256i k_octet(void *ctx, uint32_t j)
{
	struct k_row *c = ctx;

	return codes_of(s8_load_f16(c->src.dtype, c->src.x, c->at + 8 * j),
			_mm256_loadu_ps(c->min + 8 * j),
			_mm256_loadu_ps(c->by + 8 * j), c->q);
}

/* Scales of channels @d to @d + 7, written down, and into @min and @by. */
S8_INLINE int k_scales(const struct side *s, struct source src, uint32_t bits,
		       uint32_t d, float *min, float *by)
{
	struct range r;
	struct scales m;
	uint32_t t;

	range_init(&r);
	for (t = 0; t < s->tokens; t++)
		range_add(&r, s8_load_f16(src.dtype, src.x,
					  (size_t)t * s->dim + d));
	m = range_scales(&r, (float)((1u << bits) - 1));
	_mm_storeu_si128((__m128i *)(side_scales(s) + d), m.scale);
	_mm_storeu_si128((__m128i *)(side_mins(s) + d), m.min_bits);
	_mm256_storeu_ps(min, m.min);
	_mm256_storeu_ps(by, m.by);
	return m.flagged;
}

/*
 * Channels @d to @d + 8 * nr - 1: a whole number of words. As rows are packed
 * by chunks of 8 words, their codes begin bits * d / 8 bytes into a row.
 */
S8_INLINE int k_strip(const struct side *s, struct source src, uint32_t bits,
		      uint32_t d, uint32_t nr)
{
	float min[STRIP], by[STRIP];
	struct k_row c = {
		.src = src,
		.q = (float)((1u << bits) - 1),
		.min = min,
		.by = by,
	};
	uint32_t j, t;
	int bad = 0;

	for (j = 0; j < nr; j++)
		bad |= k_scales(s, src, bits, d + 8 * j, min + 8 * j,
				by + 8 * j);
	for (t = 0; t < s->tokens; t++) {
		c.at = (size_t)t * s->dim + d;
		s8_pack(bits, nr, k_octet, &c,
			s->codes + (size_t)t * s->row + d * bits / 8);
	}
	return bad;
}

S8_INLINE int k_store(const struct side *s, struct source src, uint32_t bits)
{
	const uint32_t word = 32 / bits; /* octets of a strip */
	uint32_t d = 0;
	int bad = 0;

	for (; d + 8 * word <= s->dim; d += 8 * word)
		bad |= k_strip(s, src, bits, d, word);
	if (d < s->dim)
		bad |= k_strip(s, src, bits, d, (s->dim - d) / 8);
	return bad;
}

/* Octets of one token of V; min and by are of each group. */
struct v_row {
	struct source src;
	size_t at;
	float q;
	uint32_t shift; /* octets of a group are 1 << shift */
	const float (*min)[8], (*by)[8];
	uint32_t i; /* which of 8 tokens */
};

S8_INLINE __m256i v_octet(void *ctx, uint32_t j)
{
	struct v_row *c = ctx;
	uint32_t g = j >> c->shift;

	return codes_of(s8_load_f16(c->src.dtype, c->src.x, c->at + 8 * j),
			_mm256_set1_ps(c->min[g][c->i]),
			_mm256_set1_ps(c->by[g][c->i]), c->q);
}

/* Of 8 vectors: lane i has the least (or most) of vector i. */
S8_INLINE __m256 pair(__m256 a, __m256 b, int most)
{
	return most ? _mm256_max_ps(a, b) : _mm256_min_ps(a, b);
}

S8_INLINE __m256 across(const __m256 *v, int most)
{
	__m256 a[4], b[2];
	uint32_t i;

	for (i = 0; i < 4; i++)
		a[i] = pair(_mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]),
			    _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]), most);
	for (i = 0; i < 2; i++)
		b[i] = pair(_mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0x44),
			    _mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0xee),
			    most);
	return pair(_mm256_permute2f128_ps(b[0], b[1], 0x20),
		    _mm256_permute2f128_ps(b[0], b[1], 0x31), most);
}

/* Ranges of channels @d to @end - 1 of 8 tokens from @at on. */
S8_INLINE struct range v_range(struct source src, uint32_t dim, size_t at,
			       uint32_t d, uint32_t end)
{
	__m256 min[8], max[8];
	struct range all, r;
	float watch[8];
	uint32_t i, e;

	for (i = 0; i < 8; i++) {
		range_init(&r);
		for (e = d; e < end; e += 8)
			range_add(&r, s8_load_f16(src.dtype, src.x,
						  at + (size_t)i * dim + e));
		min[i] = r.min;
		max[i] = r.max;
		watch[i] = s8_all_finite(r.watch) ? 0.0f : NAN;
	}
	all.min = across(min, 0);
	all.max = across(max, 1);
	all.watch = _mm256_loadu_ps(watch);
	return all;
}

/* Tokens @t to @t + 7. */
S8_INLINE int v_tokens(const struct side *s, struct source src, uint32_t bits,
		       uint32_t t)
{
	float min[MAX_GROUPS][8], by[MAX_GROUPS][8];
	struct v_row c = {
		.src = src,
		.q = (float)((1u << bits) - 1),
		.shift = (uint32_t)__builtin_ctz(s->v_group / 8),
		.min = min,
		.by = by,
	};
	uint32_t g, nr = page_v_groups(s->dim, s->v_group);
	int bad = 0;

	for (g = 0; g < nr; g++) {
		uint32_t d = g * s->v_group, end = d + s->v_group;
		struct range r = v_range(src, s->dim, (size_t)t * s->dim, d,
					 end < s->dim ? end : s->dim);
		struct scales m = range_scales(&r, c.q);
		struct affine_meta *meta = side_affine(s) + g * s->tokens + t;

		bad |= m.flagged;
		_mm256_storeu_ps(min[g], m.min);
		_mm256_storeu_ps(by[g], m.by);
		_mm_storeu_si128((__m128i *)meta,
				 _mm_unpacklo_epi16(m.scale, m.min_bits));
		_mm_storeu_si128((__m128i *)(meta + 4),
				 _mm_unpackhi_epi16(m.scale, m.min_bits));
	}
	for (c.i = 0; c.i < 8; c.i++) {
		c.at = (size_t)(t + c.i) * s->dim;
		s8_pack(bits, s->dim / 8, v_octet, &c,
			s->codes + (size_t)(t + c.i) * s->row);
	}
	return bad;
}

S8_INLINE int side_store(const struct side *s, struct source src,
			 uint32_t bits)
{
	uint32_t t;
	int bad = 0;

	if (!s->is_v)
		return k_store(s, src, bits);
	for (t = 0; t < s->tokens; t += 8)
		bad |= v_tokens(s, src, bits, t);
	return bad;
}

S8_INLINE int typed_store(const struct side *s, uint32_t dtype, const void *x)
{
	struct source src = { dtype, x };

	return s->format == KVD_KIVI4 ? side_store(s, src, 4) :
					side_store(s, src, 2);
}

/**
 * avx2_kivi_store() - ref_kivi_store()
 */
int avx2_kivi_store(const struct side *s, const float *x,
		    const struct kv_tables *tables)
{
	return typed_store(s, KVD_DTYPE_F32, x);
}

/**
 * avx2_kivi_seal() - ref_kivi_store() of the values of @from, which are in
 * 16 bits
 */
int avx2_kivi_seal(const struct side *s, const struct side *from)
{
	if (from->format == KVD_F16)
		return typed_store(s, KVD_DTYPE_F16, from->codes);
	return typed_store(s, KVD_DTYPE_BF16, from->codes);
}
