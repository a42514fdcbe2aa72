/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack_test.c - every code at every place of a row comes back, and no other
 * changes; rows have the sizes that FORMATS.md gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/pack.h"

static const uint32_t widths[] = { 2, 3, 4, 8 };

static void check_row(uint32_t bits, uint32_t dim)
{
	uint32_t bytes = pack_row_bytes(bits, dim), d, e, code;
	uint8_t row[KVD_MAX_DIM + 1];

	assert_true(bytes * 8 >= dim * bits);
	for (d = 0; d < dim; d++)
		for (code = 0; code < 1u << bits; code += bits == 8 ? 51 : 1) {
			memset(row, 0xff, sizeof(row));
			pack_set(bits, row, dim, d, code);
			for (e = 0; e < dim; e++)
				assert_int_equal(
					pack_get(bits, row, dim, e),
					e == d ? code : (1u << bits) - 1);
			assert_int_equal(row[bytes], 0xff);
		}
}

static void test_codes(void **state)
{
	static const uint32_t dims[] = { 8, 24, 64, 72, 80, 96, 128, 256 };
	uint32_t i, j;

	for (i = 0; i < 4; i++)
		for (j = 0; j < sizeof(dims) / sizeof(dims[0]); j++)
			check_row(widths[i], dims[j]);
}

static void test_bytes(void **state)
{
	assert_int_equal(pack_row_bytes(16, 128), 256);
	assert_int_equal(pack_row_bytes(8, 80), 80);
	assert_int_equal(pack_row_bytes(4, 64), 32);
	assert_int_equal(pack_row_bytes(4, 80), 40);
	assert_int_equal(pack_row_bytes(4, 72), 40);
	assert_int_equal(pack_row_bytes(3, 128), 48);
	assert_int_equal(pack_row_bytes(2, 64), 16);
	assert_int_equal(pack_row_bytes(2, 80), 24);
	assert_int_equal(pack_row_bytes(2, 96), 24);
	assert_int_equal(pack_row_bytes(1, 80), 16);
}

/* As SIMD reads them: a shift of all lanes gives 8 neighbours. */
static void test_lanes(void **state)
{
	uint8_t row[64] = { 0 };
	uint32_t d, word;

	for (d = 0; d < 128; d++)
		pack_set(4, row, 128, d, d / 8);
	for (d = 0; d < 8; d++) {
		memcpy(&word, row + 4 * d, 4);
		assert_int_equal(word, 0x76543210);
		memcpy(&word, row + 32 + 4 * d, 4);
		assert_int_equal(word, 0xfedcba98);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_lanes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
