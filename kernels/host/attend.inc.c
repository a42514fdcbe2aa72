/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.inc.c - one tile over one run of pages, on vectors of vec_*.h.
 *
 * Included by avx2.c and avx512.c, each after its own vec_*.h and compiled
 * with its own flags. Stateless; any thread.
 *
 * A page is walked in strips of at most STRIP tokens. For each strip, BLOCK
 * rows of the tile at a time: scores of all rows x tokens, softmax over the
 * strip, weights times V into the part. So a strip comes from memory once for
 * all query heads of its kv head; V is prefetched while scores are made, the
 * next strip's K while values are added.
 *
 * int8 is never turned back into values: score = scale_t * (q.code) +
 * min_t * sum(q), and values are added as (p * scale_t) * code, with
 * p * min_t summed apart and added to all dims at once.
 *
 * The bits of a row do not depend on the block it is in: a score is a sum
 * over dims, and a weight's sum over tokens, in an order fixed by vec_*.h; a
 * value is a sum over tokens in order, from the row's own first to its own
 * last. Tokens outside of that are never added: what they hold is no matter.
 *
 * Speed, one decode step of one thread, 32 query and 8 kv heads of 128 dims,
 * 16384 tokens, pages of 64 (kvbench attend, AMD EPYC of family 25 model 1,
 * Zen 3, 2 CPUs of a shared and busy host, huge pages, medians):
 *
 *	floor	f16 is 67 MB; memory reads at 17 to 18.6 GB/s: 3.6 to 3.9 ms
 *	f16	10.2 to 12.1 GB/s, 59 to 65 % of that; best 14.1 of 21.6
 *	bf16	10.0 GB/s, 56 %
 *	int8	5.2 to 6.5 GB/s, 28 to 35 %: as many multiply-adds for half the
 *		bytes, and those are the limit
 *
 * From L1 the same loops do f16 at 19 GB/s, 75 % of what two multiply-adds a
 * clock allow. The gap from there to 14 is latency: a core has 24 lines in
 * flight from L1, and every prefetch takes one. Longer distances, prefetch to
 * L2, in groups, or of every second line were no better; none at all is half
 * as fast.
 */
#include <assert.h>
#include "kernels/host/attend.h"

#define STRIP  64u /* tokens */
#define BLOCK  4u  /* query rows */
#define OCTET  8u  /* tokens whose scores are summed together */
#define INLINE static inline __attribute__((always_inline))

#define EXP2_MIN (-126.0f) /* 2^x is 0 below */

struct strip {
	uint64_t pos;       /* of its first token */
	uint32_t nr_tokens; /* a multiple of KVD_MIN_PAGE_TOKENS */
	uint32_t k_format, v_format;
	uint32_t k_dim, v_dim;
	uint32_t k_row, v_row; /* bytes from token to token */
	const char *k, *v;     /* codes */
	const char *next_v;    /* to be prefetched while scores are made */
	const char *next_k;    /* and while values are added */
	float k_scale[STRIP], k_min[STRIP]; /* int8 only */
	float v_scale[STRIP], v_min[STRIP];
};

struct block {
	uint32_t row; /* first, in the tile */
	uint32_t nr;
	uint32_t lo[BLOCK];    /* tokens of the strip that each row sees; */
	uint32_t hi[BLOCK];    /* 0, 0: none */
	float w[BLOCK][STRIP]; /* dot products, then scores, then weights */
};

/* Touches @bytes from @p, rounded up to cache lines. */
INLINE void prefetch(const char *p, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes; i += 64)
		_mm_prefetch(p + i, _MM_HINT_T0);
}

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

/* Vectors per row such that the accumulators of @nr rows fit registers. */
INLINE uint32_t row_width(uint32_t nr)
{
	return nr == 1 ? 8 : nr == 2 ? 4 : VACCS / 4;
}

/*
 * Dot products of @nr rows of q with @nv vectors of tokens at @k, left as 8
 * partial sums each at fold[row][token].
 */
