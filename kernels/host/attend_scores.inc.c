/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_scores.inc.c - dot products of a block's queries with a strip's K.
 *
 * Part of attend.inc.c. For each 8 elements of a key one load, for packed
 * codes one mask (in words: a shift besides) and one conversion, for each
 * query one multiply-add: with 4 queries on AVX2 of Zen, 256 bits in two
 * halves,
 *
 *	16 bits		load, 1 or 2 to convert, 4 multiply-adds
 *	int8		load, 2 to convert, 4
 *	4 and 2 bits	load (of 64 or 128 elements), and, convert, 4
 *
 * and a load of each query for every 3 keys. Multiply-adds are the floor: the
 * conversions run beside them, on other pipes.
 */
/* Vectors per row such that the accumulators of @nr rows fit registers. */
INLINE uint32_t row_width(uint32_t nr)
{
	return nr == 1 ? 8 : nr == 2 ? 4 : VACCS / 4;
}

/* Dot products of @nr rows of q with @nv vectors of tokens at @k. */
struct dots {
	const struct strip *s;
	const float *q;
	size_t q_stride;
	const char *k;
	const char *next; /* to be prefetched meanwhile */
	float *fold;      /* [row][token] of 8 partial sums each */
};

INLINE void dots_store(const struct dots *x, uint32_t nr, uint32_t nv,
                       vec (*acc)[OCTET])
{
	uint32_t r, c;

	for (r = 0; r < nr; r++)
		for (c = 0; c < nv; c++)
			v_store(x->fold + r * OCTET * 8 + c * VLANES,
			        acc[r][c]);
	/* Stored now, so that the next dots have all registers. */
	__asm__ volatile("" : : "r"(x->fold) : "memory");
}

/* Of codes that are not packed. */
INLINE void dots_plain(enum form f, uint32_t nr, uint32_t nv,
                       const struct dots *a)
{
	const size_t size = form_bytes(f), row = a->s->k.row, dim = a->s->k.dim;
	const size_t step = nv * VTOKENS * a->s->v.ahead;
	const char *next = a->next;
	vec acc[BLOCK][OCTET], x[OCTET], y;
	uint32_t r, c;
	size_t d;

	for (r = 0; r < nr; r++)
		for (c = 0; c < nv; c++)
			acc[r][c] = v_set(0);
	for (d = 0; d < dim; d += 8, next += step) {
		prefetch(next, step);
		for (c = 0; c < nv; c++)
			x[c] = v_tokens(
				f, a->k + c * VTOKENS * row + d * size, row);
		for (r = 0; r < nr; r++) {
			y = v_keep(v_repeat8(a->q + r * a->q_stride + d));
			for (c = 0; c < nv; c++)
				acc[r][c] = v_fma(y, x[c], acc[r][c]);
		}
	}
	dots_store(a, nr, nv, acc);
}

/* Of packed codes; the last word of a row may be in use in part. */
INLINE void dots_packed(enum form f, uint32_t nr, uint32_t nv,
                        const struct dots *a)
{
	const uint32_t bits = form_field(f), fields = 32 / bits;
	const size_t row = a->s->k.row;
	uint32_t left = a->s->k.dim / 8, r, c, j;
	const float *q = a->q;
	const char *k = a->k;
	vec acc[BLOCK][OCTET], x[OCTET], y;
	vint w[OCTET];

	for (r = 0; r < nr; r++)
		for (c = 0; c < nv; c++)
			acc[r][c] = v_set(0);
	prefetch(a->next, nv * VTOKENS * a->s->v.page_row);
	for (;; k += 32, q += fields * 8, left -= fields) {
		for (c = 0; c < nv; c++)
			w[c] = v_words(k + c * VTOKENS * row, row);
#pragma GCC unroll 16
		for (j = 0; j < fields; j++) {
			for (c = 0; c < nv; c++)
				x[c] = v_field(bits, w[c], j);
			for (r = 0; r < nr; r++) {
				y = v_keep(v_repeat8(q + r * a->q_stride +
				                     j * 8));
				for (c = 0; c < nv; c++)
					acc[r][c] = v_fma(y, x[c], acc[r][c]);
			}
			if (j + 1 == left)
				goto out;
		}
	}
out:
	dots_store(a, nr, nv, acc);
}

INLINE void dots(enum form f, uint32_t nr, uint32_t nv, const struct dots *a)
{
	if (form_field(f))
		dots_packed(f, nr, nv, a);
	else
		dots_plain(f, nr, nv, a);
}

/* Dot products of a block's rows with tokens lo..hi-1, in whole octets. */
INLINE void qk(enum form f, uint32_t nr, const struct tile *t,
               const struct strip *s, struct block *b, uint32_t lo,
               uint32_t hi)
{
	const uint32_t all = OCTET / VTOKENS;
	const uint32_t nv = row_width(nr) < all ? row_width(nr) : all;
	const uint32_t rest = all % nv;
	const size_t v_row = s->v.page_row;
	float fold[BLOCK * OCTET * 8];
	struct dots a = { .s = s, .q_stride = t->q_stride };
	uint32_t i, c, r;

	a.q = s->q + b->row * t->q_stride;
	for (i = lo / OCTET * OCTET; i < hi; i += OCTET) {
		for (c = 0; c < all; c += nv) {
			a.k = s->k.codes + (i + c * VTOKENS) * s->k.row;
			a.next = s->v.page + (i + c * VTOKENS) * v_row;
			a.fold = fold + c * VLANES;
			if (c + nv <= all)
				dots(f, nr, nv, &a);
			else if (rest)
				dots(f, nr, rest, &a);
		}
		for (r = 0; r < nr; r++)
			_mm256_storeu_ps(&b->w[r][i],
			                 v8_sums(fold + r * OCTET * 8));
	}
}

typedef void qk_fn(const struct tile *t, const struct strip *s,
                   struct block *b, uint32_t lo, uint32_t hi);

/* One function per form and number of rows. */
#define QK(form, nr)                                                           \
	static void qk_##form##_##nr(const struct tile *t,                     \
	                             const struct strip *s, struct block *b,   \
	                             uint32_t lo, uint32_t hi)                 \
	{                                                                      \
		qk(form, nr, t, s, b, lo, hi);                                 \
	}
#define QK_ROWS(form) QK(form, 1) QK(form, 2) QK(form, 3) QK(form, 4)

QK_ROWS(FORM_F32)
QK_ROWS(FORM_F16)
QK_ROWS(FORM_BF16)
QK_ROWS(FORM_U8)
QK_ROWS(FORM_E4M3)
QK_ROWS(FORM_E4M3N)
QK_ROWS(FORM_E5M2)
QK_ROWS(FORM_N4)
QK_ROWS(FORM_N2)

static qk_fn *const qk_fns[NR_FORMS][BLOCK + 1] = {
	[FORM_F32] = BY_ROWS(qk_FORM_F32),
	[FORM_F16] = BY_ROWS(qk_FORM_F16),
	[FORM_BF16] = BY_ROWS(qk_FORM_BF16),
	[FORM_U8] = BY_ROWS(qk_FORM_U8),
	[FORM_E4M3] = BY_ROWS(qk_FORM_E4M3),
	[FORM_E4M3N] = BY_ROWS(qk_FORM_E4M3N),
	[FORM_E5M2] = BY_ROWS(qk_FORM_E5M2),
	[FORM_N4] = BY_ROWS(qk_FORM_N4),
	[FORM_N2] = BY_ROWS(qk_FORM_N2),
};
