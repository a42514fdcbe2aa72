/* SPDX-License-Identifier: Apache-2.0 */
/*
 * synth.c - made-up tables for formats that need a profile.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "tools/kvbench/synth.h"

/* 2^bits entries, evenly spread. */
static void codebook(float *lut, uint32_t bits)
{
	uint32_t n = 1u << bits, i;

	for (i = 0; i < TABLES_CODES; i++)
		lut[i] = i < n ? (2.0f * i + 1) / n - 1 : 0;
}

/* A reflection, I - 2 v v^T with v all 1/sqrt(n): orthonormal, and dense. */
static void rotation(float *r, uint32_t n)
{
	uint32_t i, j;

	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++)
			r[i * n + j] = (i == j) - 2.0f / n;
}

static void angles(float *row, uint32_t pairs, double pos)
{
	uint32_t i;

	for (i = 0; i < pairs; i++) {
		double a = pos * pow(10000, -(double)i / pairs);

		row[i] = (float)cos(a);
		row[pairs + i] = (float)sin(a);
	}
}

/* Takes @n floats of what is left. */
static float *take(float **left, size_t n)
{
	float *p = *left;

	*left += n;
	return p;
}

static void fill(struct synth *s, const struct page_layout *l, uint32_t pages)
{
	struct kv_tables *t = &s->tables;
	uint32_t dim = l->k_dim, pairs = dim / 2, i;
	float *left = s->mem, *k, *v, *lut, *zero, *range, *token, *page;

	lut = take(&left, TABLES_CODES);
	codebook(lut, format_bits(l->k_format) < 8 ? format_bits(l->k_format)
	                                           : 4);
	t->k_lut = t->k_out = lut;
	lut = take(&left, TABLES_CODES);
	codebook(lut, format_bits(l->v_format) < 8 ? format_bits(l->v_format)
	                                           : 4);
	t->v_lut = t->v_out = lut;
	zero = take(&left, (size_t)l->nr_heads * dim);
	range = take(&left, (size_t)l->nr_heads * dim);
	for (i = 0; i < l->nr_heads * dim; i++) {
		zero[i] = 0;
		range[i] = 1;
	}
	k = take(&left, (size_t)dim * dim);
	v = take(&left, (size_t)l->v_dim * l->v_dim);
	rotation(k, dim);
	rotation(v, l->v_dim);
	token = take(&left, (size_t)l->page_tokens * 2 * pairs);
	page = take(&left, (size_t)pages * 2 * pairs);
	for (i = 0; i < l->page_tokens; i++)
		angles(token + (size_t)i * 2 * pairs, pairs, i);
	for (i = 0; i < pages; i++)
		angles(page + (size_t)i * 2 * pairs, pairs,
		       (double)i * l->page_tokens);
	t->nr_heads = l->nr_heads;
	t->k_zero = zero;
	t->k_range = range;
	t->k_rotation = k;
	t->v_rotation = v;
	t->rope_token = token;
	t->rope_page = page;
	t->rope_pairs = pairs;
}

int synth_init(struct synth *s, const struct page_layout *l, uint32_t tokens)
{
	uint32_t pages = tokens / l->page_tokens + 1;
	size_t n = 2 * TABLES_CODES + 2 * (size_t)l->nr_heads * l->k_dim +
	           (size_t)l->k_dim * l->k_dim + (size_t)l->v_dim * l->v_dim +
	           (size_t)(l->page_tokens + pages) * l->k_dim;

	s->mem = malloc(n * sizeof(float));
	if (!s->mem)
		return -ENOMEM;
	fill(s, l, pages);
	return 0;
}

void synth_fini(struct synth *s)
{
	free(s->mem);
	*s = (struct synth){ .mem = NULL };
}
