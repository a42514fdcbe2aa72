/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.h - pages stored once more in another format.
 *
 * convert_pages() walks the records; what it calls for each is one of these.
 * Every set of operations gives the same bytes. Operations know rows only: of
 * pages in tile order the walk gathers and scatters codes (order.h). Threads
 * that convert need 512 KiB of stack for the values of one record, 1 MiB in
 * tile order.
 */
#ifndef KERNELS_HOST_CONVERT_H
#define KERNELS_HOST_CONVERT_H

#include "kernels/host/host.h"
#include "kernels/host/row.h"
#include "kernels/host/seal.h"

struct convert_ops {
	/* Values of the first @nr_tokens: @x is [nr_tokens][dim]. */
	void (*load)(const struct side *s, uint32_t nr_tokens,
		     const struct kv_tables *tables, float *x);
	row_store_fn *row;   /* formats appended in place */
	side_store_fn *kivi; /* and those stored whole */
	/* kivi of what @from has in 16 bits; or NULL */
	int (*kivi_seal)(const struct side *s, const struct side *from);
	side_store_fn *kvquant;
	side_store_fn *kvarn;
	side_store_fn *oscar;
};

/* host_kernels.convert by way of @ops. */
void convert_pages(const struct kv_convert_args *a,
		   const struct convert_ops *ops);

/* In ref_dequant.c: any format, in rows. */
void ref_side_load(const struct side *s, uint32_t nr_tokens,
		   const struct kv_tables *tables, float *x);

/* In load_avx2.c: the same bits. */
void avx2_side_load(const struct side *s, uint32_t nr_tokens,
		    const struct kv_tables *tables, float *x);

/* host_kernels.convert on AVX2. */
void avx2_convert(const struct kv_convert_args *a);

#endif
