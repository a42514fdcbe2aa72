/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.h - between the plan of an attention call and the SIMD inner loops.
 *
 * A tile is a few consecutive query tokens of one sequence with all query
 * heads of one kv head's group: row i of a tile is token i / group, head
 * i % group. Or they are tokens of several sequences that share what the
 * tile is of (share.h). A run is RUN_TOKENS positions starting at a multiple of
 * RUN_TOKENS. attend.c cuts a call into tiles and runs and folds what the runs
 * give; a run_attend_fn does one tile over one run.
 *
 * Invariant: what a run_attend_fn computes for a row depends on the row's
 * position, its query and the pages, never on the rest of the tile.
 */
#ifndef KERNELS_HOST_ATTEND_H
#define KERNELS_HOST_ATTEND_H

#include <math.h>
#include "kernels/host/host.h"
#include "kernels/host/share.h"

#define RUN_TOKENS 1024u
#define LANES      16u /* rows of floats are padded to this */
#define LOG2E      1.44269504088896340736f
#define LN2        0.69314718055994530942f

struct strip; /* strip.h */

struct tile {
	const struct kv_attend_args *a;
	const struct kv_seq *seq;
	uint32_t kv_head;
	uint32_t group; /* query heads per kv head */
	const struct share_token *tokens; /* of several sequences, or NULL: */
	uint32_t row;   /* first query token, in q and out */
	uint32_t pos;   /* and its position; of tokens the least */
	uint32_t last;  /* the greatest position */
	uint32_t nr_tokens;
	uint32_t first_run, end_run; /* counted from position 0 */
	float *saved;        /* what rows saw of what is shared, or NULL */
	uint32_t q_stride;   /* floats from row to row of q */
	uint32_t acc_stride; /* floats from row to row of a part's acc */
	float *q;            /* [rows][q_stride], zeros past k_dim; in the
	                      * basis of keys, times scale, and times log2(e)
	                      * without softcap */
	float *q_sum;        /* [rows] sum of the row of q */
	struct strip *strip; /* the thread's */
};

/*
 * What rows have seen so far, scores in powers of two: of row i, max[i] is
 * the greatest score, sum[i] the sum of 2^(score - max), acc the values
 * weighted so. A row that saw nothing has max -inf, sum 0 and acc 0.
 */
struct part {
	float *max;
	float *sum;
	float *acc; /* [rows][acc_stride] */
};

typedef void run_attend_fn(const struct tile *t, uint32_t first_page,
                           uint32_t end_page, const struct part *p);

/* Basis of the keys that scores are made of: PLAIN where those are turned. */
static inline uint32_t score_basis(const struct page_layout *l)
{
	return l->rope_order == KVD_ROPE_PRE ? BASIS_PLAIN : l->k_basis;
}

/* host_kernels.attend by way of @run. */
int attend_tiles(const struct kv_attend_args *a, run_attend_fn *run);
int ref_attend(const struct kv_attend_args *a);

void tile_load(const struct tile *t);
void part_clear(const struct part *x, const struct tile *t);
void part_fold(const struct part *to, const struct part *x,
               const struct tile *t);
void part_finish(const struct part *x, const struct tile *t);

static inline uint32_t tile_rows(const struct tile *t)
{
	return t->nr_tokens * t->group;
}

/* Of row @i: its token's row in q and out, and its position. */
static inline uint64_t tile_row(const struct tile *t, uint32_t i)
{
	i /= t->group;
	return t->tokens ? t->tokens[i].row : t->row + i;
}

static inline uint32_t tile_pos(const struct tile *t, uint32_t i)
{
	i /= t->group;
	return t->tokens ? t->tokens[i].pos : t->pos + i;
}

/* The first position that a query at @pos sees. */
static inline uint32_t window_first(uint32_t window, uint32_t pos)
{
	return window && pos >= window ? pos - window + 1 : 0;
}

#endif
