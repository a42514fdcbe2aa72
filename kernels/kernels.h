/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.h - append, attend and dequantize over pages: the kernel interface.
 *
 * The same argument blocks serve host and CUDA. Host kernels take host
 * pointers and return when done. CUDA kernels take device pointers everywhere
 * but for the argument block and its layouts, which travel by value, and are
 * asynchronous on a stream (kernels/cuda/cuda.h). Kernels allocate nothing
 * that outlives the call, know no daemon, and trust their arguments: libkvd
 * has checked them.
 *
 * A token attends over positions up to its own; each query row's arithmetic
 * depends on its position and its pages alone, never on which rows come in
 * the same call nor on the number of threads: results are bit-identical for
 * any chunking of a prompt.
 *
 * Rows reach pages in the page's basis (format.h): append transforms K and V,
 * attend the query and its result. Where keys are stored before RoPE, attend
 * rotates them; queries come rotated.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stdint.h>
#include "kernels/page.h"
#include "kernels/tables.h"

#define KV_MAX_LAYOUTS 4

/* One row of a block table: which segment, where in it, laid out how. */
struct kv_page_ref {
	uint64_t offset;	/* bytes from the segment's base */
	uint32_t segment;	/* index in bases[]; KV_NO_SEGMENT: absent */
	uint32_t layout;	/* index in layouts[] */
};

#define KV_NO_SEGMENT UINT32_MAX

/*
 * Rows of one sequence of a batch, and its pages. Page n of a sequence holds
 * positions n * page_tokens and up. Pages from overlay_from on are not those
 * of the block table but of a second one: the open and exact pages that these
 * rows see, where later rows see sealed ones. kv_seq_page() finds either.
 */
struct kv_seq {
	uint32_t first_page;	/* of its block table in pages[] */
	uint32_t first_row;
	uint32_t nr_rows;	/* tokens of this call. CUDA takes 0: there is no
				 * such sequence */
	uint32_t pos;		/* position of first_row */
	uint32_t overlay_from;	/* page number; 0: there is none */
	uint32_t overlay_page;	/* in pages[], of page overlay_from */
};

/* Entry in pages[] of page @n of a sequence. */
KV_INLINE uint32_t kv_seq_page(const struct kv_seq *s, uint32_t n)
{
	return s->overlay_from && n >= s->overlay_from ?
		       s->overlay_page + (n - s->overlay_from) :
		       s->first_page + n;
}

struct kv_append_args {
	struct page_layout layouts[KV_MAX_LAYOUTS];
	void *const *bases;		/* writable segment bases */
	const struct kv_page_ref *pages;
	const struct kv_seq *seqs;
	uint32_t nr_seqs;
	uint32_t nr_rows;		/* sum over seqs */
	uint32_t layer;			/* within the group */
	uint32_t dtype;			/* enum kvd_dtype of k and v */
	const void *k;			/* [row][kv head][k_dim] */
	const void *v;			/* [row][kv head][v_dim] */
	uint64_t k_stride;		/* elements from row to row */
	uint64_t v_stride;
	const struct kv_tables *tables;	/* NULL where no format needs any */
	uint32_t *nonfinite;		/* [nr_seqs], set to 1 where a row of
					 * the sequence holds NaN or Inf, or a
					 * value the format cannot reach;
					 * never cleared */
	const uint32_t *nonfinite_at;	/* CUDA only: where in nonfinite[] this
					 * call's words begin, read when there
					 * is one to set; NULL: at 0 */
	uint32_t nr_threads;		/* host only; 0: all */
};

struct kv_attend_args {
	struct page_layout layouts[KV_MAX_LAYOUTS];
	const void *const *bases;
	const struct kv_page_ref *pages;
	const struct kv_seq *seqs;
	uint32_t nr_seqs;
	uint32_t nr_rows;
	uint32_t layer;
	uint32_t dtype;			/* of q and out */
	uint32_t nr_q_heads;		/* a multiple of the layout's nr_heads;
					 * q head h reads kv head
					 * h / (nr_q_heads / nr_heads) */
	uint32_t window;		/* 0: all positions up to its own */
	float scale;			/* score = scale * q.k */
	float softcap;			/* 0: none; else
					 * s = softcap * tanh(s / softcap) */
	const float *sinks;		/* [nr_q_heads] extra logit in the
					 * softmax's sum, or NULL */
	const void *q;			/* [row][q head][k_dim] */
	void *out;			/* [row][q head][v_dim], or [k_dim]
					 * where the layout's v_dim is 0 */
	float *lse;			/* [row][q head] natural log of the
					 * softmax's sum, or NULL */
	uint64_t q_stride;		/* elements from row to row */
	uint64_t out_stride;
	const struct kv_tables *tables;	/* NULL where no format needs any */
	uint32_t nr_threads;		/* host only; 0: all */
};

/* One full page to be stored once more, in another layout. */
struct kv_convert_page {
	struct kv_page_ref from, to;	/* layouts of the same basis */
	uint32_t nr_tokens;		/* page_tokens; less only where to's
					 * formats are appended in place. 0 on
					 * CUDA: there is no such page */
	uint32_t word;			/* CUDA: added to the page's number, is
					 * that of its word in nonfinite[] */
};

/*
 * Stores pages once more in another format: sealing, and back. Values are
 * those that the source's codes stand for.
 */
struct kv_convert_args {
	struct page_layout layouts[KV_MAX_LAYOUTS];
	void *const *bases;		/* writable segment bases */
	const struct kv_convert_page *pages;
	uint32_t nr_pages;
	uint32_t first_layer;		/* within the group */
	uint32_t nr_layers;
	const struct kv_tables *tables;
	uint32_t *nonfinite;		/* [nr_pages], set to 1 where the page
					 * holds NaN or Inf, or what the format
					 * cannot reach: its bytes are then
					 * defined but useless. Never cleared */
	uint32_t nr_threads;		/* host only; 0: all */
};

#endif
