/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.h - what goes into pages at random, tables to make them with, and
 * pages in one order of codes against pages in the other.
 *
 * The seed is tests/kernels/random.h's: main() calls records_seed().
 */
#ifndef TESTS_CUDA_RECORDS_H
#define TESTS_CUDA_RECORDS_H

#include "kernels/page.h"
#include "kernels/tables.h"
#include "tests/cuda/gpu.h"

#define RECORDS_LAYERS 2u
#define RECORDS_HEADS  2u
#define RECORDS_PARTS  10u
#define RECORDS_GARBAGE 0xff /* NaN in every format: where nothing is */

void records_seed(void);
uint32_t records_below(uint32_t n);

/* A geometry of RECORDS_LAYERS and RECORDS_HEADS that passes its check. */
struct kvd_geometry records_geometry(uint32_t k_format, uint32_t v_format,
				     uint32_t tokens, uint32_t k_dim,
				     uint32_t v_dim);

/* Tables for any format, on both sides. */
struct tables {
	struct kv_tables host;
	float *parts[RECORDS_PARTS];
	cu_ptr copies[RECORDS_PARTS];
	cu_ptr device;
};

void tables_init(struct tables *t, const struct kvd_geometry *g);
void tables_fini(struct tables *t);

/*
 * Rows of numbers: roughly normal; with outliers; with rows and columns that
 * are zero, constant, huge or subnormal; any bits at all; one NaN or Inf; a
 * row or a column at the ends of f16.
 */
void values_random(float *x, uint32_t tokens, uint32_t dim);

/*
 * A page in an order of its own: codes and metadata are as they were, and
 * garbage is around them where the order is another.
 */
void page_reorder(const struct page_layout *from, const uint8_t *in,
		  const struct page_layout *to, uint8_t *out);

/*
 * Is @got what @want is, a page in the order of rows? Byte for byte, but that
 * in tile order codes of tokens past the first @nr_tokens are anything.
 */
void page_same(const struct page_layout *row, const uint8_t *want,
	       const struct page_layout *l, const uint8_t *got,
	       uint32_t nr_tokens);

#endif