INLINE void qk_dots(uint32_t format, uint32_t nr, uint32_t nv,
                    const struct strip *s, const char *k, const float *q,
                    size_t q_stride, const char *next, float *fold)
{
	const size_t step = nv * VTOKENS * s->v_row * 8 / s->k_dim;
	const size_t size = page_code_bytes(format), k_row = s->k_row;
	const size_t dim = s->k_dim;
	vec acc[BLOCK][OCTET], x[OCTET], y;
	uint32_t r, c;
	size_t d;

	for (r = 0; r < nr; r++)
		for (c = 0; c < nv; c++)
			acc[r][c] = v_set(0);
	for (d = 0; d < dim; d += 8, next += step) {
		prefetch(next, nv * VTOKENS * 8 * size);
		for (c = 0; c < nv; c++)
			x[c] = v_tokens(format,
			                k + c * VTOKENS * k_row + d * size,
			                k_row);
		for (r = 0; r < nr; r++) {
			y = v_keep(v_repeat8(q + r * q_stride + d));
			for (c = 0; c < nv; c++)
				acc[r][c] = v_fma(y, x[c], acc[r][c]);
		}
	}
	for (r = 0; r < nr; r++)
		for (c = 0; c < nv; c++)
			v_store(fold + r * OCTET * 8 + c * VLANES, acc[r][c]);
	/* Stored now, so that the next dots have all registers. */
	__asm__ volatile("" : : "r"(fold) : "memory");
}

/* Dot products of a block's rows with tokens lo..hi-1, in whole octets. */
INLINE void qk(uint32_t format, uint32_t nr, const struct tile *t,
               struct strip *s, struct block *b, uint32_t lo, uint32_t hi)
{
	const uint32_t all = OCTET / VTOKENS;
	const uint32_t nv = row_width(nr) < all ? row_width(nr) : all;
	const uint32_t rest = all % nv;
	const float *q = t->q + b->row * t->q_stride;
	float fold[BLOCK * OCTET * 8];
	uint32_t i, c, r;

	for (i = lo / OCTET * OCTET; i < hi; i += OCTET) {
		const char *k = s->k + i * s->k_row;
		const char *next = s->next_v + i * s->v_row;

		for (c = 0; c < all - rest; c += nv)
			qk_dots(format, nr, nv, s, k + c * VTOKENS * s->k_row,
			        q, t->q_stride, next + c * VTOKENS * s->v_row,
			        fold + c * VLANES);
		if (rest)
			qk_dots(format, nr, rest, s,
			        k + (all - rest) * VTOKENS * s->k_row, q,
			        t->q_stride,
			        next + (all - rest) * VTOKENS * s->v_row,
			        fold + (all - rest) * VLANES);
		for (r = 0; r < nr; r++)
			_mm256_storeu_ps(&b->w[r][i],
			                 v8_sums(fold + r * OCTET * 8));
	}
}

/* @x in lanes of tokens that row @r sees, else @other; @whole: all. */
INLINE vec row_mask(const struct block *b, uint32_t r, uint32_t i, int whole,
                    vec x, float other)
{
	if (whole)
		return x;
	return v_select(v_range(i, b->lo[r], b->hi[r]), x, v_set(other));
}

/* Scores of row @r from dot products. Return: the greatest. */
INLINE float row_scores(const struct tile *t, const struct strip *s,
                        struct block *b, uint32_t r, int whole)
{
	vec q_sum = v_set(t->q_sum[b->row + r]), max = v_set(-INFINITY), x;
	uint32_t i;

	for (i = 0; i < s->nr_tokens; i += VLANES) {
		x = v_load(&b->w[r][i]);
		if (s->k_format == KVD_INT8)
			x = v_fma(v_load(&s->k_scale[i]), x,
			          v_mul(v_load(&s->k_min[i]), q_sum));
		if (t->a->softcap > 0)
			x = v_softcap(x, t->a->softcap);
		x = row_mask(b, r, i, whole, x, -INFINITY);
		max = v_max(max, x);
		v_store(&b->w[r][i], x);
	}
	return v_hmax(max);
}

/*
 * Weights of row @r from scores, times V's scale. Return: their sum before
 * that; *ret_min: their sum times V's minima.
 */
