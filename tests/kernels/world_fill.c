/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_fill.c - pages of random codes in any format. See world.h.
 */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "kernels/host/fp8.h"
#include "kernels/host/order.h"
#include "tests/kernels/random.h"
#include "tests/kernels/world_fill.h"

static float uniform(float lo, float hi)
{
	return lo + (hi - lo) * (random_u64() >> 40) / (1 << 24);
}

static uint16_t uniform16(float lo, float hi)
{
	return f16_from_f32(uniform(lo, hi));
}

static float *array(size_t n)
{
	float *p = calloc(n, sizeof(*p));

	assert(p);
	return p;
}

/* Two reflections, one after the other. */
static void rotation(float *r, uint32_t dim)
{
	float u[2][KVD_MAX_DIM];
	uint32_t i, j, n;

	for (i = 0; i < dim; i++)
		r[i * dim + i] = 1;
	for (n = 0; n < 2; n++) {
		double sum = 0;

		for (i = 0; i < dim; i++) {
			u[n][i] = random_normal();
			sum += u[n][i] * u[n][i];
		}
		for (i = 0; i < dim; i++) {
			double dot = 0;

			for (j = 0; j < dim; j++)
				dot += r[i * dim + j] * u[n][j];
			for (j = 0; j < dim; j++)
				r[i * dim + j] -= 2 * dot / sum * u[n][j];
		}
	}
}

static float *rotations(uint32_t dim)
{
	float *r = array((size_t)2 * dim * dim);

	rotation(r, dim);
	rotation(r + (size_t)dim * dim, dim);
	return r;
}

/* Ascending in each layer. */
static float *codebooks(void)
{
	float *p = array(2 * TABLES_CODES), x;
	uint32_t i;

	for (i = 0; i < 2 * TABLES_CODES; i++) {
		x = i % TABLES_CODES ? p[i - 1] : uniform(-2, -1);
		p[i] = x + uniform(0.05f, 0.4f);
	}
	return p;
}

/* Exact in f16. */
static float *uniforms(size_t n, float lo, float hi)
{
	float *p = array(n);

	while (n)
		p[--n] = f16_to_f32(uniform16(lo, hi));
	return p;
}

/* Angles of @n positions @step apart. */
static float *angles(uint32_t n, uint32_t step, uint32_t pairs)
{
	float *p = array((size_t)n * 2 * pairs);
	uint32_t i, j;

	for (i = 0; i < n; i++)
		for (j = 0; j < pairs; j++) {
			double a = (double)i * step *
				   pow(10000.0, -(double)j / pairs);

			p[(size_t)i * 2 * pairs + j] = cos(a);
			p[(size_t)i * 2 * pairs + pairs + j] = sin(a);
		}
	return p;
}

static void tables_fill(struct world *w)
{
	const struct shape *s = &w->s;
	uint32_t pairs = s->rope_pairs ? s->rope_pairs : s->k_dim / 2;
	size_t channels = (size_t)2 * s->nr_heads * s->k_dim;

	w->tables = (struct kv_tables){
		.nr_heads = s->nr_heads,
		.k_rotation = rotations(s->k_dim),
		.v_rotation = rotations(s->v_dim),
		.k_out = codebooks(),
		.v_out = codebooks(),
		.k_zero = uniforms(channels, -0.5f, 0.5f),
		.k_range = uniforms(channels, 0.2f, 1.2f),
		.rope_page = angles(w->nr_pages, s->page_tokens, pairs),
		.rope_token = angles(s->page_tokens, 1, pairs),
		.rope_pairs = pairs,
		.rope_interleaved = s->interleaved,
	};
}

void world_unfill(struct world *w)
{
	struct kv_tables *t = &w->tables;

	free((void *)(uintptr_t)t->k_rotation);
	free((void *)(uintptr_t)t->v_rotation);
	free((void *)(uintptr_t)t->k_out);
	free((void *)(uintptr_t)t->v_out);
	free((void *)(uintptr_t)t->k_zero);
	free((void *)(uintptr_t)t->k_range);
	free((void *)(uintptr_t)t->rope_page);
	free((void *)(uintptr_t)t->rope_token);
	*t = (struct kv_tables){ 0 };
}

static void code_fill(const struct side *s, uint32_t t, uint32_t d)
{
	struct codes place = side_place(s);
	uint32_t code;

	if (s->format == KVD_F16)
		code = f16_from_f32(random_normal());
	else if (s->format == KVD_BF16)
		code = bf16_from_f32(random_normal());
	else if (format_coding(s->format) == CODING_FP8)
		code = fp8_from_f32(s->format, 4 * random_normal());
	else
		code = random_below(1u << format_bits(s->format));
	codes_set(&place, s->codes, t, d, code);
}

