/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h - one side (K or V) of one record, stored whole.
 *
 * convert.c reads values out of one page and has one of these write them to
 * another. Values are rows of f32 in the page's basis, [tokens][dim]; codes
 * become rows too, which convert.c brings into tile order where need be. Each
 * scalar function here is the definition of its format; SIMD ones give the
 * same bytes.
 */
#ifndef KERNELS_HOST_SEAL_H
#define KERNELS_HOST_SEAL_H

#include "kernels/host/side.h"

/*
 * Writes codes and metadata of @s. Return: 1 when @x holds NaN or Inf or what
 * the format cannot reach (bytes are then deterministic, and read as NaN or
 * as saturated values), else 0.
 */
typedef int side_store_fn(const struct side *s, const float *x,
			  const struct kv_tables *tables);

side_store_fn ref_kivi_store;	 /* ref_kivi.c */
side_store_fn ref_kvarn_store;	 /* ref_kvarn.c */
side_store_fn ref_kvquant_store; /* ref_kvquant.c */
side_store_fn ref_oscar_store;	 /* ref_oscar.c */

side_store_fn avx2_kvarn_store;	  /* seal_kvarn_avx2.c */
side_store_fn avx2_kvquant_store; /* seal_kvquant_avx2.c */
side_store_fn avx2_oscar_store;	  /* seal_oscar_avx2.c */

#endif
