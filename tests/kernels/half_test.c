/* SPDX-License-Identifier: Apache-2.0 */
/*
 * half_test.c - the software conversions against their definition in doubles.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "kernels/host/half.h"

/* The value of finite bits with @exp exponent and @man mantissa bits. */
static double value(uint32_t bits, int exp, int man)
{
	int e = bits >> man & ((1 << exp) - 1), bias = (1 << (exp - 1)) - 1;
	double m = bits & ((1u << man) - 1);
	double x = e ? ldexp(m + (1u << man), e - bias - man)
	             : ldexp(m, 1 - bias - man);

	return bits >> (exp + man) ? -x : x;
}

static void test_f16_to_f32(void **state)
{
	uint32_t h;

	for (h = 0; h < 0x10000; h++) {
		float x = f16_to_f32(h);

		assert_int_equal(signbit(x) != 0, h >> 15);
		if ((h & 0x7fff) > F16_EXP)
			assert_true(isnan(x));
		else if ((h & 0x7fff) == F16_EXP)
			assert_true(isinf(x));
		else
			assert_true(x == value(h, 5, 10));
		if (!isnan(x))
			assert_int_equal(f16_from_f32(x), h);
	}
}

/* Around each value and each midpoint of two neighbours, ties to even. */
static void test_f16_from_f32(void **state)
{
	uint32_t h;

	for (h = 0; h < F16_EXP; h++) {
		float a = value(h, 5, 10);
		float b = h + 1 < F16_EXP ? value(h + 1, 5, 10) : 65536.0;
		float mid = (float)(((double)a + b) / 2);

		assert_int_equal(f16_from_f32(nextafterf(mid, a)), h);
		assert_int_equal(f16_from_f32(nextafterf(mid, b)), h + 1);
		assert_int_equal(f16_from_f32(mid), h + (h & 1));
		assert_int_equal(f16_from_f32(-mid), 0x8000 | (h + (h & 1)));
	}
	assert_int_equal(f16_from_f32(INFINITY), F16_EXP);
	assert_int_equal(f16_from_f32(1e30f), F16_EXP);
	assert_int_equal(f16_from_f32(1e-30f), 0);
	assert_true((f16_from_f32(NAN) & 0x7fff) > F16_EXP);
}

static void test_bf16(void **state)
{
	uint32_t b;

	for (b = 0; b < BF16_EXP; b++) {
		float a = bf16_to_f32(b), next = bf16_to_f32(b + 1);
		float mid = f32_from_bits(b << 16 | 0x8000);

		assert_true(a == value(b, 8, 7));
		assert_int_equal(bf16_from_f32(a), b);
		assert_int_equal(bf16_from_f32(nextafterf(mid, a)), b);
		assert_int_equal(bf16_from_f32(nextafterf(mid, next)), b + 1);
		assert_int_equal(bf16_from_f32(mid), b + (b & 1));
		assert_int_equal(bf16_from_f32(-mid), 0x8000 | (b + (b & 1)));
	}
	assert_int_equal(bf16_from_f32(INFINITY), BF16_EXP);
	assert_int_equal(bf16_from_f32(f32_from_bits(0x7f800001)), 0x7fc0);
	assert_int_equal(bf16_from_f32(f32_from_bits(0xffffffff)), 0xffff);
}

static void test_dtypes(void **state)
{
	uint16_t h[2];
	float f[2];
	uint32_t i;

	for (i = 0; i < 2; i++) {
		dtype_store(KVD_DTYPE_F32, f, i, 1.25f + i);
		assert_true(dtype_load(KVD_DTYPE_F32, f, i) == 1.25f + i);
		dtype_store(KVD_DTYPE_F16, h, i, 1.25f + i);
		assert_true(dtype_load(KVD_DTYPE_F16, h, i) == 1.25f + i);
		dtype_store(KVD_DTYPE_BF16, h, i, 1.25f + i);
		assert_true(dtype_load(KVD_DTYPE_BF16, h, i) == 1.25f + i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_f16_to_f32),
		cmocka_unit_test(test_f16_from_f32),
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_dtypes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
