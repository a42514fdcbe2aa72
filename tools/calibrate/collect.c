/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collect.c - gathers what calibration needs while a model runs.
 *
 * Which tokens are kept depends on how many came before alone: the same call
 * sequence gives the same samples.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "kernels/host/half.h"
#include "tools/calibrate/collect.h"

static int layer_init(const struct calibration *c, struct layer_stats *l)
{
	size_t dim = c->shape.head_dim, heads = c->shape.nr_kv_heads;
	size_t n = c->room * kv_width(c);

	l->k_before = calloc(n, sizeof(uint16_t));
	l->k_after = calloc(n, sizeof(uint16_t));
	l->v = calloc(n, sizeof(uint16_t));
	l->gram = calloc(heads * dim * dim, sizeof(double));
	l->k_amax = calloc(heads, sizeof(float));
	l->v_amax = calloc(heads, sizeof(float));
	return l->k_before && l->k_after && l->v && l->gram && l->k_amax &&
		       l->v_amax ? 0 : -ENOMEM;
}

static int check_shape(const struct calibration_shape *s)
{
	struct profile_shape p = { s->nr_layers, s->nr_kv_heads, s->head_dim,
				   s->head_dim };

	if (!profile_shape_ok(&p) || s->nr_heads % s->nr_kv_heads ||
	    !s->nr_heads)
		return -EINVAL;
	return 0;
}

int calibration_new(const struct calibration_shape *shape, uint64_t nr_tokens,
		    struct calibration **ret)
{
	struct calibration *c;
	int err = check_shape(shape);

	if (err)
		return err;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->shape = *shape;
	c->stride = nr_tokens / CALIBRATE_MAX_TOKENS + 1;
	c->room = (size_t)(nr_tokens / c->stride) + 1;
	c->layers = calloc(shape->nr_layers, sizeof(*c->layers));
	err = c->layers ? 0 : -ENOMEM;
	for (uint32_t i = 0; !err && i < shape->nr_layers; i++)
		err = layer_init(c, &c->layers[i]);
	if (err) {
		calibration_free(c);
		return err;
	}
	*ret = c;
	return 0;
}

void calibration_free(struct calibration *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; c->layers && i < c->shape.nr_layers; i++) {
		struct layer_stats *l = &c->layers[i];

		free(l->k_before);
		free(l->k_after);
		free(l->v);
		free(l->gram);
		free(l->k_amax);
		free(l->v_amax);
	}
	free(c->layers);
	free(c);
}

static void take_amax(const struct calibration *c, const float *x, float *amax)
{
	for (uint32_t h = 0; h < c->shape.nr_kv_heads; h++)
		for (uint32_t i = 0; i < c->shape.head_dim; i++, x++)
			amax[h] = fmaxf(amax[h], fabsf(*x));
}

/* The upper half alone, which is what a symmetric solver reads. */
static void add_gram(const struct calibration *c, struct layer_stats *l,
		     const float *q)
{
	uint32_t share = c->shape.nr_heads / c->shape.nr_kv_heads;
	size_t dim = c->shape.head_dim;

	for (uint32_t h = 0; h < c->shape.nr_heads; h++, q += dim) {
		double *gram = l->gram + h / share * dim * dim;

		for (size_t i = 0; i < dim; i++)
			for (size_t j = i; j < dim; j++)
				gram[i * dim + j] += (double)q[i] * q[j];
	}
	l->queries += share;
}

static void keep(const struct calibration *c, uint16_t *to, const float *x)
{
	for (size_t i = 0; i < kv_width(c); i++)
		to[i] = f16_from_f32(x[i]);
}

/* Is the @seen-th token of a layer, at @position, kept when @kept are? */
static bool is_kept(const struct calibration *c, uint64_t seen,
		    size_t position, size_t kept)
{
	return position && seen % c->stride == 0 && kept < c->room;
}

static void see_before(struct calibration *c, struct layer_stats *l,
		       size_t position, const float *k)
{
	take_amax(c, k, l->k_amax);
	if (is_kept(c, l->seen_before, position, l->kept_before))
		keep(c, l->k_before + l->kept_before++ * kv_width(c), k);
	l->seen_before++;
}

static void see_after(struct calibration *c, struct layer_stats *l,
		      size_t position, const float *q, const float *k)
{
	const float *v = k + kv_width(c);

	take_amax(c, k, l->k_amax);
	take_amax(c, v, l->v_amax);
	if (position)
		add_gram(c, l, q);
	if (is_kept(c, l->seen, position, l->kept)) {
		keep(c, l->k_after + l->kept * kv_width(c), k);
		keep(c, l->v + l->kept * kv_width(c), v);
		l->kept++;
	}
	l->seen++;
}

void calibration_add(struct calibration *c,
		     const struct calibration_rows *rows)
{
	size_t q_width = (size_t)c->shape.nr_heads * c->shape.head_dim;
	struct layer_stats *l = &c->layers[rows->layer];
	const float *q = rows->qkv;

	for (size_t i = 0; i < rows->nr; i++, q += q_width + 2 * kv_width(c)) {
		if (rows->rotated)
			see_after(c, l, rows->first + i, q, q + q_width);
		else
			see_before(c, l, rows->first + i, q + q_width);
	}
}
