/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strip_avx2.c - makes strips of pages of any format, on vectors of 8. See
 * strip.h. Stateless but for the strip; any thread.
 */
#include <assert.h>
#include <string.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/order.h"
#include "kernels/host/strip.h"
#include "kernels/host/unpack8.h"

#define OCTET 8u /* elements of one field of 8 words */

/* Multiplies by what fields are too large by, after the mask. */
static void field_scale(uint32_t bits, float *p, uint32_t n)
{
	uint32_t nr = 32 / bits, d, j = 0, last;
	__m256 x;

	for (d = 0; d < n; d += OCTET, j = j + 1 == nr ? 0 : j + 1) {
		last = j + 1 == nr;
		x = _mm256_castsi256_ps(_mm256_set1_epi32(
			(int)((127 - bits * (j - last)) << 23)));
		_mm256_storeu_ps(p + d, _mm256_mul_ps(_mm256_loadu_ps(p + d),
						      x));
	}
}

static void halves(const uint16_t *h, float *out, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i += OCTET)
		_mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(
						  (const __m128i *)(h + i))));
}

static void fill(float *p, float x, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		p[i] = x;
}

/* Scales and minima of @n tokens. */
static void affine(const struct affine_meta *m, uint32_t n, float *a, float *b)
{
	uint32_t i;

	for (i = 0; i < n; i += OCTET)
		v8_meta(m + i, a + i, b + i);
}

/* The form of what a side's codes are, and its row in words, if packed. */
static enum form side_form(const struct side *s)
{
	int table = format_coding(s->format) == CODING_KVQUANT;

	switch (s->format) {
	case KVD_F16:
		return FORM_F16;
	case KVD_BF16:
		return FORM_BF16;
	case KVD_INT8:
		return FORM_U8;
	case KVD_FP8_E4M3:
		return FORM_E4M3;
	case KVD_FP8_E5M2:
		return FORM_E5M2;
	default:
		break;
	}
	switch (format_bits(s->format)) {
	case 4:
		return table ? FORM_L4 : FORM_N4;
	case 3:
		return table ? FORM_L3 : FORM_N4;
	default:
		return table ? FORM_L2 : FORM_N2;
	}
}

/* Is there a NaN in @n codes of e4m3, @n a multiple of 32? */
static int has_nan(const char *codes, uint32_t n)
{
	__m256i low = _mm256_set1_epi8(0x7f), any = _mm256_setzero_si256(), x;
	uint32_t i;

	for (i = 0; i < n; i += 32) {
		x = _mm256_loadu_si256((const __m256i *)(codes + i));
		x = _mm256_cmpeq_epi8(_mm256_and_si256(x, low), low);
		any = _mm256_or_si256(any, x);
	}
	return !_mm256_testz_si256(any, any);
}

/* Rows of a strip's codes: where they lie, or, from tile order, in @rows. */
static const char *codes_rows(struct side *s, uint32_t base, uint32_t nr_tokens,
			      char *rows)
{
	if (s->order == KVD_TILE_ROW)
		return (const char *)s->codes + (size_t)base * s->row;
	side_gather(s, base, nr_tokens, (uint8_t *)rows);
	s->row = side_row_bytes(s);
	return rows;
}

/* Codes of the strip, rows @from; packed anew in @words where they must be. */
static void codes_init(struct strip_side *c, const struct side *s,
		       const char *from, uint32_t nr_tokens, char *words)
{
	uint32_t bits = format_bits(s->format), field, t;

	c->form = side_form(s);
	c->dim = s->dim;
	c->page = c->codes = from;
	c->row = c->page_row = s->row;
	if (c->form == FORM_E4M3 && has_nan(from, nr_tokens * s->row))
		c->form = FORM_E4M3N;
	field = form_field(c->form);
	if (!field || (field == bits && s->dim * bits % 256 == 0))
		return;
	c->codes = words;
	c->row = (s->dim * field + 255) / 256 * 32;
	for (t = 0; t < nr_tokens; t++, from += s->row)
		unpack8_words(bits, from, s->dim, words + t * c->row);
}

static float fp8_scale(const struct side *s)
{
	float x;

	memcpy(&x, s->meta, sizeof(x));
	return s->format == KVD_FP8_E4M3 ? x * 256 : x;
}

/* The codebook, as often as it fits. */
static void lut_init(float *lut, const struct side *s,
		     const struct kv_tables *tb)
{
	uint32_t nr = 1u << format_bits(s->format), i;

	for (i = 0; i < 16; i++)
		lut[i] = side_codebook(s, tb)[i % nr];
}