INLINE float row_weights(const struct strip *s, struct block *b, uint32_t r,
                         int whole, float max, float *ret_min)
{
	vec sum[VPARTS], min[VPARTS], w;
	uint32_t i, j;

	for (j = 0; j < VPARTS; j++)
		sum[j] = min[j] = v_set(0);
	for (i = 0; i < s->nr_tokens; i += LANES)
		for (j = 0; j < VPARTS; j++) {
			uint32_t c = i + j * VLANES;

			w = v_exp2(v_sub(v_load(&b->w[r][c]), v_set(max)));
			sum[j] = v_add(sum[j], w);
			if (s->v_format == KVD_INT8) {
				min[j] = v_add(
					min[j],
					row_mask(b, r, c, whole,
				                 v_mul(w, v_load(&s->v_min[c])),
				                 0));
				w = row_mask(b, r, c, whole,
				             v_mul(w, v_load(&s->v_scale[c])),
				             0);
			}
			v_store(&b->w[r][c], w);
		}
	*ret_min = s->v_format == KVD_INT8 ? v_sum(min) : 0;
	return v_sum(sum);
}

/* Brings the accumulators of a row to a new maximum, and adds to all dims. */
static void row_rescale(float *acc, uint32_t dim, float scale, float add)
{
	vec a = v_set(scale), b = v_set(add);
	uint32_t d;

	for (d = 0; d < dim; d += VLANES)
		v_store(acc + d, v_fma(v_load(acc + d), a, b));
}

/* Softmax of row @r over the strip; the part gets all of it but the values. */
INLINE void row_softmax(const struct tile *t, const struct strip *s,
                        struct block *b, uint32_t r, int whole,
                        const struct part *p)
{
	uint32_t row = b->row + r;
	float old = 1.0f, max, sum, min, lanes[VLANES];

	max = row_scores(t, s, b, r, whole);
	if (max > p->max[row]) {
		v_store(lanes, v_exp2(v_set(p->max[row] - max)));
		old = lanes[0];
		p->max[row] = max;
	}
	sum = row_weights(s, b, r, whole, p->max[row], &min);
	p->sum[row] = p->sum[row] * old + sum;
	if (old != 1.0f || min != 0.0f)
		row_rescale(p->acc + row * t->acc_stride, t->acc_stride, old,
		            min);
}

static void block_softmax(const struct tile *t, const struct strip *s,
                          struct block *b, const struct part *p)
{
	uint32_t r;

	for (r = 0; r < b->nr; r++)
		if (b->hi[r] - b->lo[r] == s->nr_tokens)
			row_softmax(t, s, b, r, 1, p);
		else if (b->hi[r])
			row_softmax(t, s, b, r, 0, p);
}

/* A rectangle of weights times values: rows x tokens x all dims. */
struct rect {
	const float *w; /* [row][STRIP] */
	float *acc;     /* [row][stride] */
	uint32_t stride;
	uint32_t lo, hi; /* tokens */
};

/* Adds dims d .. d + width vectors; @codes8: the last 8 dims of a row. */
INLINE void pv_dims(uint32_t format, uint32_t nr, uint32_t width, int codes8,
                    struct strip *s, const struct rect *x, size_t d)
{
	const size_t size = page_code_bytes(format), v_row = s->v_row;
	const size_t stride = x->stride, end = x->hi;
	const float *w = x->w;
	float *out = x->acc + d;
	const char *v = s->v + x->lo * v_row + d * size;
	const size_t step = width * VLANES * s->k_row / s->v_dim;
	const char *next = s->next_k + d * s->nr_tokens * s->k_row / s->v_dim;
	vec acc[BLOCK][8], y[8], z;
	uint32_t r, c;
	size_t t;

	for (r = 0; r < nr; r++)
		for (c = 0; c < width; c++)
			acc[r][c] = v_load(out + r * stride + c * VLANES);
	for (t = x->lo; t < end; t++, v += v_row, next += step) {
		prefetch(next, width * VLANES * size);
		for (c = 0; c < width; c++)
			y[c] = codes8 ? v_codes8(format, v)
			              : v_codes(format, v + c * VLANES * size);
		for (r = 0; r < nr; r++) {
			z = v_set(w[r * STRIP + t]);
			for (c = 0; c < width; c++)
				acc[r][c] = v_fma(z, y[c], acc[r][c]);
		}
	}
	for (r = 0; r < nr; r++)
		for (c = 0; c < width; c++)
			v_store(out + r * stride + c * VLANES, acc[r][c]);
}

