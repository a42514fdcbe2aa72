/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.c - the checksum: values of RFC 3720, and both ways agree.
 */
#include "tests/tier/fixture.h"
#include "daemon/tier/crc32c.h"

static void test_known(void **state)
{
	uint8_t b[32];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(b, 0, sizeof(b));
	assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
	for (uint8_t i = 0; i < 32; i++)
		b[i] = i;
	assert_int_equal(crc32c(0, b, 32), 0x46dd794e);
}

static void test_both(void **state)
{
	uint8_t b[259];

	for (uint32_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(i * i + 3);
	for (uint32_t from = 0; from < 9; from++)
		for (uint32_t n = 0; from + n <= sizeof(b); n++) {
			uint32_t crc = crc32c(5, b + from, n);

			assert_int_equal(crc, crc32c_plain(5, b + from, n));
			assert_int_equal(crc32c(crc32c(5, b + from, n / 3),
						b + from + n / 3, n - n / 3),
					 crc);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