/* k_a, k_b, k_scale, k_zero: what K's codes stand for. */
static void k_meta(struct strip *s, const struct side *x, uint32_t base,
		   const struct kv_tables *tb)
{
	uint32_t n = s->nr_tokens;
	size_t channel;

	s->k_affine = 1;
	s->k_channel = 0;
	switch (format_coding(x->format)) {
	case CODING_16:
		s->k_affine = 0;
		break;
	case CODING_FP8:
		fill(s->k_a, fp8_scale(x), n);
		fill(s->k_b, 0, n);
		break;
	case CODING_TOKEN:
		affine(side_affine(x) + base, n, s->k_a, s->k_b);
		break;
	case CODING_KVQUANT:
		channel = ((size_t)x->layer * tb->nr_heads + x->head) * x->dim;
		s->k_affine = 0;
		s->k_channel = 1;
		memcpy(s->k_scale, tb->k_range + channel, x->dim * 4);
		memcpy(s->k_zero, tb->k_zero + channel, x->dim * 4);
		lut_init(s->k_lut, x, tb);
		break;
	case CODING_KIVI:
	case CODING_KVARN:
		s->k_channel = 1;
		halves(side_scales(x), s->k_scale, x->dim);
		halves(side_mins(x), s->k_zero, x->dim);
		if (format_coding(x->format) == CODING_KVARN)
			halves(side_factors(x) + base, s->k_a, n);
		else
			fill(s->k_a, 1, n);
		fill(s->k_b, 0, n);
		break;
	}
}

/* Part of the page's outliers: those of the strip's tokens. */
static const struct sparse_entry *
sparse_find(const struct side *s, uint32_t token)
{
	const struct sparse_head *h = side_sparse(s);
	const struct sparse_entry *e = (const struct sparse_entry *)(h + 1);
	uint32_t lo = 0, hi = h->nr, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (e[mid].at < token * s->dim)
			lo = mid + 1;
		else
			hi = mid;
	}
	return e + lo;
}

/* v_fold and v_min: by channel. Most formats have the same in every page. */
static void v_channels(struct strip *s, const struct side *x)
{
	enum coding coding = format_coding(x->format);
	uint32_t bits = form_field(s->v.form);

	if (x->format == s->v_format)
		return;
	s->v_format = x->format;
	fill(s->v_min, 1, x->dim);
	fill(s->v_fold, 1, x->dim);
	if (coding == CODING_KVARN) {
		halves(side_factors(x), s->v_fold, x->dim);
		memcpy(s->v_min, s->v_fold, x->dim * 4);
		s->v_format = KVD_NR_FORMATS;
	} else if (coding == CODING_FP8) {
		fill(s->v_fold, fp8_scale(x), x->dim);
		s->v_format = KVD_NR_FORMATS;
	}
	if (bits && coding != CODING_KVQUANT)
		field_scale(bits, s->v_fold, x->dim);
}

/* v_a, v_b, v_fold, v_min, outliers: what V's codes stand for. */
static void v_meta(struct strip *s, const struct side *x, uint32_t base,
		   const struct kv_tables *tb)
{
	enum coding coding = format_coding(x->format);
	uint32_t n = s->nr_tokens, g;

	s->v_affine = 1;
	s->v_groups = 1;
	s->v_group = x->dim;
	s->v_out = s->v_end = NULL;
	if (coding == CODING_16)
		s->v_affine = 0;
	else
		v_channels(s, x);
	if (coding == CODING_FP8) {
		s->v_affine = 0;
	} else if (coding == CODING_KIVI) {
		s->v_group = x->v_group;
		s->v_groups = page_v_groups(x->dim, x->v_group);
		for (g = 0; g < s->v_groups; g++)
			affine(side_affine(x) + g * x->tokens + base, n,
			       s->v_a + g * STRIP, s->v_b + g * STRIP);
	} else if (coding != CODING_16) {
		affine(side_affine(x) + base, n, s->v_a, s->v_b);
	}
	if (coding == CODING_KVQUANT) {
		lut_init(s->lut, x, tb);
		s->v_base = base;
		s->v_out = sparse_find(x, base);
		s->v_end = sparse_find(x, base + n);
	}
}

/* V is K, which has its scales by channel: K's fold and affine. */
static void v_of_k(struct strip *s, const struct side *x)
{
	uint32_t bits = form_field(s->v.form);

	s->v_affine = s->k_affine;
	s->v_groups = 1;
	s->v_group = x->dim;
	s->v_out = s->v_end = NULL;
	s->v_format = KVD_NR_FORMATS;
	memcpy(s->v_a, s->k_a, sizeof(s->k_a));
	memcpy(s->v_b, s->k_b, sizeof(s->k_b));
	fill(s->v_fold, 1, x->dim);
	fill(s->v_min, 1, x->dim);
	if (s->k_channel) {
		memcpy(s->v_fold, s->k_scale, x->dim * 4);
		memcpy(s->v_min, s->k_zero, x->dim * 4);
		memcpy(s->v_b, s->k_a, sizeof(s->k_a));
	}
	if (bits)
		field_scale(bits, s->v_fold, x->dim);
}

