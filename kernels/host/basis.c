/* SPDX-License-Identifier: Apache-2.0 */
/*
 * basis.c - transforms of rows: the definition, in scalar C. See basis.h.
 */
#include <math.h>
#include <string.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"

static float one_nan(float x)
{
	return isnan(x) ? f32_from_bits(BASIS_NAN) : x;
}

static void butterflies(float *y, uint32_t n, uint32_t h)
{
	uint32_t i, j;

	for (i = 0; i < n; i += 2 * h)
		for (j = i; j < i + h; j++) {
			float a = y[j], b = y[j + h];

			y[j] = a + b;
			y[j + h] = a - b;
		}
}

static void hadamard(uint32_t dim, float *y)
{
	uint32_t n = hadamard_order(dim), i, h;
	float factor = hadamard_factor(n);

	for (h = 1; h < n; h *= 2)
		butterflies(y, dim, h);
	for (i = 0; i < dim; i++)
		y[i] = one_nan(y[i] * factor);
}

/* PLAIN and HADAMARD. Return: whether @basis is one of them. */
static int own_inverse(uint32_t basis, uint32_t dim, const float *x, float *y)
{
	if (basis == BASIS_PROFILE)
		return 0;
	if (x != y)
		memcpy(y, x, dim * sizeof(*y));
	if (basis == BASIS_HADAMARD)
		hadamard(dim, y);
	return 1;
}

/**
 * basis_apply() - a row as it is coded in @basis
 */
void basis_apply(uint32_t basis, uint32_t dim, const float *rotation,
		 const float *x, float *y)
{
	uint32_t i, j;

	if (own_inverse(basis, dim, x, y))
		return;
	memset(y, 0, dim * sizeof(*y));
	for (i = 0; i < dim; i++)
		for (j = 0; j < dim; j++)
			y[j] += x[i] * rotation[(size_t)i * dim + j];
	for (j = 0; j < dim; j++)
		y[j] = one_nan(y[j]);
}

/**
 * basis_undo() - the row that basis_apply() made @x of, but for rounding
 */
void basis_undo(uint32_t basis, uint32_t dim, const float *rotation,
		const float *x, float *y)
{
	uint32_t i, j;

	if (own_inverse(basis, dim, x, y))
		return;
	for (i = 0; i < dim; i++) {
		float sum = 0.0f;

		for (j = 0; j < dim; j++)
			sum += rotation[(size_t)i * dim + j] * x[j];
		y[i] = one_nan(sum);
	}
}
