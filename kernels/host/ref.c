/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref.c - how rows of f16, bf16 and int8 are stored: the definition, in
 * scalar C.
 *
 * f16, bf16: each element rounded to nearest even.
 *
 * int8: per token and head, asymmetric, LMDeploy TurboMind's convention. Every
 * intermediate is rounded to f16 (fp16() below); fp32 carries them exactly,
 * because rounding an fp32 sum, product or quotient of two f16 once more to
 * f16 equals rounding the exact result.
 *
 *	x     = fp16(input)
 *	mn    = min(x), mx = max(x), -0 taken as +0
 *	scale = fp16((mx - mn) * fp32(1 / 255))
 *	inv   = fp16(1 / scale), or fp32(1 / scale) where that overflows f16
 *	        (scale below 2^-16: the row spans less than 0.004)
 *	code  = min(rne(fp16(fp16(x - mn) * inv)), 255);  0 when scale is 0
 *	value = code * scale + mn in fp32
 *
 * A row with NaN or Inf after rounding is refused: codes 0, scale 0, min NaN,
 * so that whoever reads it sees NaN, and its sequence is flagged. A finite row
 * whose span overflows f16 is stored by the formula, saturated, and flagged.
 *
 * Stateless; any thread.
 */
#include <math.h>
#include "kernels/host/attend.h"
#include "kernels/host/half.h"
#include "kernels/host/row.h"

#define INT8_NAN_MIN 0x7e00u

static int f16_row_store(const struct row *r)
{
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i++) {
		codes[i] = f16_from_f32(dtype_load(r->dtype, r->src, i));
		bad |= (codes[i] & F16_EXP) == F16_EXP;
	}
	return bad;
}

static int bf16_row_store(const struct row *r)
{
	uint16_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i++) {
		codes[i] = bf16_from_f32(dtype_load(r->dtype, r->src, i));
		bad |= (codes[i] & BF16_EXP) == BF16_EXP;
	}
	return bad;
}

static float row_f16(const struct row *r, uint32_t i)
{
	return f16_round(dtype_load(r->dtype, r->src, i));
}

static uint8_t int8_code(float x, float mn, float inv)
{
	float t = f16_round(f16_round(x - mn) * inv);

	return t < 255.0f ? (uint8_t)nearbyintf(t) : 255;
}

static int int8_row_store(const struct row *r)
{
	float mn = INFINITY, mx = -INFINITY, scale, inv = 0.0f;
	uint8_t *codes = r->codes;
	uint32_t i;

	for (i = 0; i < r->dim; i++) {
		float x = row_f16(r, i);

		if (!isfinite(x)) {
			memset(codes, 0, r->dim);
			*r->meta = (struct affine_meta){ 0, INT8_NAN_MIN };
			return 1;
		}
		mn = x < mn ? x : mn;
		mx = x > mx ? x : mx;
	}
	mn += 0.0f;
	mx += 0.0f;
	scale = f16_round((mx - mn) * (1.0f / 255.0f));
	if (scale > 0.0f)
		inv = 1.0f / scale;
	if (isfinite(f16_round(inv)))
		inv = f16_round(inv);
	for (i = 0; i < r->dim; i++)
		codes[i] = int8_code(row_f16(r, i), mn, inv);
	r->meta->scale = f16_from_f32(scale);
	r->meta->min = f16_from_f32(mn);
	return !isfinite(f16_round(mx - mn));
}

/**
 * ref_row_store() - stores one row as the formats are defined
 *
 * Return: 1 when the row holds what the format cannot, else 0.
 */
int ref_row_store(const struct row *r)
{
	switch (r->format) {
	case KVD_F16:
		return f16_row_store(r);
	case KVD_BF16:
		return bf16_row_store(r);
	default:
		return int8_row_store(r);
	}
}

static void ref_append(const struct kv_append_args *a)
{
	append_rows(a, ref_row_store);
}

const struct host_kernels host_kernels_ref = {
	.name = "ref",
	.append = ref_append,
	.attend = ref_attend,
	.dequant = ref_dequant,
};