/*
 * Turns a key, or with @sign -1 back, by @angles: pairs' cosines, then sines.
 */
static void turn(float *x, const float *angles, const struct kv_tables *tb,
		 float sign)
{
	uint32_t pairs = tb->rope_pairs, i;
	uint32_t step = tb->rope_interleaved ? 2 : 1;
	uint32_t other = tb->rope_interleaved ? 1 : pairs;

	for (i = 0; i < pairs; i++) {
		float a = x[i * step], b = x[i * step + other];
		float c = angles[i], sn = sign * angles[pairs + i];

		x[i * step] = a * c - b * sn;
		x[i * step + other] = a * sn + b * c;
	}
}

/*
 * Keys of a page turn by its angle and their token's. The first turns all of
 * them alike, so it is the query that is turned, back: q_init().
 */
static void dense_turn(struct strip *s, const struct side *x, uint32_t base,
		       const struct kv_tables *tb)
{
	uint32_t t;

	for (t = 0; t < s->nr_tokens; t++)
		turn(s->dense + t * x->dim,
		     tb->rope_token + (size_t)(base + t) * 2 * tb->rope_pairs,
		     tb, 1);
}

/*
 * K as floats, turned by the angle of each token where @angles are given.
 * Outliers are added last: a turned one is two.
 */
static void dense_values(struct strip *s, const struct side *x,
			 const float *angles, uint32_t pairs)
{
	struct unpack8 u = { .form = s->k.form,
			     .dim = x->dim,
			     .lut = s->k_lut,
			     .scale = s->k_scale,
			     .zero = s->k_zero,
			     .pairs = pairs };
	uint32_t t;

	if (!s->k_affine) {
		fill(s->k_a, 1, s->nr_tokens);
		fill(s->k_b, 0, s->nr_tokens);
	}
	if (!s->k_channel) {
		fill(s->k_scale, 1, x->dim);
		fill(s->k_zero, 0, x->dim);
	}
	for (t = 0; t < s->nr_tokens; t++) {
		u.a = s->k_a[t];
		u.b = s->k_b[t];
		u.angles = angles + t * 2ull * pairs;
		unpack8_values(&u, s->k.codes + t * s->k.row,
			       s->dense + t * x->dim);
	}
}

/* K's outliers; those of pairs turned as dense_values() turns. */
static void dense_outliers(struct strip *s, const struct side *x, uint32_t base,
			   const float *angles, uint32_t pairs)
{
	const struct sparse_entry *e = sparse_find(x, base), *end;

	for (end = sparse_find(x, base + s->nr_tokens); e < end; e++) {
		uint32_t at = e->at - base * x->dim, d = at % x->dim;
		const float *c = angles + at / x->dim * 2ull * pairs;
		float v = f16_to_f32(e->value), *k = s->dense + at;

		if (d < pairs) {
			k[0] += v * c[d];
			k[pairs] += v * c[pairs + d];
		} else if (d < 2 * pairs) {
			k[-(int)pairs] -= v * c[d];
			k[0] += v * c[d - pairs];
		} else {
			k[0] += v;
		}
	}
}

/*
 * K as the model's keys, turned where pages hold them before RoPE: while they
 * are unpacked, or else after.
 */
static void dense_init(struct strip *s, const struct side *x,
		       const struct tile *t, uint32_t base)
{
	const struct kv_tables *tb = t->a->tables;
	int pre = t->a->layouts[0].rope_order == KVD_ROPE_PRE;
	int at_once = pre && !x->basis && !tb->rope_interleaved &&
		      tb->rope_pairs % OCTET == 0;
	uint32_t pairs = at_once ? tb->rope_pairs : 0, i;
	const float *r, *angles = pre ? tb->rope_token : NULL;
	float row[KVD_MAX_DIM];

	if (at_once)
		angles += (size_t)base * 2 * pairs;
	dense_values(s, x, angles, pairs);
	if (format_coding(x->format) == CODING_KVQUANT)
		dense_outliers(s, x, base, angles, pairs);
	if (pre && !at_once) {
		r = basis_rotation(tb, x->basis, x->layer, x->dim, 0);
		for (i = 0; i < s->nr_tokens && x->basis; i++) {
			memcpy(row, s->dense + i * x->dim, x->dim * 4);
			basis_undo(x->basis, x->dim, r, row,
				   s->dense + i * x->dim);
		}
		dense_turn(s, x, base, tb);
	}
	s->k.form = FORM_F32;
	s->k.codes = (const char *)s->dense;
	s->k.row = x->dim * 4;
	s->k_affine = s->k_channel = 0;
}

