/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotation.c - the rotation of oscar, from a second moment. Pure; any thread.
 *
 * Eigenvectors come from LAPACK, which OpenBLAS has without a header of its
 * own. Their signs, which are anybody's choice, are made the same everywhere.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "kernels/format.h"
#include "tools/calibrate/rotation.h"

/* Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix. */
extern void dsyev_(const char *job, const char *triangle, const int *n,
		   double *a, const int *lda, double *values, double *work,
		   const int *work_doubles, int *info);

static uint32_t reverse_bits(uint32_t i, uint32_t order)
{
	uint32_t r = 0;

	for (uint32_t bit = 1; bit < order; bit <<= 1, i >>= 1)
		r = r << 1 | (i & 1);
	return r;
}

void rotation_perm(const double *values, uint32_t dim, uint32_t *perm)
{
	uint32_t order = hadamard_order(dim);

	for (uint32_t v = 0; v < dim; v++) {
		uint32_t rank = 0;	/* those before it, when descending */

		for (uint32_t o = 0; o < dim; o++)
			rank += values[o] > values[v] ||
				(values[o] == values[v] && o < v);
		perm[rank / order * order +
		     reverse_bits(rank % order, order)] = v;
	}
}

/* Makes the largest component positive, the first of equal ones. */
static void fix_sign(double *x, uint32_t dim)
{
	uint32_t at = 0;

	for (uint32_t i = 1; i < dim; i++)
		if (fabs(x[i]) > fabs(x[at]))
			at = i;
	if (x[at] > 0)
		return;
	for (uint32_t i = 0; i < dim; i++)
		x[i] = -x[i];
}

/* Gram-Schmidt once more: what rounding left is below a float's. */
static void orthonormalize(double *u, uint32_t dim)
{
	for (uint32_t r = 0; r < dim; r++) {
		double *x = u + (size_t)r * dim, norm = 0;

		for (uint32_t o = 0; o < r; o++) {
			const double *y = u + (size_t)o * dim;
			double dot = 0;

			for (uint32_t i = 0; i < dim; i++)
				dot += x[i] * y[i];
			for (uint32_t i = 0; i < dim; i++)
				x[i] -= dot * y[i];
		}
		for (uint32_t i = 0; i < dim; i++)
			norm += x[i] * x[i];
		for (uint32_t i = 0; i < dim; i++)
			x[i] /= sqrt(norm);
		fix_sign(x, dim);
	}
}

/* A row times H. */
static void hadamard(double *x, uint32_t dim)
{
	uint32_t order = hadamard_order(dim);
	double norm = 1 / sqrt((double)order);

	for (uint32_t half = 1; half < order; half *= 2)
		for (uint32_t i = 0; i < dim; i++) {
			double a = x[i], b;

			if (i & half)
				continue;
			b = x[i + half];
			x[i] = a + b;
			x[i + half] = a - b;
		}
	for (uint32_t i = 0; i < dim; i++)
		x[i] *= norm;
}

/* @vectors: [dim][dim], an eigenvector a row. */
static void compose(const double *vectors, const double *values, uint32_t dim,
		    double *row, uint32_t *perm, float *out)
{
	rotation_perm(values, dim, perm);
	for (uint32_t r = 0; r < dim; r++) {
		for (uint32_t c = 0; c < dim; c++)
			row[c] = vectors[(size_t)c * dim + r];
		hadamard(row, dim);
		for (uint32_t j = 0; j < dim; j++)
			out[(size_t)r * dim + j] = (float)row[perm[j]];
	}
}

int rotation_make(double *moment, uint32_t dim, float *out)
{
	int n = (int)dim, nr_work = 34 * n, info = 0;
	double *values = calloc(dim, sizeof(double));
	double *work = calloc((size_t)nr_work, sizeof(double));
	uint32_t *perm = calloc(dim, sizeof(*perm));
	int err = values && work && perm ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < (size_t)dim * dim; i++)
		if (!isfinite(moment[i]))
			err = -EIO;
	if (!err) {
		dsyev_("V", "U", &n, moment, &n, values, work, &nr_work,
		       &info);
		err = info ? -EIO : 0;
	}
	if (!err) {
		orthonormalize(moment, dim);
		compose(moment, values, dim, work, perm, out);
	}
	free(values);
	free(work);
	free(perm);
	return err;
}
