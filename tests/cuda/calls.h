/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.h - attention by kernels of CUDA and by the reference, over the pages
 * of a tests/kernels/world.h, for tests.
 *
 * Pages of a world are in row order. For tile order each code is put in its
 * other place; the reference reads the pages as they were. Everything crosses
 * by copies, so this runs on a GPU as on the double.
 */
#ifndef TESTS_CUDA_CALLS_H
#define TESTS_CUDA_CALLS_H

#include "kernels/cuda/cuda.h"
#include "tests/kernels/world.h"

#define CALL_MAX_COPIES 32u

/* Some rows of a world, in pages of either order. */
struct call {
	struct world *w;
	uint32_t order, dtype;
	uint32_t share;	/* as struct kv_cuda_batch has it */
	struct page_layout layouts[KV_MAX_LAYOUTS]; /* of the pages below */
	uint8_t *segments[2];
	uint64_t segment_bytes;
	struct kv_page_ref *pages; /* [2 * nr_pages], as the world's */
	struct kv_seq seqs[WORLD_SEQS];
	uint32_t nr_rows;
	size_t nr_out; /* of (row, q head) */
	void *q;
	cu_ptr copies[CALL_MAX_COPIES];
	uint32_t nr_copies;
};

struct answer {
	void *out;
	float *lse;
};

/* A call whose arguments are on the device: launch it, or have it captured. */
struct on_device {
	struct kv_attend_args args;
	struct kv_cuda_scratch scratch;
	cu_ptr out;
	size_t out_bytes;
};

/*
 * A row of out may differ from float64 by that share of its length; tensor
 * cores take queries and weights in f16.
 */
extern const double call_bounds[KVD_NR_TILE_ORDERS][KVD_NR_DTYPES];
extern double call_worst[KVD_NR_TILE_ORDERS][KVD_NR_DTYPES];

/* Rows first .. first + n - 1 of every sequence that has them. */
void call_init(struct call *c, struct world *w, uint32_t order, uint32_t dtype,
	       uint32_t first, uint32_t n);
void call_fini(struct call *c);

/* Element @d of K or V of sequence 0's token @t becomes what @code stands for. */
void call_set_code(struct call *c, int is_v, uint32_t t, uint32_t d,
		   uint32_t code);

void call_ref(struct call *c, struct answer *r);
void call_prepare(struct call *c, int scratch, struct on_device *d);
void call_read(const struct call *c, const struct on_device *d,
	       struct answer *r);
void call_release(struct call *c, struct on_device *d);

/* All of that. Without @scratch, where that is allowed, it takes longer. */
void call_cuda(struct call *c, int scratch, struct answer *r);
void answer_fini(struct answer *r);

/* Within bounds, or the test fails. */
void call_compare(const struct call *c, const struct answer *got,
		  const struct answer *want);

/* Row @at and on of @whole are @part, bit for bit. */
void call_same(const struct call *c, const struct answer *whole, size_t at,
	       const struct answer *part);

/* Against float64, with and without scratch. Leaves what came out. */
void call_check(struct call *c, struct answer *got);

/* The same for some rows; leaves nothing. */
void rows_check(struct world *w, uint32_t order, uint32_t dtype,
		uint32_t first, uint32_t n);

#endif
