/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_keys.cuh - scores of a stage's tokens: S = K Q on tensor cores.
 *
 * Keys are operand A, tokens by channels, the columns' queries operand B; a
 * lane's results are of tokens lane / 4 (+ 8) of each 16 and of columns
 * 2 (lane % 4) and the next. Scales never touch a code: what a format has per
 * channel is multiplied into the query, once a stage; what it has per token,
 * into the scores; minima become a dot product of their own.
 */
#ifndef KERNELS_CUDA_MMA_KEYS_CUH
#define KERNELS_CUDA_MMA_KEYS_CUH

#include "kernels/cuda/mma_codes.cuh"
#include "kernels/cuda/mma.h"

#define STAGE_TILES 4u		/* of 16 tokens, at most */
#define F16_ONES 0x3c003c00u

/* Of one product: 4 registers for each 8 columns. */
template <uint32_t NT> struct product {
	float c[NT][4];
};

/* What the keys of a stage are to be multiplied with, and where they are. */
struct keys {
	const uint8_t *codes;
	const uint8_t *meta;
	const uint8_t *q;	/* fragments B: enum query_part */
	uint32_t q_bytes;	/* of each part */
	uint32_t format;
	uint32_t first;		/* token in its page */
	uint32_t tokens;	/* of the stage: a multiple of 16 */
	uint32_t lane;
	bool channels;		/* scale and minimum are those of channels */
	bool rest;		/* a query is more than its first f16 */
};

template <uint32_t NT> DEVICE void product_zero(struct product<NT> &x)
{
	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		UNROLL
		for (uint32_t i = 0; i < 4; i++)
			x.c[n][i] = 0.0f;
	}
}

/* Fragments B of 16 channels, for each 8 columns. */
template <uint32_t NT>
DEVICE void query_load(const uint8_t *q, uint32_t kt, uint32_t lane,
		       uint32_t (*b)[2])
{
	UNROLL
	for (uint32_t n = 0; n < NT; n++)
		load8(b[n], q + ((kt * NT + n) * WARP + lane) * 8);
}

/* Two numbers in bf16, and what that leaves of them. */
DEVICE void bf16x2_split(float x, float y, uint32_t &b, uint32_t &rest)
{
	b = bf16x2_pack(x, y);
	rest = bf16x2_pack(x - bf16_to_f32((uint16_t)b),
			   y - bf16_to_f32((uint16_t)(b >> 16)));
}

/* Sums of each column's query, @sum[columns], from fragments of f16: one warp. */
template <uint32_t DIM, uint32_t NT>
DEVICE void query_sums(const uint8_t *q, uint32_t lane, float *sum)
{
	const uint32_t ones[4] = { F16_ONES, F16_ONES, F16_ONES, F16_ONES };
	struct product<NT> x;
	uint32_t b[NT][2];

	/* Both parts, one after the other. */
	product_zero(x);
	NO_UNROLL
	for (uint32_t kt = 0; kt < 2 * (DIM / 16); kt++) {
		query_load<NT>(q, kt, lane, b);
		UNROLL
		for (uint32_t n = 0; n < NT; n++)
			mma_f16(x.c[n], ones, b[n]);
	}
	if (lane >= 4)
		return;
	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		sum[n * MMA_COLUMNS + lane % 4 * 2] = x.c[n][0];
		sum[n * MMA_COLUMNS + lane % 4 * 2 + 1] = x.c[n][1];
	}
}

/* @b and @rest times @s, as an f16 and what that leaves. */
DEVICE void parts_scale(uint32_t s, uint32_t &b, uint32_t &rest)
{
	const uint32_t x = f16x2_mul(b, s);

	rest = f16x2_fma(rest, s, f16x2_fma(b, s, x ^ 0x80008000u));
	b = x;
}

/*
 * Multiplies what a format has per channel into the query of channels @kt, and
 * adds the minima's product with the query to @bias, in all rows.
 */
