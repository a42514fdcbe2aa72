/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda.h - page kernels on CUDA: kernels.h's argument blocks, asynchronous.
 *
 * A struct kv_cuda holds our kernels for one context, the one current when it
 * was made; every call here needs it current. Pointers in argument blocks are
 * the device's (page-locked host memory is too). Launching allocates nothing
 * and waits for nothing, so launches may be captured in graphs.
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

/* What attention may use besides its arguments. */
struct kv_cuda_scratch {
	cu_ptr ptr;		/* device memory, this call's alone until its
				 * work is done; 16-byte aligned */
	uint64_t bytes;
	uint32_t max_tokens;	/* largest pos + nr_rows of the sequences */
};

/**
 * kv_cuda_attend_bytes() - scratch that makes attention faster
 * @max_tokens:	as in struct kv_cuda_scratch
 *
 * Few rows over many tokens fill a GPU only when tokens are shared out among
 * blocks, whose partial results need a place. 0: none is needed.
 */
uint64_t kv_cuda_attend_bytes(const struct kv_attend_args *a,
			      uint32_t max_tokens);

/**
 * kv_cuda_attend() - kernels.h's attend
 * @scratch:	with fewer bytes than kv_cuda_attend_bytes() asks for the same
 *		result, bit for bit, takes longer
 *
 * Return: 0, or cu_errno() of the launch.
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

#endif
