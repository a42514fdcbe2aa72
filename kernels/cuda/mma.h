/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma.h - what the launcher and the tensor-core kernels of attention agree on.
 *
 * The columns of a sequence are its rows times the query heads of one kv head:
 * column c is row c / group, head c % group. Tiles are 8 or 16 columns. Tokens
 * are gathered in a fixed way, whoever does it: a warp has a run, four warps
 * with a run each have a quad, and quads are added up from first to last. Runs
 * and quads lie at multiples of their size. So what a row gives depends on its
 * position and its pages alone, bit for bit, and any block may do any part.
 *
 * An item of work is one tile, one kv head, and one quad or all of them.
 *
 * Neighbours in the batch that decode one token each and begin with the same
 * pages are a bundle: the quads that all of them have are done once, for tiles
 * of columns of all of them.
 */
#ifndef KERNELS_CUDA_MMA_H
#define KERNELS_CUDA_MMA_H

#include "kernels/kernels.h"

#define MMA_WARPS 4u
#define MMA_THREADS (32u * MMA_WARPS)
#define MMA_BLOCKS 2u		/* on a multiprocessor, at least */
#define MMA_COLUMNS 8u		/* of one product */
#define MMA_MAX_COLUMNS 16u
#define MMA_RUN 128u		/* tokens: a multiple of any page's */
#define MMA_QUAD (MMA_RUN * MMA_WARPS)
#define MMA_MAX_DEPTH 8u	/* stages of a warp in flight */
#define MMA_V_GROUPS 4u		/* scales of a token's value, at most */
#define MMA_PLAN_THREADS 512u
#define MMA_MAX_SHARING 8192u	/* sequences: kv_mma_plan() counts in shared
				 * memory */
#define MMA_STATE_BYTES 512u
#define MMA_PAD 4u		/* floats between columns, against conflicts */
#define MMA_K_LUT_BYTES 48u	/* of K's table of values, 24 bits of f32 */
#define MMA_V_LUT_BYTES 32u	/* of V's, f16 */

/*
 * A stage: some tokens of a record in shared memory, K and V, laid out as the
 * record is, but with codes of those tokens only. Offsets are bytes.
 */
struct mma_stage {
	uint32_t tokens;
	uint32_t bytes;
	uint32_t k_meta;
	uint32_t v_codes;
	uint32_t v_meta;
};

/* What kv_mma_plan() fills in, in scratch. */
struct mma_plan {
	uint32_t *first_item;	/* [nr_seqs + 1]: of each sequence */
	uint32_t *first_shared;	/* [nr_seqs + 1]: of each bundle, by the number
				 * of its first sequence; NULL: no bundles */
	uint32_t *bundle;	/* [nr_seqs]: sequences of the bundle that
				 * begins here; 0: none does */
	uint32_t *shared;	/* [nr_seqs]: quads that the bundle does */
};

struct mma_params {
	struct kv_attend_args args;	/* q is in the pages' basis */
	struct mma_stage stages[KV_MAX_LAYOUTS];
	struct mma_plan plan;
	float *partial;		/* [row][q head][slot][2 + dim]: maximum, in
				 * powers of 2, sum, accumulators */
	uint32_t q_dtype;	/* of args.q; args.dtype is of out */
	uint32_t nr_slots;	/* 1: an item goes through all quads */
	uint32_t columns;	/* of a tile */
	uint32_t shared_columns; /* of a bundle's */
	uint32_t bundles;	/* 1: items are those of bundles */
	uint32_t depth;		/* stages of a warp's ring */
	uint32_t stage_bytes;	/* of each */
};

/* kv_mma_turn(): queries to the basis of the pages. */
struct turn_params {
	struct page_layout layout;
	const struct kv_tables *tables;
	const struct kv_seq *seqs;
	const void *q;
	float *out;		/* [row][q head][k_dim] */
	uint64_t q_stride;
	uint32_t dtype;
	uint32_t layer;
	uint32_t nr_q_heads;
	uint32_t nr_seqs;
};

/*
 * A query is the sum of two bf16, or of two f16: 16 bits of it at least, or 22.
 * Tables' kernels have the former alone.
 */
enum query_part {
	QUERY_BF16,
	QUERY_BF16_REST,
	QUERY_F16,
	QUERY_F16_REST,
	QUERY_PARTS
};

/* Where a block has what, in bytes of its shared memory. */
struct mma_shared {
	uint32_t q;		/* fragments B, enum query_part */
	uint32_t exchange;	/* float [warp][column][dim + MMA_PAD] */
	uint32_t sums;		/* float [warp][column][2] */
	uint32_t total;		/* float [column][dim], then [2][column][2] */
	uint32_t state;		/* struct state of mma_attend.cuh */
	uint32_t slots;		/* struct mma_slot [warp][MMA_MAX_DEPTH] */
	uint32_t table;		/* tables' kernels alone: K's table, V's; range
				 * and zero of the head, float [2][dim] */
	uint32_t rings;
	uint32_t bytes;
};

/* What a ring's stage holds, and the barrier that says it is there. */
struct mma_slot {
	uint64_t barrier;
	uint32_t pos;		/* of its first token */
	uint32_t layout;
};

/* @table: of kernels that look values up, mma_table.cuh. */
KV_INLINE struct mma_shared mma_shared_of(int table, uint32_t dim,
					  uint32_t columns, uint32_t depth,
					  uint32_t stage_bytes)
{
	struct mma_shared s;

	s.q = 0;
	s.exchange = (table ? QUERY_F16 : QUERY_PARTS) * 2 * dim * columns;
	s.sums = s.exchange + 4 * MMA_WARPS * columns * (dim + MMA_PAD);
	s.total = s.sums + 8 * MMA_WARPS * columns;
	s.state = s.total + 4 * columns * (dim + 4);
	s.slots = s.state + MMA_STATE_BYTES;
	s.table = s.slots +
		  MMA_WARPS * MMA_MAX_DEPTH * (uint32_t)sizeof(struct mma_slot);
	s.rings = s.table;
	if (table)
		s.rings += MMA_K_LUT_BYTES + MMA_V_LUT_BYTES + 8 * dim;
	s.rings = (s.rings + 127) / 128 * 128;
	s.bytes = s.rings + MMA_WARPS * depth * stage_bytes;
	return s;
}

#endif
