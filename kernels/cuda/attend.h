/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.h - what the launcher and the kernels of attention agree on.
 */
#ifndef KERNELS_CUDA_ATTEND_H
#define KERNELS_CUDA_ATTEND_H

#include "kernels/kernels.h"

#define ATTEND_THREADS 64u
#define ATTEND_BLOCKS 6u	/* on a multiprocessor, at least: 168 registers */
#define ATTEND_TILE 64u		/* tokens of scores */
#define ATTEND_HEADS 4u		/* query heads of a block, at most */
#define ATTEND_PARTS 16u	/* of a head's scores: for maxima and sums */
#define ATTEND_SPLIT 512u	/* tokens: a multiple of ATTEND_TILE */

/*
 * Blocks are (row, kv head x chunk of its query heads, split). With nr_splits
 * 0 a block goes through the splits of its row one after the other; else split
 * blockIdx.z of each (row, query head) is left at partial[] for kv_merge():
 * max, sum, and v_dim accumulators.
 */
struct attend_params {
	struct kv_attend_args args;
	float *partial;		/* [row][q head][split][2 + v_dim] */
	uint32_t nr_splits;
	uint32_t nr_heads;	/* query heads of a block */
	uint32_t chunk;		/* tokens decoded at a time: a power of two */
};

#define DEQUANT_THREADS 256u

struct dequant_params {
	struct page_layout layout;
	const void *page;
	const struct kv_tables *tables;
	float *out;		/* [nr_tokens][dim] */
	uint32_t layer;
	uint32_t head;
	uint32_t is_v;
	uint32_t nr_tokens;
};

/* From row to row of a chunk: no two of eight rows share banks. */
KV_INLINE uint32_t attend_stride(const struct page_layout *l)
{
	uint32_t v = page_value_dim(l);

	return (l->k_dim > v ? l->k_dim : v) + 4;
}

/*
 * Floats of a block: six numbers, parts and scores of every head; queries and
 * two sets of accumulators; a chunk of keys or values and one row more.
 */
KV_INLINE uint32_t attend_shared_floats(const struct page_layout *l,
					uint32_t nr_heads, uint32_t chunk)
{
	return ATTEND_HEADS * (6 + ATTEND_PARTS + ATTEND_TILE) +
	       nr_heads * (l->k_dim + 2 * page_value_dim(l)) +
	       (chunk + 1) * attend_stride(l);
}

#endif