template <uint32_t NT>
DEVICE void query_scale(const struct keys &k, uint32_t dim, uint32_t kt,
			uint32_t (*b)[2], uint32_t (*rest)[2],
			struct product<NT> &bias)
{
	const uint8_t *scale = k.meta + (kt * 16 + k.lane % 4 * 2) * 2;
	const uint8_t *min = scale + dim * 2;
	uint32_t s[2], m[2];

	load4(&s[0], scale);
	load4(&s[1], scale + 16);
	load4(&m[0], min);
	load4(&m[1], min + 16);
	const uint32_t a[4] = { m[0], m[0], m[1], m[1] };

	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		mma_f16(bias.c[n], a, b[n]);
		mma_f16(bias.c[n], a, rest[n]);
		parts_scale(s[0], b[n][0], rest[n][0]);
		parts_scale(s[1], b[n][1], rest[n][1]);
	}
}

/* One product of keys and queries, in what the keys are made of. */
template <class C, uint32_t NT>
DEVICE void key_product(C, const struct keys &k, const uint32_t *a,
			const uint32_t (*b)[2], const uint32_t (*rest)[2],
			struct product<NT> &s)
{
	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		mma_f16(s.c[n], a, b[n]);
		if (k.rest)
			mma_f16(s.c[n], a, rest[n]);
	}
}

template <uint32_t NT>
DEVICE void key_product(codes_bf16, const struct keys &, const uint32_t *a,
			const uint32_t (*b)[2], const uint32_t (*rest)[2],
			struct product<NT> &s)
{
	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		mma_bf16(s.c[n], a, b[n]);
		mma_bf16(s.c[n], a, rest[n]);
	}
}

/* Where the first part is of a query for such keys. */
template <class C> DEVICE const uint8_t *query_of(C, const struct keys &k)
{
	return k.q + QUERY_F16 * k.q_bytes;
}

DEVICE const uint8_t *query_of(codes_bf16, const struct keys &k)
{
	return k.q + QUERY_BF16 * k.q_bytes;
}

/* The sums over channels of code times query, @s. */
template <uint32_t DIM, uint32_t NT, class C>
DEVICE void keys_multiply(C c, const struct keys &k, struct product<NT> *s,
			  struct product<NT> &bias)
{
	const struct bricks bricks = bricks_of(
		k.format, k.codes, k.tokens * (DIM / 4), k.lane, false);
	constexpr uint32_t row = DIM / (16 * C::TILES); /* bricks */
	const uint8_t *q = query_of(c, k);

	NO_UNROLL
	for (uint32_t kc = 0; kc < row; kc++) {
		struct words w[STAGE_TILES / C::HIGH];

		UNROLL
		for (uint32_t x = 0; x < STAGE_TILES / C::HIGH; x++)
			if (x * C::HIGH * 16 < k.tokens)
				brick_load(c, bricks, x * row + kc, w[x]);
		UNROLL
		for (uint32_t j = 0; j < C::TILES; j++) {
			const uint32_t kt = kc * C::TILES + j;
			uint32_t a[4], b[NT][2], rest[NT][2];

			query_load<NT>(q, kt, k.lane, b);
			query_load<NT>(q + k.q_bytes, kt, k.lane, rest);
			if (C::TILES == 4 && k.channels)
				query_scale<NT>(k, DIM, kt, b, rest, bias);
			UNROLL
			for (uint32_t m = 0; m < STAGE_TILES; m++) {
				if (m * 16 >= k.tokens)
					continue;
				brick_tile(c, bricks, w[m / C::HIGH], j,
					   m % C::HIGH, a);
				key_product(c, k, a, b, rest, s[m]);
			}
		}
	}
}

/* What scores are made of besides their sums, for the lane's tokens. */
struct token_terms {
	float factor[STAGE_TILES][2]; /* of sum and bias */
	float min[STAGE_TILES][2];    /* times the query's sum is added */
};

