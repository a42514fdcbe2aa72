/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tile.h - what sealing a side takes in any format: reach, rows of codes.
 *
 * Scalar; tile_avx2.h has the same in vectors. Pure; any thread.
 */
#ifndef KERNELS_HOST_TILE_H
#define KERNELS_HOST_TILE_H

#include <math.h>
#include <string.h>
#include "kernels/host/half.h"
#include "kernels/host/seal.h"

#define F16_MAX 65504.0f
#define F16_NAN 0x7e00u

/* Are all of @x finite, and no larger than f16 can say? */
static inline int tile_in_reach(const float *x, uint32_t n)
{
	int good = 1;
	uint32_t i;

	for (i = 0; i < n; i++)
		good &= fabsf(x[i]) <= F16_MAX; /* NaN is not */
	return good;
}

/* Packs the codes of token @t. */
static inline void tile_pack(const struct side *s, uint32_t t,
			     const uint8_t *codes)
{
	uint8_t *row = s->codes + (uint64_t)t * s->row;
	uint32_t d;

	memset(row, 0, s->row);
	for (d = 0; d < s->dim; d++)
		pack_set(format_bits(s->format), row, s->dim, d, codes[d]);
}

/* To the nearest integer, ties to even; |x| < 2^22. */
static inline float tile_round(float x)
{
	return x + 0x1.8p23f - 0x1.8p23f;
}

#endif
