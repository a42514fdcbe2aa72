/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.inc.c - one tile over one run of pages, on vectors of vec_*.h.
 *
 * Included by avx2.c and avx512.c, each after its own vec_*.h and compiled
 * with its own flags. Stateless; any thread.
 *
 * A page is walked in strips (strip.h). For each, BLOCK rows of the tile at a
 * time: scores of all rows x tokens, softmax over the strip, weights times V
 * into the part. So a strip comes from memory once for all query heads of its
 * kv head; V is prefetched while scores are made, the next strip's K while
 * values are added.
 *
 * The bits of a row do not depend on the block it is in: a score is a sum
 * over dims, and a weight's sum over tokens, in an order fixed by vec_*.h; a
 * value is a sum over tokens in order, from the row's own first to its own
 * last. Tokens outside of that are never added: what they hold is no matter.
 *
 * Speed: one decode step of one thread, 32 query and 8 kv heads of 128 dims,
 * 16384 tokens, pages of 64, on an AMD EPYC of family 23 model 1 (Zen 1, 2.5
 * GHz, 256 bits in two halves; a shared and busy host, least of 9):
 *
 *	floor	134 M multiply-adds at 20.1 a ns (measured): 6.7 ms
 *	16 bits	f16 13.8, bf16 13.1 ms: 48 and 51 % of it
 *	8 bits	int8 15.0, fp8_e5m2 15.3, fp8_e4m3 18.8 ms
 *	4 bits	int4 14.7, kivi4 15.4, kvarn4 15.7 ms: 43 to 46 %
 *	2 bits	kivi2 15.3, kvarn2 15.5, oscar2 15.3 ms
 *	kvarn3	23.7 ms: a third is repacking to 4 bits
 *	kvquant	4: 37, 3: 40, 2: 31 ms: half of it makes K dense
 *
 * Memory is not the limit here (1.2 GB/s of int4; 1024 tokens, all in cache,
 * are as fast per token), so bits save room, not time. Of int4, 40 % is
 * scores, 38 % values, 11 % softmax and scales, 4 % the strip. The gap to the
 * floor is in the two loops, at 60 to 67 % of it: of 44 to 50 halves for 12
 * multiply-adds 24 are these; the rest runs on other pipes in theory.
 */
#include <string.h>
#include "kernels/host/attend.h"
#include "kernels/host/half.h"
#include "kernels/host/strip.h"

#define OCTET  8u /* tokens whose scores are summed together */
#define INLINE static inline __attribute__((always_inline))

#define EXP2_MIN (-126.0f) /* 2^x is 0 below */

#define BY_ROWS(f)                                                             \
	{                                                                      \
		NULL, f##_1, f##_2, f##_3, f##_4                               \
	}

struct block {
	uint32_t row; /* first, in the tile */
	uint32_t nr;
	uint32_t lo[BLOCK];    /* tokens of the strip that each row sees; */
	uint32_t hi[BLOCK];    /* 0, 0: none */
	float old[BLOCK];      /* what the part is to be multiplied by */
	float w[BLOCK][STRIP]; /* dot products, then scores, then weights */
};

/* Touches @bytes from @p, rounded up to cache lines. */
INLINE void prefetch(const char *p, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes; i += 64)
		_mm_prefetch(p + i, _MM_HINT_T0);
}

/* @x in lanes of tokens that row @r sees, else @other; @whole: all. */
INLINE vec row_mask(const struct block *b, uint32_t r, uint32_t i, int whole,
                    vec x, float other)
{
	if (whole)
		return x;
	return v_select(v_range(i, b->lo[r], b->hi[r]), x, v_set(other));
}

#include "kernels/host/attend_scores.inc.c"
#include "kernels/host/attend_values.inc.c"

/*
 * 2^x for x <= 0, relative error below 2e-7: Taylor's series of 2^f with
 * |f| <= 1/2. NaN stays NaN.
 */
INLINE vec v_exp2(vec x)
{
	vec low = v_set(EXP2_MIN), y = v_max(low, x);
	vec n = v_round(y), f = v_sub(y, n), r;

	r = v_fma(v_set(1.5403530e-4f), f, v_set(1.3333558e-3f));
	r = v_fma(r, f, v_set(9.6181291e-3f));
	r = v_fma(r, f, v_set(5.5504109e-2f));
	r = v_fma(r, f, v_set(2.4022651e-1f));
	r = v_fma(r, f, v_set(6.9314718e-1f));
	r = v_fma(r, f, v_set(1.0f));
	return v_select(v_less(x, low), v_set(0), v_scale2(r, n));
}

/* cap * tanh(x / cap), times log2(e). */
INLINE vec v_softcap(vec x, float cap)
{
	vec one = v_set(1.0f);
	vec e = v_exp2(v_mul(v_abs(x), v_set(-2.0f * LOG2E / cap)));
	vec y = v_div(v_sub(one, e), v_add(one, e));

	return v_mul(v_copysign(y, x), v_set(cap * LOG2E));
}

