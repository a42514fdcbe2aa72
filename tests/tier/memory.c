/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - the tier in memory: what it has, what goes first, its bound.
 */
#include "tests/tier/fixture.h"

static uint64_t spilled[64];
static unsigned nr_spilled;

static void on_spill(void *ctx, const struct tier_key *key,
		     struct tier_page *page)
{
	assert_true(nr_spilled < 64);
	memcpy(&spilled[nr_spilled++], tier_page_head(page),
	       sizeof(spilled[0]));
}

static struct tier *memory(unsigned pages)
{
	struct tier *t = tier_memory_new((uint64_t)pages * COST, on_spill,
					 NULL);

	assert_non_null(t);
	nr_spilled = 0;
	return t;
}

static void test_put_get_drop(void **state)
{
	struct tier *t = memory(4);
	struct tier_key key = key_of(2);

	assert_false(got(t, 1));
	put(t, 1);
	put(t, 2);
	assert_true(got(t, 1));
	assert_true(got(t, 2));
	put(t, 2); /* replaced */
	assert_int_equal(stat_of(t).entries, 2);
	assert_int_equal(stat_of(t).bytes, 2 * COST);
	t->ops->drop(t, &key);
	assert_false(got(t, 2));
	assert_int_equal(stat_of(t).bytes, COST);
	tier_free(t);
}

static void test_bound(void **state)
{
	struct tier *t = memory(4);

	for (uint64_t i = 0; i < 10; i++)
		put(t, i);
	assert_int_equal(how_many(t, 0, 6), 0);
	assert_int_equal(how_many(t, 6, 10), 4);
	assert_int_equal(stat_of(t).bytes, 4 * COST);
	assert_int_equal(nr_spilled, 6);
	for (uint64_t i = 0; i < 6; i++)
		assert_int_equal(spilled[i], i);
	tier_free(t);
	assert_int_equal(nr_spilled, 6); /* at its end nothing is */
}

static void test_too_large(void **state)
{
	struct tier *t = tier_memory_new(COST - 1, on_spill, NULL);

	put(t, 1);
	assert_int_equal(how_many(t, 1, 2), 0);
	assert_int_equal(stat_of(t).refused, 1);
	tier_free(t);
}

/* What the pool has again goes before all others, and to no other tier. */
static void test_twice(void **state)
{
	struct tier *t = memory(4);
	struct tier_key key = key_of(3);

	for (uint64_t i = 0; i < 4; i++)
		put(t, i);
	assert_true(got(t, 3));
	put(t, 4);
	assert_int_equal(how_many(t, 3, 4), 0);
	assert_int_equal(how_many(t, 0, 3), 3);
	assert_int_equal(nr_spilled, 0);
	/* Given up again, it is as new. */
	assert_false(t->ops->renew(t, &key));
	assert_true(got(t, 0));
	key = key_of(0);
	assert_true(t->ops->renew(t, &key));
	put(t, 5);
	assert_int_equal(how_many(t, 0, 1), 1);
	assert_int_equal(how_many(t, 1, 2), 0);
	tier_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get_drop),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
