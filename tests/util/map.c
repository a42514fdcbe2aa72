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
		assert_int_equal(map_entry(m, i)->value,
				 truth[map_entry(m, i)->key / 4096]);
}

/* Sets the value of @key, which was @old, 0 if it was not there. */
static void put(struct map *m, uint64_t key, uint64_t old, uint64_t value)
{
	uint64_t *v;

	if (value % 2) {
		assert_int_equal(map_put(m, key, value), 0);
		return;
	}
	v = map_take(m, key);
	assert_non_null(v);
	assert_int_equal(*v, old);
	assert_ptr_equal(map_get(m, key), v);
	*v = value;
}

static void test_random(void **state)
{
	uint64_t truth[KEYS] = { 0 };
	struct map m = { 0 };

	for (int i = 1; i <= 20000; i++) {
		/* Long phases of growth, then of decay. */
		int add = rand() % 8 < (i / 2000 % 2 ? 2 : 6);
		uint64_t k = (uint64_t)rand() % KEYS;

		if (add) {
			put(&m, k * 4096, truth[k], (uint64_t)i);
			truth[k] = (uint64_t)i;
		} else {
			map_del(&m, k * 4096);
			truth[k] = 0;
		}
		if (i % 300 == 0)
			map_trim(&m);
		if (i % 100 == 0)
			compare(&m, truth);
	}
	map_fini(&m);
}

/* Room for much that has gone is given back, at any stage of growing. */
static void test_trim(void **state)
{
	for (uint32_t most = 20; most < 300000; most += most / 3) {
		struct map m = { 0 };
		uint32_t nr = most / 20 < 300 ? most / 20 : 300;

		for (uint64_t k = 0; k < most; k++)
			assert_int_equal(map_put(&m, k, ~k), 0);
		assert_false(map_trim(&m));
		for (uint64_t k = nr; k < most; k++)
			map_del(&m, k);
		assert_true(map_trim(&m));
		assert_true(m.room == 8 || m.room <= 4 * nr);
		assert_true(m.nr_pieces == 1 && !m.old.at && !m.next.at);
		assert_false(map_trim(&m));
		for (uint64_t k = 0; k < most; k++)
			assert_int_equal(map_get(&m, k) != NULL, k < nr);
		for (uint64_t k = 0; k < most; k++)
			assert_int_equal(map_put(&m, k, k), 0);
		for (uint64_t k = 0; k < most; k++)
			assert_int_equal(*map_get(&m, k), k);
		map_fini(&m);
	}
}

static void test_reserve(void **state)
{
	struct map m = { 0 };
	struct map_entry *before;

	assert_null(map_get(&m, 1));
	map_del(&m, 1);
	assert_int_equal(map_reserve(&m, 1000), 0);
	before = map_entry(&m, 0);
	for (uint64_t k = 0; k < 1000; k++)
		assert_int_equal(map_put(&m, k, k), 0);
	assert_ptr_equal(map_entry(&m, 0), before);
	assert_int_equal(map_reserve(&m, UINT32_MAX), -ENOMEM);
	map_fini(&m);
	assert_int_equal(m.nr, 0);
}

/* Each key is looked up as it is touched; all now and then. */
static void large_check(const struct map *m, const uint32_t *truth,
			uint32_t nr_keys)
{
	uint32_t nr = 0;

	for (uint64_t k = 0; k < nr_keys; k++) {
		const uint64_t *v = map_get(m, k);

		if (v ? *v != truth[k] : truth[k] != 0)
			fail_msg("key %llu", (unsigned long long)k);
		nr += v != NULL;
	}
	assert_int_equal(m->nr, nr);
	for (uint32_t i = 0; i < m->nr; i++)
		assert_int_equal(map_entry(m, i)->value,
				 truth[map_entry(m, i)->key]);
}

/* Keys come and go while it grows, at any stage of that. */
static void test_large(void **state)
{
	const uint32_t nr_keys = 150000;
	uint32_t *truth = calloc(nr_keys, sizeof(*truth));
	uint32_t growing = 0;
	struct map m = { 0 };

	for (uint32_t i = 1; i <= 1200000; i++) {
		uint32_t k = (uint32_t)rand() % nr_keys;

		if (rand() % 16 < (i / 400000 % 2 ? 10 : 2)) {
			map_del(&m, k);
			truth[k] = 0;
			assert_null(map_get(&m, k));
		} else {
			put(&m, k, truth[k], i);
			truth[k] = i;
			assert_int_equal(*map_get(&m, k), i);
		}
		growing += m.old.at != NULL;
		if (i % 50000 == 0)
			large_check(&m, truth, nr_keys);
		if (i % 70000 == 0)
			map_trim(&m);
	}
	assert_true(growing > 50000);
	map_fini(&m);
	free(truth);
}

/* What a step does is enough: nothing is left to be done at once. */
static void test_steps(void **state)
{
	struct map m = { 0 };
	int grown = 0;

	for (uint64_t k = 0; k < 600000; k++) {
		if (m.nr == m.room && m.slots.nr > 2 * MAP_PIECE) {
			assert_null(m.old.at);
			assert_int_equal(m.next.nr, 2 * m.slots.nr);
			assert_int_equal(m.nr_zeroed, m.next.nr);
			grown++;
		}
		assert_int_equal(map_put(&m, k, k), 0);
	}
	assert_int_equal(grown, 7);
	map_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