/* A query times k_scale to @out. Return: its sum times k_zero. */
static float q_scale(const struct strip *s, const float *q, float *out)
{
	__m256 sum = _mm256_setzero_ps(), x;
	uint32_t d;

	for (d = 0; d < s->k.dim; d += OCTET) {
		x = _mm256_loadu_ps(q + d);
		if (s->k_channel)
			sum = _mm256_fmadd_ps(
				x, _mm256_loadu_ps(s->k_zero + d), sum);
		x = _mm256_mul_ps(x, _mm256_loadu_ps(s->k_scale + d));
		_mm256_storeu_ps(out + d, x);
	}
	return v8_sum(sum);
}

/* Queries turned back by the angle of the page; the tables know it. */
static void q_turn(struct strip *s, const struct tile *t, uint32_t page)
{
	const struct kv_tables *tb = t->a->tables;
	uint32_t r;

	memset(s->q_const, 0, tile_rows(t) * 4);
	s->q = s->q_own;
	if (s->q_page == page)
		return;
	s->q_page = page;
	for (r = 0; r < tile_rows(t); r++) {
		float *q = s->q_own + r * t->q_stride;

		memcpy(q, t->q + r * t->q_stride, t->q_stride * 4);
		turn(q, tb->rope_page + (size_t)page * 2 * tb->rope_pairs, tb,
		     -1);
	}
}

/* Queries in the strip's own scale: times k_scale, and q_const of k_zero. */
static void q_init(struct strip *s, const struct tile *t, uint32_t page)
{
	uint32_t bits = form_field(s->k.form), dim = s->k.dim, r;

	s->q = t->q;
	if (t->a->layouts[0].rope_order == KVD_ROPE_PRE) {
		q_turn(s, t, page);
		return;
	}
	if (!bits && !s->k_channel) {
		memset(s->q_const, 0, tile_rows(t) * 4);
		return;
	}
	s->q = s->q_own;
	if (!s->k_channel && s->q_form == s->k.form)
		return;
	s->q_form = s->k_channel ? NR_FORMS : s->k.form;
	if (!s->k_channel)
		fill(s->k_scale, 1, dim);
	if (bits)
		field_scale(bits, s->k_scale, dim);
	for (r = 0; r < tile_rows(t); r++)
		s->q_const[r] = q_scale(s, t->q + r * t->q_stride,
					s->q_own + r * t->q_stride);
}

static void *page_at(const struct tile *t, uint32_t page,
		     const struct page_layout **ret)
{
	const struct kv_page_ref *ref = &t->a->pages[kv_seq_page(t->seq, page)];

	assert(ref->segment != KV_NO_SEGMENT);
	*ret = &t->a->layouts[ref->layout];
	return (char *)(uintptr_t)t->a->bases[ref->segment] + ref->offset;
}

/* K of the strip after this one, to be prefetched. */
static const char *strip_next(const struct strip *s, const struct tile *t,
			      const struct side *k, uint32_t page,
			      uint32_t base)
{
	uint32_t next = base + s->nr_tokens;
	const struct page_layout *l;
	char *p;

	if (next < k->tokens)
		return (const char *)k->codes + (size_t)next * k->row;
	if (page >= t->last / k->tokens)
		return s->k.page;
	p = page_at(t, page + 1, &l);
	return p + page_record(l, t->a->layer, t->kv_head);
}

void strip_init(struct strip *s, const struct tile *t, uint32_t page,
		uint32_t base)
{
	const struct page_layout *l;
	void *p = page_at(t, page, &l);
	struct side k = side_at(l, p, t->a->layer, t->kv_head, 0);
	struct side v = side_at(l, p, t->a->layer, t->kv_head, 1);
	int dense = l->rope_order == KVD_ROPE_PRE ||
		    format_coding(k.format) == CODING_KVQUANT;
	uint32_t n = dense ? STRIP_DENSE : STRIP;
	const char *from;

	s->pos = (uint64_t)page * l->page_tokens + base;
	s->nr_tokens = l->page_tokens < n ? l->page_tokens : n;
	from = codes_rows(&k, base, s->nr_tokens, s->k_rows);
	codes_init(&s->k, &k, from, s->nr_tokens, s->k_words);
	k_meta(s, &k, base, t->a->tables);
	if (l->v_dim) {
		from = codes_rows(&v, base, s->nr_tokens, s->v_rows);
		codes_init(&s->v, &v, from, s->nr_tokens, s->v_words);
		v_meta(s, &v, base, t->a->tables);
	} else {
		s->v = s->k;
		if (!dense)
			v_of_k(s, &k);
	}
	if (dense)
		dense_init(s, &k, t, base);
	if (dense && !l->v_dim) {
		s->v = s->k;
		v_of_k(s, &k);
	}
	s->k.ahead = s->k.page_row * OCTET / s->v.dim;
	s->v.ahead = s->v.page_row * OCTET / s->k.dim;
	q_init(s, t, page);
	s->next_k = strip_next(s, t, &k, page, base);
}
