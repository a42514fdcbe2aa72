/* SPDX-License-Identifier: Apache-2.0 */
/*
 * basis.h - what is done to a row before it is coded, and undone after.
 *
 * All arithmetic is f32, each product and sum rounded, in the order below, so
 * that any implementation gives the same bits; of the last two NaNs come out as
 * one, the positive quiet one with no payload.
 *
 *	PLAIN		y = x, bit for bit
 *	HADAMARD	in blocks of n = hadamard_order(dim): for h = 1, 2,
 *			4, ... n / 2 each pair (a, b) of elements h apart
 *			becomes (a + b, a - b); at last every element is
 *			multiplied by hadamard_factor(n). Its own inverse.
 *	PROFILE		y[j] = sum of x[i] * rotation[i][j], i ascending,
 *			from 0; undone by x[i] = sum of rotation[i][j] * y[j],
 *			j ascending, from 0
 *
 * Stateless; any thread.
 */
#ifndef KERNELS_HOST_BASIS_H
#define KERNELS_HOST_BASIS_H

#include <stddef.h>
#include "kernels/format.h"
#include "kernels/tables.h"

#define BASIS_NAN 0x7fc00000u /* what NaNs come out as */

/* 1 / sqrt(n) to the nearest f32, for a power of two. */
static inline float hadamard_factor(uint32_t n)
{
	float f = 1.0f;

	for (; n >= 4; n /= 4)
		f *= 0.5f;
	return n == 2 ? f * 0x1.6a09e6p-1f : f;
}

/* The rotation of BASIS_PROFILE of one layer: [dim][dim]. Else NULL. */
static inline const float *basis_rotation(const struct kv_tables *t,
					  uint32_t basis, uint32_t layer,
					  uint32_t dim, int is_v)
{
	if (basis != BASIS_PROFILE)
		return NULL;
	return (is_v ? t->v_rotation : t->k_rotation) +
	       (size_t)layer * dim * dim;
}

/*
 * One row of @dim elements, a multiple of 8. @rotation is basis_rotation()'s.
 * @y may be @x itself, unless @basis is BASIS_PROFILE.
 */
typedef void basis_fn(uint32_t basis, uint32_t dim, const float *rotation,
		      const float *x, float *y);

basis_fn basis_apply; /* the definition, in scalar C */
basis_fn basis_undo;

basis_fn avx2_basis_apply; /* basis_avx2.c */
basis_fn avx2_basis_undo;

#endif
