/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.h - what the launcher and the kernel that stores pages once more
 * agree on.
 *
 * Blocks are (layer x head, page, K or V). kv_convert() has the arrays of
 * convert_floats() and the values of its side in shared memory: 16-bit ones as
 * they are, others as floats. Sides that the launch gave too little memory for
 * are left to kv_convert_far(), which reads values from the page each time.
 */
#ifndef KERNELS_CUDA_CONVERT_H
#define KERNELS_CUDA_CONVERT_H

#include "kernels/kernels.h"

#define CONVERT_THREADS 256u
#define CONVERT_BLOCKS 3u	/* on a multiprocessor: 80 registers */
#define CONVERT_FAR_BLOCKS 2u
#define CONVERT_PAGES 65535u	/* blocks of pages; a block takes more */
#define CONVERT_BINS 256u	/* of a histogram */
#define CONVERT_SCRATCH 64u	/* words */
#define CONVERT_SOURCE 32u	/* words: which side values are of */
#define CONVERT_STEPS 96u	/* words: a table of steps, words.cuh */
#define CONVERT_PAD 8u		/* elements from row to row, for the banks */

struct convert_params {
	struct kv_convert_args args;
	uint32_t shared_bytes;
};

/* Three arrays for each axis of a side, one for either, and what is above. */
KV_INLINE uint32_t convert_floats(uint32_t tokens, uint32_t dim)
{
	return 3 * (tokens + dim) + (tokens > dim ? tokens : dim) +
	       CONVERT_BINS + CONVERT_SCRATCH + CONVERT_SOURCE + CONVERT_STEPS;
}

/* All of a side; @from_16: of a page in 16 bits. */
KV_INLINE uint32_t convert_shared_bytes(uint32_t tokens, uint32_t dim,
					int from_16)
{
	return convert_floats(tokens, dim) * 4 +
	       tokens * (dim + CONVERT_PAD) * (from_16 ? 2 : 4);
}

KV_INLINE int convert_fits(uint32_t tokens, uint32_t dim, int from_16,
			   uint32_t shared_bytes)
{
	return convert_shared_bytes(tokens, dim, from_16) <= shared_bytes;
}

#endif
