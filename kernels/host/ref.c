/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref.c - how rows of the formats appended in place are stored: the
 * definition, in scalar C. What codes stand for is in ref_dequant.c.
 *
 * A row is first brought to its basis (basis.h), in f32.
 *
 * f16, bf16: each element rounded to nearest even.
 *
 * fp8: code = fp8(x / scale), one f32 quotient rounded to nearest even; what
 * is too large becomes the largest. Only NaN and Inf are flagged.
 *
 * int8, int4, int4h: per token and head, asymmetric, LMDeploy TurboMind's
 * convention; Q is 255 or 15. Every intermediate is rounded to f16 (fp16()
 * below); fp32 carries them exactly, because rounding an fp32 sum, product or
 * quotient of two f16 once more to f16 equals rounding the exact result.
 *
 *	x     = fp16(input)
 *	mn    = min(x), mx = max(x), -0 taken as +0
 *	scale = fp16((mx - mn) * fp32(1 / Q))
 *	inv   = fp16(1 / scale), or fp32(1 / scale) where that overflows f16
 *	        (scale below 2^-16: with int8 the row spans less than 0.004)
 *	code  = min(rne(fp16(fp16(x - mn) * inv)), Q);  0 when scale is 0
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
#include "kernels/host/basis.h"
#include "kernels/host/convert.h"
#include "kernels/host/fp8.h"
#include "kernels/host/row.h"

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

static int fp8_row_store(const struct row *r)
{
	uint8_t *codes = r->codes;
	int bad = 0;
	uint32_t i;

	for (i = 0; i < r->dim; i++) {
		float x = dtype_load(r->dtype, r->src, i);

		codes[i] = fp8_from_f32(r->format, x / r->scale);
		bad |= !isfinite(x);
	}
	return bad;
}

/* Of an element of a row whose minimum is @mn. */
static uint32_t affine_code(float x, float mn, float inv, float q)
{
	float t = f16_round(f16_round(x - mn) * inv);

	return t < q ? (uint32_t)nearbyintf(t) : (uint32_t)q;
}

/* Minimum and maximum of a row of f16. Return: whether all is finite. */
static int row_range(const struct row *r, float *ret_min, float *ret_max)
{
	float mn = INFINITY, mx = -INFINITY;
	uint32_t i;

	for (i = 0; i < r->dim; i++) {
		float x = row_f16(r, i);

		if (!isfinite(x))
			return 0;
		mn = x < mn ? x : mn;
		mx = x > mx ? x : mx;
	}
	*ret_min = mn + 0.0f;
	*ret_max = mx + 0.0f;
	return 1;
}

static int affine_row_store(const struct row *r)
{
	uint32_t bits = format_bits(r->format), i;
	float mn, mx, scale, inv = 0.0f, q = (float)((1u << bits) - 1);

	memset(r->codes, 0, pack_row_bytes(bits, r->dim));
	*r->meta = (struct affine_meta){ 0, AFFINE_NAN };
	if (!row_range(r, &mn, &mx))
		return 1;
	scale = f16_round((mx - mn) * (1.0f / q));
	if (scale > 0.0f)
		inv = 1.0f / scale;
	if (isfinite(f16_round(inv)))
		inv = f16_round(inv);
	for (i = 0; i < r->dim; i++)
		pack_set(bits, r->codes, r->dim, i,
		         affine_code(row_f16(r, i), mn, inv, q));
	r->meta->scale = f16_from_f32(scale);
	r->meta->min = f16_from_f32(mn);
	return !isfinite(f16_round(mx - mn));
}

static int coded_row_store(const struct row *r)
{
	switch (format_coding(r->format)) {
	case CODING_16:
		return r->format == KVD_F16 ? f16_row_store(r) :
		                              bf16_row_store(r);
	case CODING_FP8:
		return fp8_row_store(r);
	default:
		return affine_row_store(r);
	}
}

/**
 * ref_row_store() - stores one row as the formats are defined
 *
 * Return: 1 when the row holds what the format cannot, else 0.
 */
int ref_row_store(const struct row *r)
{
	float x[KVD_MAX_DIM], y[KVD_MAX_DIM];
	struct row turned = *r;
	uint32_t i;

	if (r->basis == BASIS_PLAIN)
		return coded_row_store(r);
	for (i = 0; i < r->dim; i++)
		x[i] = dtype_load(r->dtype, r->src, i);
	basis_apply(r->basis, r->dim, r->rotation, x, y);
	turned.dtype = KVD_DTYPE_F32;
	turned.src = y;
	return coded_row_store(&turned);
}

static void ref_append(const struct kv_append_args *a)
{
	append_rows(a, ref_row_store);
}

static const struct convert_ops ref_ops = {
	.load = ref_side_load,
	.row = ref_row_store,
	.kivi = ref_kivi_store,
	.kvquant = ref_kvquant_store,
	.kvarn = ref_kvarn_store,
	.oscar = ref_oscar_store,
};

static void ref_convert(const struct kv_convert_args *a)
{
	convert_pages(a, &ref_ops);
}

const struct host_kernels host_kernels_ref = {
	.name = "ref",
	.append = ref_append,
	.convert = ref_convert,
	.attend = ref_attend,
	.dequant = ref_dequant,
};
