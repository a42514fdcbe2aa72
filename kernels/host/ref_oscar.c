/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_oscar.c - how pages of oscar are sealed: the definition, in scalar C.
 *
 * OSCAR (arXiv 2605.17757): rows of the profile's rotation, in 2 bits, per
 * token and head. A few of the largest elements are clipped:
 *
 *	limit = sorted |x| [floor(ratio * dim)], ratio .96 of K, .92 of V
 *	x     = clip(x, -limit, limit), mn = min x, mx = max x
 *	s     = max(mx - mn, 1e-8) / 3
 *	code  = trunc((x - mn) / s + 0.5), clipped to 0..3
 *	value = code * f16(s) + f16(mn)
 *
 * A scale that f16 rounds to 0 gives codes of 0. A token with NaN, Inf or
 * more than 65504 has codes and scale 0 and min NaN. Stateless; any thread.
 */
#include <stdlib.h>
#include "kernels/host/tile.h"

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static float limit_of(const float *x, uint32_t dim, int is_v)
{
	float a[KVD_MAX_DIM];
	uint32_t d;

	for (d = 0; d < dim; d++)
		a[d] = fabsf(x[d]);
	qsort(a, dim, sizeof(*a), ascending);
	return a[dim * (is_v ? 92 : 96) / 100];
}

static float clip(float x, float limit)
{
	x = x < -limit ? -limit : x;
	return x > limit ? limit : x;
}

static int row_store(const struct side *s, uint32_t t, const float *x)
{
	struct affine_meta *m = side_affine(s) + t;
	uint8_t codes[KVD_MAX_DIM] = { 0 };
	float limit, mn, mx, scale;
	uint32_t d;

	*m = (struct affine_meta){ 0, F16_NAN };
	if (!tile_in_reach(x, s->dim)) {
		tile_pack(s, t, codes);
		return 1;
	}
	limit = mn = limit_of(x, s->dim, s->is_v);
	mx = -limit;
	for (d = 0; d < s->dim; d++) {
		float y = clip(x[d], limit);

		mn = y < mn ? y : mn;
		mx = y > mx ? y : mx;
	}
	mn += 0.0f; /* no -0 */
	scale = (mx - mn > 1e-8f ? mx - mn : 1e-8f) / 3.0f;
	*m = (struct affine_meta){ f16_from_f32(scale), f16_from_f32(mn) };
	for (d = 0; m->scale && d < s->dim; d++) {
		float q = (clip(x[d], limit) - mn) / scale + 0.5f;

		codes[d] = q < 3.0f ? (uint8_t)q : 3;
	}
	tile_pack(s, t, codes);
	return 0;
}

/**
 * ref_oscar_store() - seals K or V of one record in oscar
 *
 * Return: 1 when a token holds NaN or Inf or more than 65504: it reads as NaN.
 */
int ref_oscar_store(const struct side *s, const float *x,
		    const struct kv_tables *tables)
{
	uint32_t t;
	int bad = 0;

	for (t = 0; t < s->tokens; t++)
		bad |= row_store(s, t, x + (uint64_t)t * s->dim);
	return bad;
}