/* Scores of row @r from dot products. Return: the greatest. */
INLINE float row_scores(const struct tile *t, const struct strip *s,
                        struct block *b, uint32_t r, int whole)
{
	vec q_sum = v_set(t->q_sum[b->row + r]), max = v_set(-INFINITY), x;
	vec zero = v_set(s->q_const[b->row + r]);
	uint32_t i;

	for (i = 0; i < s->nr_tokens; i += VLANES) {
		x = v_load(&b->w[r][i]);
		if (s->k_affine)
			x = v_fma(v_load(&s->k_a[i]), v_add(x, zero),
			          v_mul(v_load(&s->k_b[i]), q_sum));
		if (t->a->softcap > 0)
			x = v_softcap(x, t->a->softcap);
		x = row_mask(b, r, i, whole, x, -INFINITY);
		max = v_max(max, x);
		v_store(&b->w[r][i], x);
	}
	return v_hmax(max);
}

/* Weights of row @r from scores. Return: their sum. */
INLINE float row_weights(const struct strip *s, struct block *b, uint32_t r,
                         float max)
{
	vec sum[VPARTS], w;
	uint32_t i, j;

	for (j = 0; j < VPARTS; j++)
		sum[j] = v_set(0);
	for (i = 0; i < s->nr_tokens; i += LANES)
		for (j = 0; j < VPARTS; j++) {
			uint32_t c = i + j * VLANES;

			w = v_exp2(v_sub(v_load(&b->w[r][c]), v_set(max)));
			sum[j] = v_add(sum[j], w);
			v_store(&b->w[r][c], w);
		}
	return v_sum(sum);
}

/* Softmax of row @r over the strip; the part gets all of it but the values. */
INLINE void row_softmax(const struct tile *t, const struct strip *s,
                        struct block *b, uint32_t r, int whole,
                        const struct part *p)
{
	uint32_t row = b->row + r;
	float max, lanes[VLANES];

	max = row_scores(t, s, b, r, whole);
	if (max > p->max[row]) {
		v_store(lanes, v_exp2(v_set(p->max[row] - max)));
		b->old[r] = lanes[0];
		p->max[row] = max;
	}
	p->sum[row] = p->sum[row] * b->old[r] +
	              row_weights(s, b, r, p->max[row]);
}

static void block_softmax(const struct tile *t, const struct strip *s,
                          struct block *b, const struct part *p)
{
	uint32_t r;

	for (r = 0; r < b->nr; r++) {
		b->old[r] = 1.0f;
		if (b->hi[r] - b->lo[r] == s->nr_tokens)
			row_softmax(t, s, b, r, 1, p);
		else if (b->hi[r])
			row_softmax(t, s, b, r, 0, p);
	}
}

/* Which tokens of the strip each row sees. Return: whether any does. */
static int block_init(struct block *b, const struct tile *t,
                      const struct strip *s, uint32_t row)
{
	uint32_t r, any = 0;

	b->row = row;
	b->nr = tile_rows(t) - row < BLOCK ? tile_rows(t) - row : BLOCK;
	for (r = 0; r < b->nr; r++) {
		uint32_t pos = tile_pos(t, row + r);
		uint64_t lo = window_first(t->a->window, pos);
		uint64_t hi = (uint64_t)pos + 1;

		lo = lo > s->pos ? lo - s->pos : 0;
		hi = hi > s->pos ? hi - s->pos : 0;
		b->hi[r] = hi < s->nr_tokens ? hi : s->nr_tokens;
		b->lo[r] = lo;
		if (lo >= b->hi[r])
			b->lo[r] = b->hi[r] = 0;
		any |= b->hi[r];
	}
	return any != 0;
}

static void block_attend(const struct tile *t, struct strip *s, struct block *b,
                         const struct part *p)
{
	uint32_t lo = s->nr_tokens, hi = 0, r;

	for (r = 0; r < b->nr; r++) {
		if (!b->hi[r])
			continue;
		lo = b->lo[r] < lo ? b->lo[r] : lo;
		hi = b->hi[r] > hi ? b->hi[r] : hi;
	}
	qk_fns[s->k.form][b->nr](t, s, b, lo, hi);
	block_softmax(t, s, b, p);
	block_add(t, s, b, p);
}

/* The body of run_attend_fn. */
static void run_attend(const struct tile *t, uint32_t first_page,
                       uint32_t end_page, const struct part *p)
{
	uint32_t pt = t->a->layouts[0].page_tokens, page, base, row;
	struct strip *s = t->strip;
	struct block b;

	strip_begin(s);
	for (page = first_page; page < end_page; page++)
		for (base = 0; base < pt; base += s->nr_tokens) {
			strip_init(s, t, page, base);
			for (row = 0; row < tile_rows(t); row += BLOCK)
				if (block_init(&b, t, s, row))
					block_attend(t, s, &b, p);
		}
}