DEVICE void token_terms_load(const struct keys &k, uint32_t dim,
			     struct token_terms &t)
{
	const enum coding coding = format_coding(k.format);
	const uint32_t token = k.first + k.lane / 4;
	const uint16_t *factors = (const uint16_t *)k.meta + 2 * dim;
	const float one = coding == CODING_FP8 ? *(const float *)k.meta : 1.0f;

	UNROLL
	for (uint32_t i = 0; i < 2 * STAGE_TILES; i++) {
		float *factor = &t.factor[i / 2][i % 2];
		float *min = &t.min[i / 2][i % 2];

		*factor = one;
		*min = 0.0f;
		if (i / 2 * 16 >= k.tokens)
			continue;
		if (coding == CODING_TOKEN) {
			uint32_t w;

			load4(&w, k.meta + (token + i * 8) * 4);
			*factor = f16x2_lo(w);
			*min = f16x2_hi(w);
		} else if (coding == CODING_KVARN) {
			*factor = f16x2_lo(factors[token + i * 8]);
		}
	}
}

/* Sums to scores, but for attention's own scale. */
template <uint32_t DIM, uint32_t NT>
DEVICE void keys_finish(const struct keys &k, const struct product<NT> &bias,
			const float *q_sum, struct product<NT> *s)
{
	struct token_terms t;
	float sum[2 * NT];

	token_terms_load(k, DIM, t);
	UNROLL
	for (uint32_t n = 0; n < 2 * NT; n++)
		sum[n] = q_sum[n / 2 * MMA_COLUMNS + k.lane % 4 * 2 + n % 2];
	UNROLL
	for (uint32_t i = 0; i < 2 * STAGE_TILES; i++) {
		const uint32_t m = i / 2, low = i % 2;
		const float unit = code_unit(k.format, m % 2, low);

		UNROLL
		for (uint32_t n = 0; n < 2 * NT; n++) {
			float *x = &s[m].c[n / 2][low * 2 + n % 2];

			*x = mad(*x, unit, bias.c[n / 2][n % 2]);
			*x = mad(*x, t.factor[m][low],
				 t.min[m][low] * sum[n]);
		}
	}
}

/* keys_scores() of 16 bits alone. */
template <uint32_t DIM, uint32_t NT>
DEVICE void keys_scores_16(const struct keys &k, struct product<NT> *s)
{
	struct product<NT> bias;

	product_zero(bias);
	UNROLL
	for (uint32_t m = 0; m < STAGE_TILES; m++)
		product_zero(s[m]);
	if (k.format == KVD_F16)
		keys_multiply<DIM, NT>(codes_f16(), k, s, bias);
	else
		keys_multiply<DIM, NT>(codes_bf16(), k, s, bias);
}

/* Scores of all tokens of the stage: @s is [STAGE_TILES]. */
template <uint32_t DIM, uint32_t NT>
DEVICE void keys_scores(const struct keys &k, const float *q_sum,
			struct product<NT> *s)
{
	struct product<NT> bias;

	product_zero(bias);
	UNROLL
	for (uint32_t m = 0; m < STAGE_TILES; m++)
		product_zero(s[m]);
	switch (format_bits(k.format)) {
	case 16:
		if (k.format == KVD_F16)
			keys_multiply<DIM, NT>(codes_f16(), k, s, bias);
		else
			keys_multiply<DIM, NT>(codes_bf16(), k, s, bias);
		break;
	case 8:
		keys_multiply<DIM, NT>(codes_8(), k, s, bias);
		break;
	case 4:
		keys_multiply<DIM, NT>(codes_4(), k, s, bias);
		break;
	case 3:
		keys_multiply<DIM, NT>(codes_3(), k, s, bias);
		break;
	default:
		keys_multiply<DIM, NT>(codes_2(), k, s, bias);
	}
	keys_finish<DIM, NT>(k, bias, q_sum, s);
}

#endif