/* Outliers in order of place, about as many as there may be. */
static void sparse_fill(const struct side *s)
{
	struct sparse_head *h = side_sparse(s);
	struct sparse_entry *e = (struct sparse_entry *)(h + 1);
	uint32_t max = sparse_max(s->tokens, s->dim), at;

	*h = (struct sparse_head){ 0 };
	for (at = random_below(200); at < s->tokens * s->dim && h->nr < max;
	     at += 1 + random_below(200))
		e[h->nr++] = (struct sparse_entry){
			.at = at,
			.value = f16_from_f32(3 * random_normal()),
		};
}

static void affine_fill(const struct side *s, uint32_t n)
{
	float step = 3.0f / ((1u << format_bits(s->format)) - 1);
	struct affine_meta *m = side_affine(s);

	if (format_coding(s->format) == CODING_KVQUANT)
		step = 1;
	while (n--)
		m[n] = (struct affine_meta){ uniform16(0.5f * step, step),
					     uniform16(-1.5f, -0.5f) };
}

static void channels_fill(const struct side *s)
{
	float step = 3.0f / ((1u << format_bits(s->format)) - 1);
	uint32_t d;

	for (d = 0; d < s->dim; d++) {
		side_scales(s)[d] = uniform16(0.3f * step, step);
		side_mins(s)[d] = uniform16(-1.5f, -0.5f);
	}
}

static void meta_fill(const struct side *s, uint32_t n)
{
	float scale = uniform(0.2f, 0.3f);
	uint32_t i;

	switch (format_coding(s->format)) {
	case CODING_FP8:
		memcpy(s->meta, &scale, sizeof(scale));
		break;
	case CODING_TOKEN:
		affine_fill(s, n);
		break;
	case CODING_KIVI:
		if (s->is_v)
			affine_fill(s, s->tokens * page_v_groups(s->dim,
								 s->v_group));
		else
			channels_fill(s);
		break;
	case CODING_KVQUANT:
		if (s->is_v)
			affine_fill(s, s->tokens);
		sparse_fill(s);
		break;
	case CODING_KVARN:
		if (s->is_v)
			affine_fill(s, s->tokens);
		else
			channels_fill(s);
		for (i = 0; i < (s->is_v ? s->dim : s->tokens); i++)
			side_factors(s)[i] = uniform16(0.5f, 1.5f);
		break;
	default:
		break;
	}
}

/* @n: tokens that the sequence has in this page. */
static void side_fill(const struct side *s, uint32_t n)
{
	uint32_t t, d;

	if (format_whole(s->format))
		n = s->tokens;
	for (t = 0; t < n; t++)
		for (d = 0; d < s->dim; d++)
			code_fill(s, t, d);
	meta_fill(s, n);
}

/* The sides of every page of every sequence, with their tokens before @n. */
static void sides(struct world *w, void (*f)(const struct side *s, uint32_t n),
		  uint32_t n)
{
	uint32_t pt = w->s.page_tokens, i, p, h, is_v;

	for (i = 0; i < w->s.nr_seqs; i++)
		for (p = 0; p * pt < w->s.len[i]; p++)
			for (h = 0; h < w->s.nr_heads; h++) {
				const struct kv_page_ref *r =
					&w->pages[w->seqs[i].first_page + p];
				const struct page_layout *l =
					&w->layouts[r->layout];
				uint32_t end = n < w->s.len[i] ? n :
								 w->s.len[i];

				end = end > p * pt ? end - p * pt : 0;
				end = end < pt ? end : pt;
				for (is_v = 0; is_v < (l->v_dim ? 2 : 1);
				     is_v++) {
					struct side s = side_at(
						l,
						w->segments[r->segment] +
							r->offset,
						WORLD_LAYER, h, is_v);

					f(&s, end);
				}
			}
}

void world_fill(struct world *w)
{
	world_unfill(w);
	tables_fill(w);
	sides(w, side_fill, UINT32_MAX);
}

static void side_poison(const struct side *s, uint32_t n)
{
	struct codes place = side_place(s);
	uint32_t t, d, ones = (1u << format_bits(s->format)) - 1;

	if (format_whole(s->format))
		return;
	for (t = n; t < s->tokens; t++)
		for (d = 0; d < s->dim; d++)
			codes_set(&place, s->codes, t, d, ones);
	if (format_coding(s->format) == CODING_TOKEN)
		memset(side_affine(s) + n, 0xff,
		       (s->tokens - n) * sizeof(struct affine_meta));
}

void world_poison(struct world *w, uint32_t from)
{
	sides(w, side_poison, from);
}
