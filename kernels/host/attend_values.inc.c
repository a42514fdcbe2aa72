/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_values.inc.c - weights times a strip's V, added to a part.
 *
 * Part of attend.inc.c. Exact forms are added to the part's acc as they are.
 * Of the others the codes are summed first, in strip.sum, and brought to
 * scale once per strip: values_fold().
 */
/* A rectangle of weights times codes: rows x tokens x dims. */
struct rect {
	const struct strip *s;
	const float *w; /* [row][STRIP] */
	float *acc;     /* [row][stride] */
	size_t stride;
	size_t lo, hi;           /* tokens */
	uint32_t d_from, d_to;   /* dims; packed: d_from is a group's first */
};

/* Adds dims d .. d + width vectors; @codes8: the last 8 dims of a row. */
INLINE void pv_dims(enum form f, uint32_t nr, uint32_t width, int codes8,
                    const struct rect *x, size_t d)
{
	const struct strip *s = x->s;
	const size_t size = form_bytes(f), row = s->v.row;
	const size_t stride = x->stride, end = x->hi;
	const float *w = x->w;
	float *out = x->acc + d;
	const char *v = s->v.codes + x->lo * row + d * size;
	const size_t step = width * (VLANES / 8) * s->k.ahead;
	const char *next = s->next_k + d / 8 * s->nr_tokens * s->k.ahead;
	vec acc[BLOCK][8], y[8], z;
	uint32_t r, c;
	size_t t;

	for (r = 0; r < nr; r++)
		for (c = 0; c < width; c++)
			acc[r][c] = v_load(out + r * stride + c * VLANES);
	for (t = x->lo; t < end; t++, v += row, next += step) {
		prefetch(next, step);
		for (c = 0; c < width; c++)
			y[c] = codes8 ? v_codes8(f, v)
			              : v_codes(f, v + c * VLANES * size);
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
INLINE void pv_plain(enum form f, uint32_t nr, const struct rect *x)
{
	const uint32_t width = row_width(nr);
	size_t d = x->d_from, left;

	for (; d + VLANES <= x->d_to; d += left * VLANES) {
		left = (x->d_to - d) / VLANES;
		if (left >= width && left != width + 1) {
			left = width;
			pv_dims(f, nr, width, 0, x, d);
		} else if (left >= 2) {
			left = 2;
			pv_dims(f, nr, 2, 0, x, d);
		} else {
			left = 1;
			pv_dims(f, nr, 1, 0, x, d);
		}
	}
	if (d < x->d_to)
		pv_dims(f, nr, 1, 1, x, d);
}

/* Adds fields j .. j + width vectors of word @word of each row. */
INLINE void pv_fields(enum form f, uint32_t nr, uint32_t width,
                      const struct rect *x, uint32_t word, uint32_t j)
{
	const struct strip *s = x->s;
	const uint32_t bits = form_field(f), per = VLANES / 8;
	const size_t row = s->v.row, stride = x->stride, end = x->hi;
	const char *v = s->v.codes + x->lo * row + word * 32;
	uint32_t octet = word * (32 / bits) + j, ahead;
	float *out = x->acc + octet * 8;
	const float *w = x->w;
	vec acc[BLOCK][8], y[8], z;
	uint32_t r, c;
	vint codes;
	size_t t;

	ahead = (end - x->lo) * s->k.ahead;
	prefetch(s->next_k + octet * ahead, width * per * ahead);
	for (r = 0; r < nr; r++)
		for (c = 0; c < width; c++)
			acc[r][c] = v_load(out + r * stride + c * VLANES);
	for (t = x->lo; t < end; t++, v += row) {
		codes = v_repeat_words(v);
		for (c = 0; c < width; c++)
			y[c] = f == FORM_N4 || f == FORM_N2
			               ? v_fields(bits, codes, j + c * per)
			               : v_lookup(f, s->lut, codes,
			                          j + c * per);
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

/*
 * A unit of @unit fields that share a scale, from field @u of a word: all
 * widths are constants, so that accumulators are registers. Past the end of a
 * row its last word is zeros, and room is left for them.
 */
INLINE void pv_unit(enum form f, uint32_t nr, uint32_t unit,
                    const struct rect *x, uint32_t word, uint32_t u)
{
	const uint32_t per = VLANES / 8, all = unit / per;
	const uint32_t width = row_width(nr);
	const uint32_t octet = word * (32 / form_field(f)) + u;

	if (octet < x->d_from / 8 || octet >= x->d_to / 8)
		return;
	if (width >= all) {
		pv_fields(f, nr, all, x, word, u);
	} else if (width == 4) {
		pv_fields(f, nr, 4, x, word, u);
		pv_fields(f, nr, 4, x, word, u + 4 * per);
	} else if (all == 4) {
		pv_fields(f, nr, 2, x, word, u);
		pv_fields(f, nr, 2, x, word, u + 2 * per);
	} else {
		pv_fields(f, nr, 3, x, word, u);
		pv_fields(f, nr, 3, x, word, u + 3 * per);
		pv_fields(f, nr, 2, x, word, u + 6 * per);
	}
}

INLINE void pv_packed(enum form f, uint32_t nr, uint32_t unit,
                      const struct rect *x)
{
	const uint32_t fields = 32 / form_field(f), nr_units = fields / unit;
	uint32_t w = x->d_from / 8 / fields;

	for (; w * fields < x->d_to / 8; w++) {
		pv_unit(f, nr, unit, x, w, 0);
		if (nr_units > 1)
			pv_unit(f, nr, unit, x, w, unit);
		if (nr_units > 2) {
			pv_unit(f, nr, unit, x, w, 2 * unit);
			pv_unit(f, nr, unit, x, w, 3 * unit);
		}
	}
}

/* One function per form and number of rows. */
#define PV(form, nr)                                                           \
	static void pv_##form##_##nr(const struct rect *x)                     \
	{                                                                      \
		if (!form_field(form))                                         \
			pv_plain(form, nr, x);                                 \
		else if (x->s->v_group % 64 == 0 || x->s->v_groups == 1)       \
			pv_packed(form, nr, 8, x);                             \
		else                                                           \
			pv_packed(form, nr, 4, x);                             \
	}
#define PV_ROWS(form) PV(form, 1) PV(form, 2) PV(form, 3) PV(form, 4)

PV_ROWS(FORM_F32)
PV_ROWS(FORM_F16)
PV_ROWS(FORM_BF16)
PV_ROWS(FORM_U8)
PV_ROWS(FORM_E4M3)
PV_ROWS(FORM_E4M3N)
PV_ROWS(FORM_E5M2)
PV_ROWS(FORM_N4)
PV_ROWS(FORM_N2)
PV_ROWS(FORM_L4)
PV_ROWS(FORM_L3)
PV_ROWS(FORM_L2)

typedef void pv_fn(const struct rect *x);

static pv_fn *const pv_fns[NR_FORMS][BLOCK + 1] = {
	[FORM_F32] = BY_ROWS(pv_FORM_F32),
	[FORM_F16] = BY_ROWS(pv_FORM_F16),
	[FORM_BF16] = BY_ROWS(pv_FORM_BF16),
	[FORM_U8] = BY_ROWS(pv_FORM_U8),
	[FORM_E4M3] = BY_ROWS(pv_FORM_E4M3),
	[FORM_E4M3N] = BY_ROWS(pv_FORM_E4M3N),
	[FORM_E5M2] = BY_ROWS(pv_FORM_E5M2),
	[FORM_N4] = BY_ROWS(pv_FORM_N4),
	[FORM_N2] = BY_ROWS(pv_FORM_N2),
	[FORM_L4] = BY_ROWS(pv_FORM_L4),
	[FORM_L3] = BY_ROWS(pv_FORM_L3),
	[FORM_L2] = BY_ROWS(pv_FORM_L2),
};

/* Adds tokens lo..hi-1 to @nr rows of @x from row @r. */
static void rows_add(struct rect x, uint32_t r, uint32_t nr, uint32_t lo,
                     uint32_t hi)
{
	x.w += r * STRIP;
	x.acc += r * x.stride;
	x.lo = lo;
	x.hi = hi;
	if (lo < hi)
		pv_fns[x.s->v.form][nr](&x);
}

/* Adds codes: tokens all rows see together, the others row by row. */
static void codes_add(const struct rect *x, const struct block *b)
{
	uint32_t lo = 0, hi = x->s->nr_tokens, r;

	for (r = 0; r < b->nr; r++) {
		lo = b->lo[r] > lo ? b->lo[r] : lo;
		hi = b->hi[r] < hi ? b->hi[r] : hi;
	}
	if (lo >= hi)
		lo = hi = x->s->nr_tokens;
	for (r = 0; r < b->nr; r++)
		rows_add(*x, r, 1, b->lo[r], b->hi[r] < lo ? b->hi[r] : lo);
	rows_add(*x, 0, b->nr, lo, hi);
	for (r = 0; r < b->nr; r++)
		rows_add(*x, r, 1, hi, b->hi[r]);
}

/*
 * Weights of row @r times the scales of V's group @g, to @w. Return: their
 * sum times the group's minima.
 */
INLINE float group_weights(const struct strip *s, const struct block *b,
                           uint32_t r, uint32_t g, int whole, float *w)
{
	const float *scale = s->v_a + g * STRIP, *min = s->v_b + g * STRIP;
	vec sum[VPARTS], p, x;
	uint32_t i, j, c;

	for (j = 0; j < VPARTS; j++)
		sum[j] = v_set(0);
	for (i = 0; i < s->nr_tokens; i += LANES)
		for (j = 0; j < VPARTS; j++) {
			c = i + j * VLANES;
			p = v_load(&b->w[r][c]);
			x = row_mask(b, r, c, whole, v_mul(p, v_load(min + c)), 0);
			sum[j] = v_add(sum[j], x);
			x = v_mul(p, v_load(scale + c));
			v_store(w + c, row_mask(b, r, c, whole, x, 0));
		}
	return v_sum(sum);
}

/* Brings row @r of the part to its new maximum, and adds a group's sum. */
static void values_fold(const struct strip *s, const struct rect *x,
                        uint32_t r, float *acc, float old, float min)
{
	vec o = v_set(old), m = v_set(min), y;
	const float *sum = x->acc + r * x->stride;
	uint32_t d;

	for (d = x->d_from; d < x->d_to; d += VLANES) {
		y = v_mul(v_load(s->v_min + d), m);
		y = v_fma(v_load(sum + d), v_load(s->v_fold + d), y);
		v_store(acc + d, v_fma(v_load(acc + d), o, y));
	}
}

/* V's outliers: those of tokens that row @r sees. */
static void outliers_add(const struct strip *s, const struct block *b,
                         uint32_t r, float *acc)
{
	const struct sparse_entry *e;

	for (e = s->v_out; e < s->v_end; e++) {
		uint32_t t = e->at / s->v.dim - s->v_base;

		if (t >= b->lo[r] && t < b->hi[r])
			acc[e->at % s->v.dim] +=
				b->w[r][t] * f16_to_f32(e->value);
	}
}

/* One group of V's channels; all rows of the block. */
static void group_add(const struct tile *t, struct strip *s,
                      const struct block *b, uint32_t g, const struct part *p)
{
	float w[BLOCK][STRIP], min[BLOCK] = { 0 };
	struct rect x = {
		.s = s,
		.w = s->v_affine ? w[0] : b->w[0],
		.acc = s->sum,
		.stride = MAX_DIM,
		.d_from = g * s->v_group,
		.d_to = g + 1 < s->v_groups ? (g + 1) * s->v_group : s->v.dim,
	};
	uint32_t r;

	for (r = 0; r < b->nr && s->v_affine; r++)
		if (b->hi[r] - b->lo[r] == s->nr_tokens)
			min[r] = group_weights(s, b, r, g, 1, w[r]);
		else if (b->hi[r])
			min[r] = group_weights(s, b, r, g, 0, w[r]);
	codes_add(&x, b);
	for (r = 0; r < b->nr; r++)
		if (b->hi[r])
			values_fold(s, &x, r,
			            p->acc + (b->row + r) * t->acc_stride,
			            b->old[r], min[r]);
}

/* Brings the accumulators of a row to a new maximum. */
static void row_rescale(float *acc, uint32_t dim, float scale)
{
	vec a = v_set(scale);
	uint32_t d;

	for (d = 0; d < dim; d += VLANES)
		v_store(acc + d, v_mul(v_load(acc + d), a));
}

static void exact_add(const struct tile *t, struct strip *s,
                      const struct block *b, const struct part *p)
{
	struct rect x = {
		.s = s,
		.w = b->w[0],
		.acc = p->acc + b->row * t->acc_stride,
		.stride = t->acc_stride,
		.d_to = s->v.dim,
	};
	uint32_t r;

	for (r = 0; r < b->nr; r++)
		if (b->old[r] != 1.0f)
			row_rescale(x.acc + r * x.stride, x.stride, b->old[r]);
	codes_add(&x, b);
}

/* Adds the strip's values to the part. */
static void block_add(const struct tile *t, struct strip *s,
                      const struct block *b, const struct part *p)
{
	uint32_t g, r;

	if (form_exact(s->v.form)) {
		exact_add(t, s, b, p);
		return;
	}
	for (r = 0; r < b->nr; r++)
		memset(s->sum + r * MAX_DIM, 0,
		       sizeof(float) * ((s->v.dim + 127) / 128 * 128));
	for (g = 0; g < s->v_groups; g++)
		group_add(t, s, b, g, p);
	for (r = 0; r < b->nr && s->v_out < s->v_end; r++)
		outliers_add(s, b, r,
		             p->acc + (b->row + r) * t->acc_stride);
}
