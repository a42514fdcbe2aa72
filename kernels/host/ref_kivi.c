/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_kivi.c - how pages of kivi are sealed: the definition, in scalar C.
 *
 * KIVI's arithmetic (arXiv 2402.02750): a run is coded between its minimum
 * and maximum. K's runs are a channel over all tokens of the page; V's are
 * v_group channels of a token, the last run of which may be shorter. fp16()
 * is rounding to f16 (ref.c says why fp32 carries it); Q is 15 or 3:
 *
 *	x     = fp16(input)
 *	mn    = min(x), mx = max(x), -0 taken as +0
 *	scale = fp16(fp16(mx - mn) / Q)
 *	code  = rne(min(fp16(fp16(x - mn) / scale), Q));  0 when scale is 0
 *	value = code * scale + mn in fp32
 *
 * A run with NaN or Inf is refused: codes 0, scale 0, min NaN. Where a finite
 * run's mx - mn overflows f16, scale is fp16((mx - mn) / Q), and what is more
 * than f16's largest above mn gets code Q. Both are flagged.
 *
 * Stateless; any thread.
 */
#include <math.h>
#include "kernels/host/half.h"
#include "kernels/host/seal.h"

/* Elements of a side that share a scale: n of them, stride apart. */
struct run {
	const struct side *s;
	const float *x; /* values of the whole side */
	uint32_t t, d;	/* of the first */
	uint32_t n;
	uint32_t down;	/* 1: next token; 0: next channel */
};

static float run_value(const struct run *r, uint32_t i)
{
	uint32_t t = r->t + (r->down ? i : 0), d = r->d + (r->down ? 0 : i);

	return f16_round(r->x[(size_t)t * r->s->dim + d]);
}

static void run_code(const struct run *r, uint32_t i, uint32_t code)
{
	uint32_t t = r->t + (r->down ? i : 0), d = r->d + (r->down ? 0 : i);

	pack_set(format_bits(r->s->format), r->s->codes + t * r->s->row,
		 r->s->dim, d, code);
}

/* Return: whether the run is finite. */
static int run_range(const struct run *r, float *ret_min, float *ret_max)
{
	float mn = INFINITY, mx = -INFINITY;
	uint32_t i;

	for (i = 0; i < r->n; i++) {
		float x = run_value(r, i);

		if (!isfinite(x))
			return 0;
		mn = x < mn ? x : mn;
		mx = x > mx ? x : mx;
	}
	*ret_min = mn + 0.0f;
	*ret_max = mx + 0.0f;
	return 1;
}

/* Codes of a run, left 0 where it is refused. Return: whether it is flagged. */
static int run_store(const struct run *r, struct affine_meta *ret)
{
	float q = (float)((1u << format_bits(r->s->format)) - 1);
	float mn, mx, range, scale;
	uint32_t i;

	*ret = (struct affine_meta){ 0, AFFINE_NAN };
	if (!run_range(r, &mn, &mx))
		return 1;
	range = f16_round(mx - mn);
	scale = f16_round((isfinite(range) ? range : mx - mn) / q);
	for (i = 0; i < r->n && scale > 0.0f; i++) {
		float c = f16_round(f16_round(run_value(r, i) - mn) / scale);

		run_code(r, i, (uint32_t)nearbyintf(c < q ? c : q));
	}
	ret->scale = f16_from_f32(scale);
	ret->min = f16_from_f32(mn);
	return !isfinite(range);
}

static int k_store(const struct side *s, const float *x)
{
	struct run r = { .s = s, .x = x, .n = s->tokens, .down = 1 };
	struct affine_meta m;
	int bad = 0;

	for (r.d = 0; r.d < s->dim; r.d++) {
		bad |= run_store(&r, &m);
		side_scales(s)[r.d] = m.scale;
		side_mins(s)[r.d] = m.min;
	}
	return bad;
}

static int v_store(const struct side *s, const float *x)
{
	struct run r = { .s = s, .x = x };
	uint32_t g;
	int bad = 0;

	for (r.t = 0; r.t < s->tokens; r.t++)
		for (g = 0; g < page_v_groups(s->dim, s->v_group); g++) {
			r.d = g * s->v_group;
			r.n = s->dim - r.d;
			r.n = r.n < s->v_group ? r.n : s->v_group;
			bad |= run_store(&r,
					 side_affine(s) + g * s->tokens + r.t);
		}
	return bad;
}

/**
 * ref_kivi_store() - codes one side
 * @x:		[tokens][dim]
 * @tables:	not used
 *
 * Return: 1 where a run is flagged, else 0.
 */
int ref_kivi_store(const struct side *s, const float *x,
		   const struct kv_tables *tables)
{
	memset(s->codes, 0, (size_t)s->tokens * s->row);
	return s->is_v ? v_store(s, x) : k_store(s, x);
}
