/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdeploy.c - see lmdeploy.h. Element by element: this is not a hot path.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "kernels/host/half.h"
#include "kernels/host/lmdeploy.h"
#include "kernels/host/order.h"

uint32_t lmdeploy_row_bytes(uint32_t format, uint32_t dim)
{
	return dim * format_bits(format) / 8;
}

/* Where the nibble of channel @d is: TurboMind's word, or PyTorch's half. */
static struct pack_place nibble_at(enum lmdeploy_engine e, uint32_t dim,
				   uint32_t d)
{
	uint32_t i = d % 8, nibble = i / 2 + i % 2 * 4;
	struct pack_place p;

	if (e == LMDEPLOY_TURBOMIND) {
		p.byte = d / 8 * 4 + nibble / 2;
		p.shift = nibble % 2 * 4;
	} else {
		p.byte = d % (dim / 2);
		p.shift = d / (dim / 2) * 4;
	}
	return p;
}

static uint32_t code_get(const struct side *s, const struct lmdeploy_rows *r,
			 uint32_t t, uint32_t d)
{
	const uint8_t *row = r->codes + t * r->code_stride;
	struct pack_place p;

	if (s->format == KVD_INT8)
		return row[d];
	p = nibble_at(r->engine, s->dim, d);
	return row[p.byte] >> p.shift & 15;
}

/* @codes of 4 bits are 0 before. */
static void code_set(const struct side *s, const struct lmdeploy_rows *r,
		     uint32_t t, uint32_t d, uint32_t code)
{
	uint8_t *row = r->codes + t * r->code_stride;
	struct pack_place p;

	if (s->format == KVD_INT8) {
		row[d] = (uint8_t)code;
		return;
	}
	p = nibble_at(r->engine, s->dim, d);
	row[p.byte] |= (uint8_t)(code << p.shift);
}

static int has_counterpart(const struct side *s, const struct lmdeploy_rows *r)
{
	if (s->basis != BASIS_PLAIN ||
	    (s->format != KVD_INT8 && s->format != KVD_INT4))
		return 0;
	return r->engine == LMDEPLOY_TURBOMIND ? r->dtype == KVD_DTYPE_F16 :
						 r->dtype < KVD_NR_DTYPES;
}

/* Return: whether it fits. */
static int meta_export(const struct side *s, uint32_t t,
		       const struct lmdeploy_rows *r)
{
	struct affine_meta m = side_affine(s)[t];
	float scale = f16_to_f32(m.scale), min = f16_to_f32(m.min), zero;
	uint64_t at = t * r->meta_stride;

	if (r->engine == LMDEPLOY_TURBOMIND) {
		memcpy((uint16_t *)r->meta + at, &m, sizeof(m));
		return 1;
	}
	if (scale == 0.0f)
		scale = 1.0f;
	zero = -min / scale;
	dtype_store(r->dtype, r->meta, at, scale);
	dtype_store(r->dtype, r->meta, at + 1, zero);
	return !isinf(dtype_load(r->dtype, r->meta, at + 1));
}

int lmdeploy_export(const struct side *s, uint32_t nr_tokens,
		    const struct lmdeploy_rows *r)
{
	struct codes place = side_place(s);
	uint32_t t, d;
	int err = 0;

	if (!has_counterpart(s, r))
		return -EINVAL;
	for (t = 0; t < nr_tokens; t++) {
		memset(r->codes + t * r->code_stride, 0,
		       lmdeploy_row_bytes(s->format, s->dim));
		for (d = 0; d < s->dim; d++)
			code_set(s, r, t, d,
				 codes_get(&place, s->codes, t, d));
		if (!meta_export(s, t, r))
			err = -ERANGE;
	}
	return err;
}

/* Return: whether it fits. */
static int meta_import(const struct side *s, uint32_t t,
		       const struct lmdeploy_rows *r)
{
	float scale = dtype_load(r->dtype, r->meta, t * r->meta_stride);
	float min = dtype_load(r->dtype, r->meta, t * r->meta_stride + 1);
	struct affine_meta *m = side_affine(s) + t;

	if (r->engine == LMDEPLOY_PYTORCH)
		min = -min * scale;
	m->scale = f16_from_f32(scale);
	m->min = f16_from_f32(min + 0.0f);
	if ((m->scale & F16_EXP) != F16_EXP && (m->min & F16_EXP) != F16_EXP)
		return 1;
	*m = (struct affine_meta){ 0, AFFINE_NAN };
	return 0;
}

int lmdeploy_import(const struct side *s, uint32_t nr_tokens,
		    const struct lmdeploy_rows *r)
{
	struct codes place = side_place(s);
	uint32_t t, d;
	int err = 0;

	if (!has_counterpart(s, r))
		return -EINVAL;
	if (s->order == KVD_TILE_ROW)
		memset(s->codes, 0, (size_t)nr_tokens * s->row);
	for (t = 0; t < nr_tokens; t++) {
		for (d = 0; d < s->dim; d++)
			codes_set(&place, s->codes, t, d, code_get(s, r, t, d));
		if (!meta_import(s, t, r))
			err = -ERANGE;
	}
	return err;
}
