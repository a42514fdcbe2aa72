/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvarn.h - a tile that is being balanced: what kvarn.inc.c works on.
 */
#ifndef KERNELS_HOST_KVARN_H
#define KERNELS_HOST_KVARN_H

#include "kernels/host/tile.h"

/* Per token or per channel. */
struct axis {
	uint32_t n;
	float factor[KVD_MAX_DIM]; /* the tile is divided by it */
	float inv[KVD_MAX_DIM];	   /* 1 / factor */
	float sd[KVD_MAX_DIM];	   /* standard deviation of the elements, of
				    * the tile divided by the other axis' */
};

struct tile {
	const float *x; /* [tokens][dim] */
	uint32_t tokens;
	uint32_t dim;
	struct axis token;
	struct axis channel;
};

/*
 * From the sums of n differences from one of the n samples, and of their
 * squares. That sample is within sqrt(n) deviations of the mean, so that
 * little is lost in the subtraction, and nothing where all are equal.
 */
static inline float sd_of(float sum, float squares, uint32_t n)
{
	float v = squares - sum * sum * (1.0f / (float)n);

	return v > 0.0f ? sqrtf(v * (1.0f / (float)(n - 1))) : 0.0f;
}

/*
 * Scale of a row of balanced elements, and its inverse: 0 where all codes
 * are to be 0, because f16 holds no scale so small.
 */
static inline float row_inverse(float scale)
{
	return scale > 0x1p-25f ? 1.0f / scale : 0.0f;
}

#endif
