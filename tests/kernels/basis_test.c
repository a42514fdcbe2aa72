/* SPDX-License-Identifier: Apache-2.0 */
/*
 * basis_test.c - transforms of rows: what they are, and that appended rows
 * have them whatever set appends.
 */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sheet.h"

#define MAX 256u

static const uint32_t dims[] = { 8, 64, 72, 80, 96, 128, 256 };

#define NR_DIMS (sizeof(dims) / sizeof(dims[0]))

static float rotation[MAX * MAX];

static void random_row(float *x, uint32_t dim)
{
	uint32_t i;

	for (i = 0; i < dim; i++)
		x[i] = random_normal();
}

/* A reflection I - 2 u u^T: orthonormal, and not its own transpose's order. */
static void rotation_make(uint32_t dim)
{
	double u[MAX], norm = 0;
	uint32_t i, j;

	for (i = 0; i < dim; i++) {
		u[i] = random_normal();
		norm += u[i] * u[i];
	}
	/* The rows go round by one, so that it is not symmetric. */
	for (i = 0; i < dim; i++)
		for (j = 0; j < dim; j++)
			rotation[i * dim + (j + 1) % dim] =
				(i == j) - 2 * u[i] * u[j] / norm;
}

static void test_factor(void **state)
{
	uint32_t n;

	for (n = 1; n <= 1024; n *= 2)
		assert_true(hadamard_factor(n) == (float)(1 / sqrt(n)));
}

/* Entry (i, j) of the natural-order matrix has the parity of i & j. */
static void test_definition(void **state)
{
	float x[MAX], y[MAX];
	uint32_t n, i, j;

	for (n = 0; n < NR_DIMS; n++) {
		uint32_t dim = dims[n], order = hadamard_order(dim);

		random_row(x, dim);
		basis_apply(BASIS_HADAMARD, dim, NULL, x, y);
		for (j = 0; j < dim; j++) {
			uint32_t base = j / order * order;
			double sum = 0;

			for (i = 0; i < order; i++)
				sum += __builtin_parity(i & j % order) ?
					       -x[base + i] :
					       x[base + i];
			assert_true(fabs(sum / sqrt(order) - y[j]) < 1e-5);
		}
	}
}

static void test_undo(void **state)
{
	float x[MAX], q[MAX], y[MAX], p[MAX], back[MAX];
	uint32_t n, b, i;

	for (n = 0; n < NR_DIMS; n++)
		for (b = BASIS_PLAIN; b <= BASIS_PROFILE; b++) {
			double plain = 0, turned = 0;

			rotation_make(dims[n]);
			random_row(x, dims[n]);
			random_row(q, dims[n]);
			basis_apply(b, dims[n], rotation, x, y);
			basis_apply(b, dims[n], rotation, q, p);
			basis_undo(b, dims[n], rotation, y, back);
			for (i = 0; i < dims[n]; i++) {
				plain += (double)x[i] * q[i];
				turned += (double)y[i] * p[i];
				assert_true(fabsf(back[i] - x[i]) < 1e-5f);
			}
			assert_true(fabs(plain - turned) < 1e-4);
		}
}

/* An appended row is its transform, rounded: in every set, for every basis. */
static void test_append(void **state)
{
	static struct sheet s;
	float x[MAX], y[MAX];
	uint32_t n, b, i, d;
	void *base = s.page;
	uint32_t bad = 0;
	struct kv_tables tables = { .nr_heads = 1,
				    .k_rotation = rotation,
				    .v_rotation = rotation };
	struct kv_page_ref ref = { 0 };
	struct kv_seq seq = { .nr_rows = 1 };
	struct kv_append_args a = {
		.bases = &base,
		.pages = &ref,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = 1,
		.k = x,
		.v = x,
		.tables = &tables,
		.nonfinite = &bad,
		.nr_threads = 1,
	};

	for (n = 0; n < NR_DIMS * 3; n++) {
		uint32_t dim = dims[n / 3];

		b = n % 3;
		rotation_make(dim);
		random_row(x, dim);
		basis_apply(b, dim, rotation, x, y);
		for (i = 0; host_kernels_nth(i); i++) {
			sheet_init(&s, KVD_F16, dim);
			s.l.k_basis = s.l.v_basis = b;
			a.layouts[0] = s.l;
			host_kernels_nth(i)->append(&a);
			for (d = 0; d < dim; d++) {
				assert_int_equal(((uint16_t *)s.page)[d],
						 f16_from_f32(y[d]));
				assert_int_equal(
					((uint16_t *)(s.page +
						      s.l.v_codes))[d],
					f16_from_f32(y[d]));
			}
		}
	}
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_factor),
		cmocka_unit_test(test_definition),
		cmocka_unit_test(test_undo),
		cmocka_unit_test(test_append),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
