/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_kvarn.c - how pages of kvarn are sealed: the definition, in scalar C.
 *
 * KVarN (arXiv 2606.03458). A tile is one side of one record. Its rows are
 * what carries scale and zero: channels of K, tokens of V; its columns are
 * the others. Both have factors that divide the tile, at first 1. Each of 8
 * rounds multiplies, first of columns, then of rows, the factors by
 * the deviation of the tile as it is then:
 *
 *	factor = clip(factor * clip(sd, 1e-3, 1e3), e^-0.3, e^10)
 *
 * which is the published iteration without its logarithms. The factors of
 * columns are kept of the round, or of before any, where the tile is the most
 * even: max / min of deviations of columns, plus that of rows, is least, the
 * last of equals. Those of rows drop out of what is stored. With
 * y = x * (1 / factor of the column):
 *
 *	zero  = min y, scale = (max y - zero) / Q of each row
 *	code  = rne((y - zero) * (1 / scale)), clipped to 0..Q
 *	value = (code * scale + zero) * factor, all three in f16
 *
 * A scale below half of f16's smallest is 0 and so are the row's codes. Where
 * a zero passes 65504 (a factor is below 1) all factors are 1 instead: any
 * tile of f16 values can be stored.
 *
 * Arithmetic is f32. Sums over a token's channels are made in 8 lanes, lane i
 * of channels i, i + 8, ..., then added as v8_sum() does; sums over tokens in
 * order. Stateless; any thread.
 */
#include "kernels/host/kvarn.h"

static float lanes_sum(const float *a)
{
	return ((a[0] + a[4]) + (a[2] + a[6])) +
	       ((a[1] + a[5]) + (a[3] + a[7]));
}

/* Of each token over its channels. */
static void token_std(struct tile *m)
{
	uint32_t t, d;

	for (t = 0; t < m->tokens; t++) {
		const float *x = m->x + (uint64_t)t * m->dim;
		float first = x[0] * m->channel.inv[0];
		float sum[8] = { 0 }, squares[8] = { 0 };

		for (d = 0; d < m->dim; d++) {
			float y = x[d] * m->channel.inv[d] - first;

			sum[d % 8] += y;
			squares[d % 8] += y * y;
		}
		m->token.sd[t] =
			sd_of(lanes_sum(sum), lanes_sum(squares), m->dim);
	}
}

/* Of each channel over tokens. */
static void channel_std(struct tile *m)
{
	uint32_t t, d;

	for (d = 0; d < m->dim; d++) {
		float first = m->x[d] * m->token.inv[0];
		float sum = 0.0f, squares = 0.0f;

		for (t = 0; t < m->tokens; t++) {
			float y = m->x[(uint64_t)t * m->dim + d] *
				  m->token.inv[t];

			y -= first;
			sum += y;
			squares += y * y;
		}
		m->channel.sd[d] = sd_of(sum, squares, m->tokens);
	}
}

static int in_reach(const float *x, uint32_t n)
{
	return tile_in_reach(x, n);
}

static uint8_t code_of(float y, float zero, float inv, float top)
{
	float q = tile_round((y - zero) * inv);

	return q < top ? (uint8_t)q : (uint8_t)top;
}

/* Return: 0 where a zero is past f16. */
static int rows_of_k(const struct side *s, const float *x, const float *inv)
{
	float zero[KVD_MAX_DIM], invs[KVD_MAX_DIM];
	float top = (float)((1 << format_bits(s->format)) - 1);
	uint8_t codes[KVD_MAX_DIM];
	uint32_t t, d;

	for (d = 0; d < s->dim; d++) {
		float mn = INFINITY, mx = -INFINITY, scale;

		for (t = 0; t < s->tokens; t++) {
			float y = x[(uint64_t)t * s->dim + d] * inv[t];

			mn = y < mn ? y : mn;
			mx = y > mx ? y : mx;
		}
		zero[d] = mn + 0.0f; /* no -0 */
		scale = (mx - mn + 0.0f) * (1.0f / top);
		invs[d] = row_inverse(scale);
		if (!isfinite(f16_round(mn)))
			return 0;
		side_scales(s)[d] = f16_from_f32(scale);
		side_mins(s)[d] = f16_from_f32(zero[d]);
	}
	for (t = 0; t < s->tokens; t++) {
		const float *row = x + (uint64_t)t * s->dim;

		for (d = 0; d < s->dim; d++)
			codes[d] = code_of(row[d] * inv[t], zero[d], invs[d],
					   top);
		tile_pack(s, t, codes);
	}
	return 1;
}

static int rows_of_v(const struct side *s, const float *x, const float *inv)
{
	float top = (float)((1 << format_bits(s->format)) - 1);
	uint8_t codes[KVD_MAX_DIM];
	uint32_t t, d;

	for (t = 0; t < s->tokens; t++, x += s->dim) {
		float mn = INFINITY, mx = -INFINITY, scale, invs;

		for (d = 0; d < s->dim; d++) {
			float y = x[d] * inv[d];

			mn = y < mn ? y : mn;
			mx = y > mx ? y : mx;
		}
		mn += 0.0f;
		scale = (mx - mn + 0.0f) * (1.0f / top);
		invs = row_inverse(scale);
		if (!isfinite(f16_round(mn)))
			return 0;
		side_affine(s)[t] = (struct affine_meta){
			f16_from_f32(scale), f16_from_f32(mn)
		};
		for (d = 0; d < s->dim; d++)
			codes[d] = code_of(x[d] * inv[d], mn, invs, top);
		tile_pack(s, t, codes);
	}
	return 1;
}

#include "kernels/host/kvarn.inc.c"

/**
 * ref_kvarn_store() - seals K or V of one record in kvarn
 *
 * Return: 1 when @x holds NaN or Inf or more than 65504: all reads as NaN.
 */
int ref_kvarn_store(const struct side *s, const float *x,
		    const struct kv_tables *tables)
{
	return kvarn_store(s, x);
}
