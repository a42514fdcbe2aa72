/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.h - our kernels, loaded into one context, and how one is launched.
 */
#ifndef KERNELS_CUDA_MODULE_H
#define KERNELS_CUDA_MODULE_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/image.h"

#define MMA_SHAPES 10u
#define SHARED_BYTES (48u << 10) /* a block may have without asking */

struct kv_cuda {
	const struct cuda_driver *cu;
	cu_module modules[KV_CUDA_NR_IMAGES];
	cu_function append, convert, convert_far, attend, merge, dequant;
	cu_function gather, scatter, zero;
	cu_function mma[MMA_SHAPES], mma_plan, mma_turn, mma_merge;
	uint32_t nr_multiprocessors;
	uint32_t shared_bytes;	/* that a block may ask for */
};

/* Room for one line on what failed. */
struct cuda_why {
	char *text;
	size_t bytes;
};

/* One launch. */
struct shape {
	unsigned grid[3];
	unsigned threads;
	unsigned shared_bytes;
};

/* Without kernels yet. Return: 0 or -ENOMEM, with one line in @why. */
int kv_cuda_alloc(const struct cuda_driver *cu, struct kv_cuda **ret,
		  struct cuda_why *why);

/**
 * kv_cuda_load() - loads @code, which is that of @image
 *
 * Return: 0, or cu_errno() with one line in @why.
 */
int kv_cuda_load(struct kv_cuda *kc, enum kv_cuda_image image,
		 const unsigned char *code, struct cuda_why *why);

/**
 * kv_cuda_find() - the kernel of that name in @image
 *
 * Return: 0, or cu_errno() with one line in @why.
 */
int kv_cuda_find(struct kv_cuda *kc, enum kv_cuda_image image,
		 const char *name, cu_function *ret, struct cuda_why *why);

/* Return: 0, or cu_errno() of the launch. */
int kv_cuda_launch(struct kv_cuda *kc, cu_function function,
		   const struct shape *s, cu_stream stream, const void *param);

/* ---- convert.c ---- */

/* Finds the kernels of the image of that name. Return: as kv_cuda_find(). */
int convert_find(struct kv_cuda *kc, struct cuda_why *why);

/* ---- mma.c ---- */

/**
 * mma_prepare() - finds what kv_mma needs of @kc's context and module
 *
 * Return: as kv_cuda_find().
 */
int mma_prepare(struct kv_cuda *kc, struct cuda_why *why);

/* Can the tensor-core kernels do what @a asks, of a batch of bounds @b? */
int mma_knows(const struct kv_cuda *kc, const struct kv_attend_args *a,
	      const struct kv_cuda_batch *b);

/* kv_cuda_attend_bytes() and kv_cuda_attend() where they can. */
uint64_t mma_bytes(const struct kv_cuda *kc, const struct kv_attend_args *a,
		   const struct kv_cuda_batch *b);
int mma_attend(struct kv_cuda *kc, const struct kv_attend_args *a,
	       const struct kv_cuda_scratch *scratch, cu_stream stream);

#endif
