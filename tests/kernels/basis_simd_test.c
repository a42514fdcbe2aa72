/* SPDX-License-Identifier: Apache-2.0 */
/*
 * basis_simd_test.c - the transforms on AVX2 give the bits of basis.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/host.h"
#include "tests/kernels/random.h"

#define MAX 256u

static float rotation[MAX * MAX];

static float any(uint32_t kind)
{
	if (kind == 0 && !random_below(8))
		return f32_from_bits((uint32_t)random_u64());
	if (kind == 1)
		return random_normal() * ldexpf(1, random_below(250) - 125);
	return random_normal();
}

static void test_bits(void **state)
{
	float x[MAX], want[MAX], got[MAX];
	uint32_t n, i, b;

	if (!host_kernels_nth(1))
		skip();
	for (n = 0; n < 600; n++) {
		uint32_t dim = 8 * (1 + random_below(MAX / 8));

		for (i = 0; i < dim; i++)
			x[i] = any(n % 3);
		for (i = 0; i < dim * dim; i++)
			rotation[i] = random_normal();
		for (b = BASIS_PLAIN; b <= BASIS_PROFILE; b++) {
			basis_apply(b, dim, rotation, x, want);
			avx2_basis_apply(b, dim, rotation, x, got);
			assert_memory_equal(got, want, 4 * dim);
			basis_undo(b, dim, rotation, x, want);
			avx2_basis_undo(b, dim, rotation, x, got);
			assert_memory_equal(got, want, 4 * dim);
		}
		basis_apply(BASIS_HADAMARD, dim, NULL, x, want);
		avx2_basis_apply(BASIS_HADAMARD, dim, NULL, x, x);
		assert_memory_equal(x, want, 4 * dim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
