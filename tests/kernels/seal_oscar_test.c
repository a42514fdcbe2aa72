/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_oscar_test.c - what oscar writes: the published vector, and bounds.
 *
 * Sealing what a page stands for need not give its codes again: it clips the
 * values once more.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sealed.h"

/* The vector's ratio is that of V. Its zero is -min / scale. */
static void test_vector(void **state)
{
	static const char file[] = VECTORS "/oscar_int2.json";
	float x[32 * 32] = { 0 }, scale[8], zero[8], code[256], deq[256];
	static float got[32 * 32];
	static struct sealed p;
	side_store_fn *store;
	uint32_t t, d, i;
	struct side s;

	assert_int_equal(vector_load(file, "x_rotated", x, 256), 256);
	vector_load(file, "scale", scale, 8);
	vector_load(file, "zero", zero, 8);
	vector_load(file, "code", code, 256);
	vector_load(file, "deq", deq, 256);
	for (i = 0; (store = seal_nth(SEAL_OSCAR, i)); i++) {
		sealed_init(&p, KVD_OSCAR2, 32, 32);
		s = sealed_side(&p, 1);
		assert_int_equal(store(&s, x, NULL), 0);
		sealed_values(&p, 1, NULL, got);
		for (t = 0; t < 8; t++) {
			float mn = f16_to_f32(side_affine(&s)[t].min);

			assert_int_equal(side_affine(&s)[t].scale,
					 f16_from_f32(scale[t]));
			assert_true(fabsf(mn + zero[t] * scale[t]) <=
				    fabsf(mn) * 0x1p-11f);
			for (d = 0; d < 32; d++) {
				uint32_t n = t * 32 + d;

				assert_int_equal(sealed_code(&p, 1, t, d),
						 code[n]);
				assert_true(fabsf(got[n] - deq[n]) <=
					    (3 * scale[t] + fabsf(mn)) *
						    0x1p-11f);
			}
		}
	}
}

static void test_same_bytes(void **state)
{
	check_same_bytes(SEAL_OSCAR, KVD_OSCAR2, NULL);
}

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static float clip_limit(const float *x, uint32_t dim, double ratio)
{
	float a[256];
	uint32_t d;

	for (d = 0; d < dim; d++)
		a[d] = fabsf(x[d]);
	qsort(a, dim, sizeof(*a), ascending);
	return a[(int)(ratio * dim)];
}

/* Half a step from the clipped value, and what f16 takes. */
static void test_error(void **state)
{
	static float x[SEALED_MAX], out[SEALED_MAX];
	static struct sealed p;
	uint32_t tokens, dim, t, d;
	struct side s;
	int i;

	for (i = 0; i < 60; i++) {
		int v = i % 2;

		random_shape(&tokens, &dim);
		random_tile(x, tokens, dim);
		sealed_init(&p, KVD_OSCAR2, tokens, dim);
		s = sealed_side(&p, v);
		assert_int_equal(ref_oscar_store(&s, x, NULL), 0);
		sealed_values(&p, v, NULL, out);
		for (t = 0; t < tokens; t++) {
			const float *row = x + (size_t)t * dim;
			float l = clip_limit(row, dim, v ? .92 : .96);
			float scale = f16_to_f32(side_affine(&s)[t].scale);
			float mn = f16_to_f32(side_affine(&s)[t].min);
			float most = scale / 2 * (1 + 0x1p-10f) +
				     (3 * scale + fabsf(mn)) * 0x1p-11f +
				     4.5f * 0x1p-25f;

			for (d = 0; d < dim; d++) {
				float y = fmaxf(fminf(row[d], l), -l);

				assert_true(fabsf(out[t * dim + d] - y) <=
					    most);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vector),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_error),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
