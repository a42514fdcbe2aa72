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

/* A codebook for each layer. */
static const float *codebooks(float **left, const struct page_layout *l,
                              uint32_t format)
{
	uint32_t bits = format_bits(format) < 8 ? format_bits(format) : 4, i;
	float *lut = take(left, (size_t)l->nr_layers * TABLES_CODES);

	for (i = 0; i < l->nr_layers; i++)
		codebook(lut + i * TABLES_CODES, bits);
	return lut;
}

static const float *rotations(float **left, const struct page_layout *l,
                              uint32_t dim)
{
	size_t one = (size_t)dim * dim;
	float *r = take(left, l->nr_layers * one);
	uint32_t i;

	for (i = 0; i < l->nr_layers; i++)
		rotation(r + i * one, dim);
	return r;
}

/* @nr rows of angles, of positions @step apart. */
static const float *rope(float **left, uint32_t nr, uint32_t pairs,
                         uint32_t step)
{
	float *rows = take(left, (size_t)nr * 2 * pairs);
	uint32_t i;

	for (i = 0; i < nr; i++)
		angles(rows + (size_t)i * 2 * pairs, pairs, (double)i * step);
	return rows;
}

static size_t channels(const struct page_layout *l)
{
	return (size_t)l->nr_layers * l->nr_heads * l->k_dim;
}

static void fill(struct synth *s, const struct page_layout *l, uint32_t pages)
{
	struct kv_tables *t = &s->tables;
	float *left = s->mem, *zero, *range;
	size_t i;

	t->k_lut = t->k_out = codebooks(&left, l, l->k_format);
	t->v_lut = t->v_out = codebooks(&left, l, l->v_format);
	zero = take(&left, channels(l));
	range = take(&left, channels(l));
	for (i = 0; i < channels(l); i++) {
		zero[i] = 0;
		range[i] = 1;
	}
	t->nr_heads = l->nr_heads;
	t->k_zero = zero;
	t->k_range = range;
	t->k_rotation = rotations(&left, l, l->k_dim);
	t->v_rotation = rotations(&left, l, l->v_dim);
	t->rope_pairs = l->k_dim / 2;
	t->rope_token = rope(&left, l->page_tokens, t->rope_pairs, 1);
	t->rope_page = rope(&left, pages, t->rope_pairs, l->page_tokens);
}

int synth_init(struct synth *s, const struct page_layout *l, uint32_t tokens)
{
	uint32_t pages = tokens / l->page_tokens + 1;
	size_t layer = 2 * TABLES_CODES + (size_t)l->k_dim * l->k_dim +
	               (size_t)l->v_dim * l->v_dim;

	s->nr_floats = l->nr_layers * layer + 2 * channels(l) +
	               (size_t)(l->page_tokens + pages) * l->k_dim;
	s->mem = malloc(s->nr_floats * sizeof(float));
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
