/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sealed.h - one page of one record, sealed by a function of seal.h.
 */
#ifndef TESTS_KERNELS_SEALED_H
#define TESTS_KERNELS_SEALED_H

#include "kernels/host/host.h"
#include "kernels/host/seal.h"

#define SEALED_MAX (128u * 256u) /* elements of a side */

struct sealed {
	struct page_layout l;
	uint8_t page[SEALED_MAX * 8];
};

enum seal_kind { SEAL_KVARN, SEAL_KVQUANT, SEAL_OSCAR };

/* Set @i of what this CPU can run (0 is ref), or NULL past the last. */
side_store_fn *seal_nth(enum seal_kind kind, unsigned i);

/* K and V of @format; every byte is 0x5a. */
void sealed_init(struct sealed *p, uint32_t format, uint32_t tokens,
		 uint32_t dim);
struct side sealed_side(struct sealed *p, int is_v);
uint32_t sealed_code(struct sealed *p, int is_v, uint32_t t, uint32_t d);

/* What the page stands for, [tokens][dim]. */
void sealed_values(const struct sealed *p, int is_v,
		   const struct kv_tables *tables, float *out);

/* All numbers at @key of a vector file, row-major. Return: how many. */
uint32_t vector_load(const char *file, const char *key, float *out,
		     uint32_t max);

/* Shapes a page may have, at random; @nr elements at most. */
void random_shape(uint32_t *ret_tokens, uint32_t *ret_dim);

/* As random_hard(), but all finite and within f16. */
void random_tile(float *x, uint32_t tokens, uint32_t dim);

/*
 * A tile with rows and channels that are hard: zero, -0, constant, huge,
 * subnormal, and now and then NaN, Inf or more than f16 holds.
 */
void random_hard(float *x, uint32_t tokens, uint32_t dim);

/*
 * Every set gives ref's bytes, twice, and leaves what is around alone; the
 * input is not written. @tables is for any shape (tables_random()).
 */
void check_same_bytes(enum seal_kind kind, uint32_t format,
		      const struct kv_tables *(*tables)(uint32_t dim));

#endif
