/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.h - what the launcher and the kernels of attention agree on.
 */
#ifndef KERNELS_CUDA_ATTEND_H
#define KERNELS_CUDA_ATTEND_H

#include "kernels/kernels.h"

#define ATTEND_THREADS 64u
#define ATTEND_BLOCKS 8u	/* on a multiprocessor, at least: 128 registers */
#define ATTEND_TILE 64u		/* tokens: one a thread */
#define ATTEND_HEADS 4u		/* query heads of a block, at most */
#define ATTEND_PARTS (ATTEND_THREADS / ATTEND_HEADS)
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

/* Floats of a block: q, scores, maxima, sums, two sets of accumulators. */
KV_INLINE uint32_t attend_shared_floats(const struct page_layout *l,
					uint32_t nr_heads)
{
	return nr_heads * (l->k_dim + ATTEND_TILE + 2 * ATTEND_PARTS +
			   2 * page_value_dim(l));
}

#endif
