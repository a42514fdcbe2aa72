/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row.h - one token of one head, on its way into a page.
 *
 * append.c finds where each row goes; a row_store writes it. The definition
 * of what is written is ref_row_store() in ref.c; any other row_store gives
 * the same bytes.
 */
#ifndef KERNELS_HOST_ROW_H
#define KERNELS_HOST_ROW_H

#include "kernels/host/host.h"

struct row {
	uint32_t format; /* to store in */
	uint32_t dtype;  /* of src */
	uint32_t dim;    /* elements; a multiple of 8 */
	const void *src;
	void *codes;
	struct affine_meta *meta; /* int8 only */
};

/* Return: 1 when the row holds what the format cannot, else 0. */
typedef int row_store_fn(const struct row *r);

int ref_row_store(const struct row *r);
int avx2_row_store(const struct row *r);

/* host_kernels.append by way of @store. */
void append_rows(const struct kv_append_args *a, row_store_fn *store);

/* host_kernels.dequant: the same for every set. */
void ref_dequant(const struct page_layout *l, const void *page, uint32_t layer,
                 uint32_t head, int is_v, uint32_t nr_tokens,
                 const struct kv_tables *tables, float *out);

#endif
