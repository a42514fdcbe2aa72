/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - a map against an array, under random puts and deletes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include "daemon/util/map.h"

#define KEYS 500

static void compare(const struct map *m, const uint64_t *truth)
{
	uint32_t nr = 0;

	for (uint64_t k = 0; k < KEYS; k++) {
		uint64_t *v = map_get(m, k * 4096);

		assert_int_equal(v != NULL, truth[k] != 0);
		if (v)
			assert_int_equal(*v, truth[k]);
		nr += truth[k] != 0;
	}
	assert_int_equal(m->nr, nr);
	for (uint32_t i = 0; i < m->nr; i++)
		assert_int_equal(m->entries[i].value,
				 truth[m->entries[i].key / 4096]);
}

static void test_random(void **state)
{
	uint64_t truth[KEYS] = { 0 };
	struct map m = { 0 };

	for (int i = 1; i <= 20000; i++) {
		/* Long phases of growth, then of decay. */
		int put = rand() % 8 < (i / 2000 % 2 ? 2 : 6);
		uint64_t k = (uint64_t)rand() % KEYS;

		if (put) {
			assert_int_equal(map_put(&m, k * 4096, i), 0);
			truth[k] = (uint64_t)i;
		} else {
			map_del(&m, k * 4096);
			truth[k] = 0;
		}
		if (i % 100 == 0)
			compare(&m, truth);
	}
	map_fini(&m);
}

static void test_reserve(void **state)
{
	struct map m = { 0 };
	struct map_entry *before;

	assert_null(map_get(&m, 1));
	map_del(&m, 1);
	assert_int_equal(map_reserve(&m, 1000), 0);
	before = m.entries;
	for (uint64_t k = 0; k < 1000; k++)
		assert_int_equal(map_put(&m, k, k), 0);
	assert_ptr_equal(m.entries, before);
	assert_int_equal(map_reserve(&m, UINT32_MAX), -ENOMEM);
	map_fini(&m);
	assert_int_equal(m.nr, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_reserve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
