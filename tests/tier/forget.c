// SPDX-License-Identifier: Apache-2.0
/*
 * forget.c - what a file has of an origin is forgotten, and stays so.
 */
#include "tests/tier/fixture.h"

#include <unistd.h>

static struct tier *again(struct tier *t, uint64_t bytes)
{
	t->ops->flush(t);
	tier_free(t);
	return file_tier(bytes);
}

static void test_forget(void **state)
{
	struct tier *t = file_tier(ROOM(16));

	assert_int_equal(forget(t, 1, 100), 0);
	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	assert_int_equal(forget(t, 1, 2), 3);
	for (int restarts = 0; restarts < 3; restarts++) {
		for (uint64_t i = 0; i < 9; i++)
			assert_int_equal(got(t, i), i % ORIGINS != 1);
		assert_int_equal(stat_of(t).entries, 6);
		assert_int_equal(stat_of(t).bytes, 6 * COST);
		t = again(t, ROOM(16));
	}
	put(t, 4); /* it may come again */
	assert_true(got(t, 4));
	t = again(t, ROOM(16));
	assert_true(got(t, 4));
	assert_false(got(t, 1));
	assert_false(got(t, 7));
	assert_int_equal(forget(t, 1, 2), 1);
	assert_int_equal(forget(t, 1, 2), 0);
	tier_free(t);
}

/* Wherever the ring is, a successor has what there was, and no more. */
static void test_ring(void **state)
{
	enum { MOST = 400 };
	bool has[MOST];

	for (unsigned seed = 1; seed <= 8; seed++) {
		struct tier *t = file_tier(ROOM(9) + TIER_ALIGN);
		unsigned nr_forgot = 0;

		srand(seed);
		for (uint64_t nr = 0; nr < MOST; nr++) {
			put(t, nr);
			if (rand() % 4 == 0)
				nr_forgot += (unsigned)forget(
					t, (uint64_t)rand() % ORIGINS, 2);
			if (rand() % 4)
				continue;
			for (uint64_t i = 0; i < nr; i++)
				has[i] = how_many(t, i, i + 1);
			t = again(t, ROOM(9) + TIER_ALIGN);
			for (uint64_t i = 0; i < nr; i++)
				assert_int_equal(how_many(t, i, i + 1), has[i]);
			for (uint64_t i = nr < 9 ? 0 : nr - 9; i < nr; i++)
				assert_int_equal(got(t, i), has[i]);
		}
		assert_true(nr_forgot > 50);
		tier_free(t);
		unlink(path);
	}
}

/* More than is read in a turn, and than is forgotten in one. */
static void test_many(void **state)
{
	enum { NR = 1500 };
	struct tier *t = file_tier(ROOM(NR + 10));

	for (uint64_t i = 0; i < NR; i++)
		put(t, i);
	assert_int_equal(forget(t, 0, 100), NR / ORIGINS);
	for (int restarts = 0; restarts < 2; restarts++) {
		t = again(t, ROOM(NR + 10));
		for (uint64_t i = 0; i < NR; i++)
			assert_int_equal(how_many(t, i, i + 1),
					 i % ORIGINS != 0);
		assert_int_equal(stat_of(t).entries, NR - NR / ORIGINS);
	}
	tier_free(t);
}

/* While it is being read nobody knows yet what there is. */
static void test_reading(void **state)
{
	struct tier *t = file_tier(ROOM(16));

	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	t->ops->flush(t);
	tier_free(t);
	t = file_tier_begun(ROOM(16));
	assert_int_equal(forget(t, 2, 100), 0);
	t->ops->flush(t);
	for (int restarts = 0; restarts < 2; restarts++) {
		for (uint64_t i = 0; i < 9; i++)
			assert_int_equal(got(t, i), i % ORIGINS != 2);
		t = again(t, ROOM(16));
	}
	put(t, 2);
	t = again(t, ROOM(16));
	assert_true(got(t, 2));
	tier_free(t);
}

/* As the daemon's loop does it. */
static void wait_until_good(struct tier *t)
{
	for (int i = 0; i < 100 && stat_of(t).trouble[0]; i++) {
		usleep(100000);
		t->ops->tick(t, UINT64_MAX);
		t->ops->flush(t);
	}
	assert_string_equal(stat_of(t).trouble, "");
}

/* What cannot be written now is, when it can: until then nothing comes that
 * would be forgotten too. */
static void test_owed(void **state)
{
	struct tier *t = file_tier(ROOM(32));

	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	t->ops->flush(t);
	faults("tier-write:ENOSPC");
	assert_int_equal(forget(t, 0, 100), 3);
	t->ops->flush(t);
	assert_int_equal(said.bad, 1);
	assert_false(got(t, 3));
	faults(NULL);
	put(t, 3);
	assert_false(got(t, 3));
	assert_int_equal(stat_of(t).refused, 1);
	wait_until_good(t);
	t = again(t, ROOM(32));
	for (uint64_t i = 0; i < 9; i++)
		assert_int_equal(got(t, i), i % ORIGINS != 0);
	put(t, 3);
	assert_true(got(t, 3));
	tier_free(t);
}

/* The file cannot be read: what is in it is forgotten when it can be. */
static void test_shut(void **state)
{
	struct tier *t = file_tier(ROOM(32));

	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	t->ops->flush(t);
	tier_free(t);
	faults("tier-read:EIO");
	t = file_tier(ROOM(32));
	assert_int_equal(said.bad, 1);
	assert_int_equal(forget(t, 0, 100), 0);
	faults(NULL);
	wait_until_good(t);
	for (int restarts = 0; restarts < 2; restarts++) {
		for (uint64_t i = 0; i < 9; i++)
			assert_int_equal(got(t, i), i % ORIGINS != 0);
		t = again(t, ROOM(32));
	}
	tier_free(t);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forget), TEST(test_ring), TEST(test_many),
		TEST(test_reading), TEST(test_owed), TEST(test_shut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
