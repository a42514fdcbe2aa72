/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h - page kernels on the CPU: scalar reference and SIMD, one interface.
 *
 * Any thread may call any of these. host_kernels() picks the widest set of
 * instructions the CPU has, once; KVD_ISA=ref|avx2|avx512 in the environment
 * narrows the choice. Every ISA gives bit-identical pages; attention agrees
 * to rounding, and is bit-identical from run to run on one ISA.
 */
#ifndef KERNELS_HOST_HOST_H
#define KERNELS_HOST_HOST_H

#include "kernels/kernels.h"

struct host_kernels {
	const char *name;	/* "ref", "avx2", "avx512" */

	/* Quantizes and stores rows of K and V at their positions. */
	void (*append)(const struct kv_append_args *a);

	/* Stores pages once more: seals them, or opens them again. */
	void (*convert)(const struct kv_convert_args *a);

	/* softmax(scale * q K^T) V over pages. Return: 0 or -ENOMEM. */
	int (*attend)(const struct kv_attend_args *a);

	/*
	 * One record's K (or V) as float: out is [nr_tokens][k_dim or v_dim].
	 * A reader for tests, tools and tiers; not on the attention path.
	 */
	void (*dequant)(const struct page_layout *l, const void *page,
			uint32_t layer, uint32_t head, int is_v,
			uint32_t nr_tokens, const struct kv_tables *tables,
			float *out);
};

extern const struct host_kernels host_kernels_ref;

/* The set in use on this CPU. Never NULL. */
const struct host_kernels *host_kernels(void);

/* Set number i that this CPU can run (0 is ref), or NULL past the last. */
const struct host_kernels *host_kernels_nth(unsigned i);

#endif
