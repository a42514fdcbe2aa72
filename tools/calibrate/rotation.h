/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotation.h - the rotation of oscar, from a second moment.
 */
#ifndef TOOLS_CALIBRATE_ROTATION_H
#define TOOLS_CALIBRATE_ROTATION_H

#include <stdint.h>

/**
 * rotation_make() - R = U H P
 * @moment:	[dim][dim], symmetric; destroyed
 * @out:	[dim][dim]; y[j] = sum_i x[i] out[i][j]
 *
 * U has the moment's eigenvectors as columns, by ascending eigenvalue; H is
 * the orthonormal Hadamard transform in blocks of hadamard_order(dim); P
 * takes column rotation_perm() of U H to its place (arXiv 2605.17757).
 *
 * Return: 0, -ENOMEM, or -EIO when there is no solution (not finite).
 */
int rotation_make(double *moment, uint32_t dim, float *out);

/**
 * rotation_perm() - which column of U H comes to each place
 * @values:	[dim], eigenvalues in any order
 * @perm:	[dim]; perm[bitrev(i)] is the index of the i-th largest, bits
 *		reversed within blocks of hadamard_order(dim)
 */
void rotation_perm(const double *values, uint32_t dim, uint32_t *perm);

#endif
