/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda.h - page kernels on CUDA: kernels.h's argument blocks, asynchronous.
 *
 * A struct kv_cuda holds our kernels for one context, the one current when it
 * was made; every call here needs it current. Pointers in argument blocks are
 * the device's (page-locked host memory is too). Launching allocates nothing
 * and waits for nothing, so launches may be captured in graphs. Sequences and
 * pages are read from memory: a call may have room for more than there are,
 * with nr_rows (of a page, nr_tokens) 0 where there are none and nr_rows no
 * less than the rows that belong to some sequence. Others are left alone.
 *
 * A struct kv_cuda never changes once made: any thread may launch with it.
 */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <stddef.h>
#include <stdint.h>
#include "kernels/cuda/driver.h"
#include "kernels/kernels.h"

struct kv_cuda;

/**
 * kv_cuda_new() - load our kernels into the current context
 * @cu:		the driver
 * @ret:	kv_cuda_free() it
 * @why:	one line on what failed
 * @why_bytes:	size of @why
 *
 * Return: 0, -ENOMEM, -ENOEXEC when this build has no code for the GPU, or
 * another of cu_errno()'s.
 */
int kv_cuda_new(const struct cuda_driver *cu, struct kv_cuda **ret, char *why,
		size_t why_bytes);

/* The same of kernels for kv_cuda_convert(), which alone may then be called. */
int kv_cuda_new_convert(const struct cuda_driver *cu, struct kv_cuda **ret,
			char *why, size_t why_bytes);

/* Needs the context that it was made in. NULL is fine. */
void kv_cuda_free(struct kv_cuda *kc);

/**
 * kv_cuda_append() - kernels.h's append
 *
 * Return: 0, or cu_errno() of the launch.
 */
int kv_cuda_append(struct kv_cuda *kc, const struct kv_append_args *a,
		   cu_stream stream);

/**
 * kv_cuda_convert() - kernels.h's convert
 *
 * The pages of one launch may be of any layouts; all layers go at once.
 *
 * Return: 0, or cu_errno() of the launch.
 */
int kv_cuda_convert(struct kv_cuda *kc, const struct kv_convert_args *a,
		    cu_stream stream);

/* What is known on the host of the sequences of a call: bounds. */
struct kv_cuda_batch {
	uint32_t max_tokens;	/* largest pos + nr_rows */
	uint32_t max_rows;	/* largest nr_rows */
	uint32_t share;		/* 1: look for neighbours that begin with the
				 * same pages, and read those once. The bits
				 * are the same; time is wasted if there are
				 * none */
	uint32_t rope_pairs;	/* of the tables, which are the device's; 0 is
				 * right where keys come turned, and slow where
				 * they do not */
};

/* What attention may use besides its arguments. */
struct kv_cuda_scratch {
	cu_ptr ptr;		/* device memory, this call's alone until its
				 * work is done; 16-byte aligned */
	uint64_t bytes;
	struct kv_cuda_batch batch;
};

/**
 * kv_cuda_attend_bytes() - scratch that attention wants
 * @b:		bounds; larger ones do no harm but for time and memory
 *
 * Few rows over many tokens fill a GPU only when tokens are shared out among
 * blocks, whose partial results need a place. 0: none is needed.
 */
uint64_t kv_cuda_attend_bytes(const struct kv_cuda *kc,
			      const struct kv_attend_args *a,
			      const struct kv_cuda_batch *b);

/* Does kv_cuda_attend() take these to tensor cores? Else: general kernels. */
int kv_cuda_attend_tensor(const struct kv_cuda *kc,
			  const struct kv_attend_args *a,
			  const struct kv_cuda_batch *b);

/**
 * kv_cuda_attend() - kernels.h's attend
 * @scratch:	kv_cuda_attend_bytes() of it for the same batch
 *
 * Pages in tile order go to tensor cores, where queries and weights are f16
 * (bf16 in two parts over pages in bf16) and sums f32.
 *
 * Return: 0, -ENOMEM when there is too little scratch (pages in row order
 * take longer instead, and give the same bits), or cu_errno() of a launch.
 */
int kv_cuda_attend(struct kv_cuda *kc, const struct kv_attend_args *a,
		   const struct kv_cuda_scratch *scratch, cu_stream stream);

/* Which record, and where its values go. */
struct kv_cuda_dequant {
	const struct page_layout *layout;
	cu_ptr page;
	cu_ptr tables;		/* struct kv_tables, its pointers the device's;
				 * 0 where the format needs none */
	uint32_t layer;
	uint32_t head;
	uint32_t is_v;
	uint32_t nr_tokens;
	cu_ptr out;		/* float [nr_tokens][k_dim or v_dim] */
};

/**
 * kv_cuda_dequant() - one record's K (or V) as float: tests and tools
 *
 * Return: 0, or cu_errno() of the launch.
 */
int kv_cuda_dequant(struct kv_cuda *kc, const struct kv_cuda_dequant *d,
		    cu_stream stream);

/*
 * Pages to copy or to zero. What @list and @nr point to is read when the
 * kernel runs: a captured launch is replayed with other pages, and fewer. Pages
 * and buffer are at multiples of 16.
 */
struct kv_cuda_pages {
	cu_ptr list;		/* cu_ptr [max_pages]; 0 skips a page */
	cu_ptr nr;		/* uint32_t; above max_pages: max_pages */
	uint32_t max_pages;
	uint32_t page_bytes;	/* a multiple of 16, as page.h's are */
	uint32_t nr_blocks;	/* at most; 0: two for every eight
				 * multiprocessors, the rest is for others */
};

/**
 * kv_cuda_gather() - pages to a buffer in one piece
 * @p:		which; one may be there more than once. Nobody writes them
 *		until it is done
 * @to:		[max_pages][page_bytes], page after page, in device memory or
 *		cuMemHostAlloc()'s; no part of it in a page. A skipped page's
 *		place is left as it is
 *
 * Return: 0, -EINVAL when page_bytes is not what it must be, or cu_errno() of
 * the launch.
 */
int kv_cuda_gather(struct kv_cuda *kc, const struct kv_cuda_pages *p, cu_ptr to,
		   cu_stream stream);

/**
 * kv_cuda_scatter() - pages from a buffer: the inverse of kv_cuda_gather()
 * @p:		which; one that is there more than once holds nobody knows what
 * @from:	as @to of kv_cuda_gather()
 *
 * Return: as kv_cuda_gather().
 */
int kv_cuda_scatter(struct kv_cuda *kc, const struct kv_cuda_pages *p,
		    cu_ptr from, cu_stream stream);

/* Sets pages to zero. Return: as kv_cuda_gather(). */
int kv_cuda_zero(struct kv_cuda *kc, const struct kv_cuda_pages *p,
		 cu_stream stream);

#endif
