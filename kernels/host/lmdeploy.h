/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdeploy.h - int8 and int4 records as LMDeploy's two engines keep them.
 *
 * All are affine per token and head, with unsigned codes:
 *
 *	ours, TurboMind		x = code * scale + min
 *	PyTorch engine		x = (code - zero) * scale, zero = -min / scale
 *
 *			codes of a token			a token's meta
 *	TurboMind 8	a byte each, in order			scale, min: f16
 *	TurboMind 4	u32 per 8 channels: from the low nibble
 *			on, channels 0 2 4 6 1 3 5 7		scale, min: f16
 *	PyTorch 8	a byte each, in order			scale, zero
 *	PyTorch 4	byte d: channel d low, d + dim / 2 high	scale, zero
 *
 * The PyTorch engine keeps scale and zero in the model's dtype. Codes go from
 * one to another unchanged; so do TurboMind's scale and min. Only rows without
 * a transform have a meaning to LMDeploy. Definitions: LMDeploy's
 * fill_kv_cache.py and attention/quantization.h (Apache-2.0). Stateless; any
 * thread.
 */
#ifndef KERNELS_HOST_LMDEPLOY_H
#define KERNELS_HOST_LMDEPLOY_H

#include "kernels/host/side.h"

enum lmdeploy_engine {
	LMDEPLOY_TURBOMIND,
	LMDEPLOY_PYTORCH,
};

/* Tokens of one head's K or V in LMDeploy's memory. */
struct lmdeploy_rows {
	enum lmdeploy_engine engine;
	uint32_t dtype;		/* of meta; F16 where engine is TurboMind */
	uint8_t *codes;
	void *meta;		/* pairs of scale, and min or zero */
	uint64_t code_stride;	/* bytes from token to token */
	uint64_t meta_stride;	/* elements of dtype from token to token */
};

/* Bytes of codes of one token. */
uint32_t lmdeploy_row_bytes(uint32_t format, uint32_t dim);

/**
 * lmdeploy_export() - writes the first @nr_tokens of @s to @rows
 *
 * A row of scale 0 has no zero: the PyTorch engine gets scale 1 and zero -min.
 *
 * Return: 0, or -EINVAL where format, basis or dtype have no counterpart, or
 * -ERANGE where a zero is too large for dtype: it is then Inf.
 */
int lmdeploy_export(const struct side *s, uint32_t nr_tokens,
		    const struct lmdeploy_rows *rows);

/**
 * lmdeploy_import() - writes @nr_tokens of @rows to @s; min = -zero * scale
 *
 * Return: 0, or -EINVAL as lmdeploy_export(), or -ERANGE where a scale or min
 * is not finite in f16: the row then reads as NaN.
 */
int lmdeploy_import(const struct side *s, uint32_t nr_tokens,
		    const struct lmdeploy_rows *rows);

#endif