/* All dims of a rectangle; not one vector at a time where two are left. */
INLINE void pv(uint32_t format, uint32_t nr, struct strip *s,
               const struct rect *x)
{
	const uint32_t width = row_width(nr);
	size_t d = 0, left;

	for (; d + VLANES <= s->v_dim; d += left * VLANES) {
		left = (s->v_dim - d) / VLANES;
		if (left >= width && left != width + 1) {
			left = width;
			pv_dims(format, nr, width, 0, s, x, d);
		} else if (left >= 2) {
			left = 2;
			pv_dims(format, nr, 2, 0, s, x, d);
		} else {
			pv_dims(format, nr, 1, 0, s, x, d);
		}
	}
	if (d < s->v_dim)
		pv_dims(format, nr, 1, 1, s, x, d);
}

/* One function per format and number of rows. */
#define QK_PV(format, nr)                                                      \
	static void qk_##format##_##nr(const struct tile *t, struct strip *s,  \
	                               struct block *b, uint32_t lo,           \
	                               uint32_t hi)                            \
	{                                                                      \
		qk(format, nr, t, s, b, lo, hi);                               \
	}                                                                      \
	static void pv_##format##_##nr(struct strip *s, const struct rect *x)  \
	{                                                                      \
		pv(format, nr, s, x);                                          \
	}
#define QK_PV_ROWS(format)                                                     \
	QK_PV(format, 1) QK_PV(format, 2) QK_PV(format, 3) QK_PV(format, 4)

QK_PV_ROWS(KVD_F16)
QK_PV_ROWS(KVD_BF16)
QK_PV_ROWS(KVD_INT8)

#define BY_ROWS(f)                                                             \
	{                                                                      \
		NULL, f##_1, f##_2, f##_3, f##_4                               \
	}

typedef void qk_fn(const struct tile *t, struct strip *s, struct block *b,
                   uint32_t lo, uint32_t hi);
typedef void pv_fn(struct strip *s, const struct rect *x);

static qk_fn *const qk_fns[KVD_NR_FORMATS][BLOCK + 1] = {
	[KVD_F16] = BY_ROWS(qk_KVD_F16),
	[KVD_BF16] = BY_ROWS(qk_KVD_BF16),
	[KVD_INT8] = BY_ROWS(qk_KVD_INT8),
};

static pv_fn *const pv_fns[KVD_NR_FORMATS][BLOCK + 1] = {
	[KVD_F16] = BY_ROWS(pv_KVD_F16),
	[KVD_BF16] = BY_ROWS(pv_KVD_BF16),
	[KVD_INT8] = BY_ROWS(pv_KVD_INT8),
};

/* Adds tokens lo..hi-1 to @nr rows from row @r of the block. */
static void rows_add(const struct tile *t, struct strip *s,
                     const struct block *b, uint32_t r, uint32_t nr,
                     const struct part *p, uint32_t lo, uint32_t hi)
{
	struct rect x = {
		.w = b->w[r],
		.acc = p->acc + (b->row + r) * t->acc_stride,
		.stride = t->acc_stride,
		.lo = lo,
		.hi = hi,
	};

	if (lo < hi)
		pv_fns[s->v_format][nr](s, &x);
}

/* Adds values: tokens all rows see together, the others row by row. */
static void block_add(const struct tile *t, struct strip *s,
                      const struct block *b, const struct part *p)
{
	uint32_t lo = 0, hi = s->nr_tokens, r;

	for (r = 0; r < b->nr; r++) {
		lo = b->lo[r] > lo ? b->lo[r] : lo;
		hi = b->hi[r] < hi ? b->hi[r] : hi;
	}
	if (lo >= hi)
		lo = hi = s->nr_tokens;
	for (r = 0; r < b->nr; r++)
		rows_add(t, s, b, r, 1, p, b->lo[r],
		         b->hi[r] < lo ? b->hi[r] : lo);
	rows_add(t, s, b, 0, b->nr, p, lo, hi);
	for (r = 0; r < b->nr; r++)
		rows_add(t, s, b, r, 1, p, hi, b->hi[r]);
}

/* Which tokens of the strip each row sees. Return: whether any does. */
static int block_init(struct block *b, const struct tile *t,
                      const struct strip *s, uint32_t row)
{
	uint32_t r, any = 0;

	b->row = row;
	b->nr = tile_rows(t) - row < BLOCK ? tile_rows(t) - row : BLOCK;
	for (r = 0; r < b->nr; r++) {
		uint32_t pos = t->pos + (row + r) / t->group;
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
	qk_fns[s->k_format][b->nr](t, s, b, lo, hi);
	block_softmax(t, s, b, p);
	block_add(t, s, b, p);
}

static const char *page_at(const struct tile *t, uint32_t page,
                           const struct page_layout **ret)
{
	const struct kv_page_ref *ref = &t->a->pages[kv_seq_page(t->seq, page)];
	const struct page_layout *l = &t->a->layouts[ref->layout];

	assert(ref->segment != KV_NO_SEGMENT);
	*ret = l;
	return (const char *)t->a->bases[ref->segment] + ref->offset +
	       page_record(l, t->a->layer, t->kv_head);
}

/* K of the strip after this one, to be prefetched. */
static void strip_ahead(struct strip *s, const struct tile *t, uint32_t page,
                        uint32_t base)
{
	uint32_t pt = t->a->layouts[0].page_tokens;
	const struct page_layout *l;

	s->next_v = s->v;
	if (base + s->nr_tokens < pt)
		s->next_k = s->k + s->nr_tokens * s->k_row;
	else if (page < (t->pos + t->nr_tokens - 1) / pt)
		s->next_k = page_at(t, page + 1, &l);
	else
		s->next_k = s->k;
}

/* The strip at token @base of @page. */
static void strip_init(struct strip *s, const struct tile *t, uint32_t page,
                       uint32_t base)
{
	const struct page_layout *l;
	const char *rec = page_at(t, page, &l);
	uint32_t v_codes = l->v_dim ? l->v_codes : 0, i;
	uint32_t v_meta = l->v_dim ? l->v_meta : l->k_meta;

	s->pos = (uint64_t)page * l->page_tokens + base;
	s->nr_tokens = l->page_tokens < STRIP ? l->page_tokens : STRIP;
	s->k_format = l->k_format;
	s->v_format = l->v_dim ? l->v_format : l->k_format;
	s->k_dim = l->k_dim;
	s->v_dim = page_value_dim(l);
	s->k_row = s->k_dim * page_code_bytes(s->k_format);
	s->v_row = s->v_dim * page_code_bytes(s->v_format);
	s->k = rec + base * s->k_row;
	s->v = rec + v_codes + base * s->v_row;
	for (i = 0; i < s->nr_tokens && s->k_format == KVD_INT8; i += OCTET)
		v8_meta((const struct affine_meta *)(rec + l->k_meta) + base + i,
		        &s->k_scale[i], &s->k_min[i]);
	for (i = 0; i < s->nr_tokens && s->v_format == KVD_INT8; i += OCTET)
		v8_meta((const struct affine_meta *)(rec + v_meta) + base + i,
		        &s->v_scale[i], &s->v_min[i]);
	strip_ahead(s, t, page, base);
}

/* The body of run_attend_fn. */
static void run_attend(const struct tile *t, uint32_t first_page,
                       uint32_t end_page, const struct part *p)
{
	uint32_t pt = t->a->layouts[0].page_tokens, page, base, row;
	struct strip s;
	struct block b;

	for (page = first_page; page < end_page; page++)
		for (base = 0; base < pt; base += s.nr_tokens) {
			strip_init(&s, t, page, base);
			for (row = 0; row < tile_rows(t); row += BLOCK)
				if (block_init(&b, t, &s, row))
					block_attend(t, &s, &b, p);
		}
}
