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

static void test_forget(void **state)
{
	struct tier *t = file_tier(ROOM(16));

	assert_int_equal(forget(t, 1, 100), 0);
	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	assert_int_equal(forget(t, 1, 2), 3);
	t->ops->forget(t, 1, 2, &(struct tier_forgot){ .pages = 0 });
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

/*
 * Wherever the ring is, and whatever lies behind its end, a successor has what
 * there was, and no more.
 */
static void ring_walk(uint64_t first, uint64_t bytes)
{
	enum { MOST = 400 };
	struct tier *t = file_tier(bytes);
	unsigned nr_forgot = 0, has[MOST];
	uint64_t keys[MOST];

	for (uint64_t nr = 0; nr < MOST; nr++) {
		keys[nr] = first + (uint64_t)rand() % 4 + 4 * nr;
		put(t, keys[nr]);
		put(t, keys[nr - (uint64_t)rand() % (nr < 12 ? nr + 1 : 12)]);
		if (rand() % 4 == 0)
			nr_forgot += (unsigned)forget(
				t, (uint64_t)rand() % ORIGINS, 2);
		if (rand() % 4)
			continue;
		for (uint64_t i = 0; i <= nr; i++)
			has[i] = how_many(t, first + 4 * i, first + 4 * i + 4);
		t = again(t, bytes);
		for (uint64_t i = 0; i <= nr; i++)
			if (how_many(t, first + 4 * i, first + 4 * i + 4) !=
			    has[i])
				fail_msg("%llu of %llu: %u before",
					 (unsigned long long)i,
					 (unsigned long long)nr, has[i]);
	}
	assert_true(nr_forgot > 40);
	tier_free(t);
	unlink(path);
}

static void test_ring(void **state)
{
	for (unsigned seed = 1; seed <= 10; seed++) {
		srand(seed);
		ring_walk(0, ROOM(9) + TIER_ALIGN);
		ring_walk(SIZED, ROOM(9) + TIER_ALIGN);
		ring_walk(SIZED, ROOM(6));
	}
}

/* What a round has left behind its end stays none when the mark has gone. */
static void test_left_behind(void **state)
{
	const uint64_t bytes = 10 * TIER_ALIGN, two = SIZED + 1;
	struct tier *t = file_tier(bytes);
	uint64_t last = two + 4 * 3;

	for (uint64_t i = 0; i < 4; i++) /* at 1, 3, 5 and 7 */
		put(t, two + 4 * i);
	put(t, two + 4 * 5);		  /* does not fit at 9: at 1 */
	assert_true(got(t, two + 4 * 1) && got(t, last));
	forget(t, last % ORIGINS, 9);	  /* a mark, at 3 */
	assert_false(got(t, last));
	put(t, SIZED + 2 + 4 * 10);	  /* three blocks, at 4 */
	put(t, SIZED + 3 + 4 * 10);	  /* four do not fit at 7: at 1 */
	t = again(t, bytes);
	assert_true(got(t, SIZED + 3 + 4 * 10));
	assert_false(got(t, last));
	assert_int_equal(stat_of(t).entries, 1);
	tier_free(t);
}

/* Put again since: of the two that are in the file the later one counts. */
static void test_again(void **state)
{
	struct tier *t = file_tier(ROOM(6));

	for (uint64_t i = 0; i < 5; i++)
		put(t, i);
	forget(t, 4 % ORIGINS, 9);
	put(t, 10);
	put(t, 4); /* near the beginning of the file; behind it as it was */
	t = again(t, ROOM(6));
	assert_true(got(t, 4) && got(t, 10) && got(t, 3));
	assert_false(got(t, 1));
	tier_free(t);
}

/* The last page of an origin goes by itself between two steps. */
static void test_interrupted(void **state)
{
	struct tier_forgot forgot = { .pages = 0 };
	struct tier *t = file_tier(ROOM(9));

	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	assert_true(t->ops->forget(t, 0, 2, &forgot)); /* 0, 3; not 6 */
	assert_int_equal(forgot.pages, 2);
	put(t, 10); /* the ring goes on */
	t = again(t, ROOM(9));
	assert_int_equal(how_many(t, 0, 1) + how_many(t, 3, 4) +
			 how_many(t, 6, 7), 0);
	assert_int_equal(how_many(t, 4, 6), 2);
	tier_free(t);
}

/* Ended with much to be written: pages need not be, what was forgotten must. */
static void test_ended(void **state)
{
	struct tier *t = file_tier(ROOM(64));

	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	t->ops->flush(t);
	faults("tier-write:20ms");
	for (uint64_t i = 10; i < 40; i++)
		put(t, i);
	t->ops->forget(t, 0, 100, &(struct tier_forgot){ .pages = 0 });
	tier_free(t);
	faults(NULL);
	assert_int_equal(said.owes, 0);
	t = file_tier(ROOM(64));
	for (uint64_t i = 0; i < 40; i++)
		if (i % ORIGINS == 0)
			assert_false(got(t, i));
	assert_int_equal(how_many(t, 0, 9), 6);
	tier_free(t);
}

#define ROUND (12 * TIER_ALIGN)

/* Pages of two blocks at 1 to 9, one of one at 11, and the next round's at 1. */
static struct tier *round_begun(void)
{
	static const uint64_t pages[] = { 1, 5, 9, 13, 17, 20, 24 };
	struct tier *t = file_tier(ROUND);

	for (int i = 0; i < 7; i++)
		put(t, SIZED + pages[i]);
	return t;
}

/* The same where what is not written leaves old records, which reach behind
 * the beginning of what comes after them. */
static void test_ended_over_old(void **state)
{
	const uint64_t gone = SIZED + 13;
	struct tier *t = round_begun();

	t->ops->flush(t);
	assert_true(got(t, gone));
	faults("tier-write:20ms");
	put(t, SIZED + 29);
	put(t, SIZED + 33);
	t->ops->forget(t, gone % ORIGINS, 9,
		       &(struct tier_forgot){ .pages = 0 });
	tier_free(t);
	faults(NULL);
	assert_int_equal(said.owes, 0);
	t = file_tier(ROUND);
	assert_false(got(t, gone));
	assert_true(got(t, SIZED + 17) && got(t, SIZED + 20));
	tier_free(t);
}

/* A mark cannot be written, where an old record reaches behind it. */
static void test_failed_over_old(void **state)
{
	const uint64_t gone = SIZED + 13;
	struct tier *t = round_begun();

	put(t, SIZED + 36); /* one block, at 2: the next is at 3 */
	t->ops->flush(t);
	faults("tier-write@1:EIO");
	forget(t, gone % ORIGINS, 9);
	t->ops->flush(t);
	faults(NULL);
	assert_int_equal(said.bad, 1);
	wait_until_good(t);
	put(t, SIZED + 32);
	t = again(t, ROUND);
	assert_false(got(t, gone));
	assert_true(got(t, SIZED + 32) && got(t, SIZED + 36));
	tier_free(t);
}

/* What memory does not have any more is in the file still. */
static void test_unreadable(void **state)
{
	struct tier *t = file_tier(ROOM(9));

	put(t, 0);
	put(t, 1);
	t->ops->flush(t);
	faults("tier-read@1:EIO");
	assert_false(got(t, 0));
	faults(NULL);
	assert_int_equal(forget(t, 0, 9), 0);
	t->ops->flush(t);
	wait_until_good(t);
	t = again(t, ROOM(9));
	assert_false(got(t, 0));
	assert_true(got(t, 1));
	tier_free(t);
}

/* Neither then nor before: it is said. */
static void test_ended_in_trouble(void **state)
{
	struct tier_forgot forgot = { .pages = 0 };
	struct tier *t = file_tier(ROOM(16));

	put(t, 0);
	t->ops->flush(t);
	faults("tier-write:ENOSPC");
	assert_false(t->ops->forget(t, 0, 100, &forgot));
	assert_false(forgot.owed);
	assert_true(t->ops->forget(t, 0, 0, &forgot)); /* being written */
	t->ops->flush(t);
	assert_false(t->ops->forget(t, 0, 0, &forgot));
	assert_true(forgot.owed);
	tier_free(t);
	faults(NULL);
	assert_int_equal(said.owes, 1);
	t = file_tier_begun(ROOM(16));
	forgot.owed = false;
	assert_false(t->ops->forget(t, 0, 100, &forgot));
	assert_true(forgot.owed);
	tier_free(t); /* it has not been read */
	assert_int_equal(said.owes, 2);
}

/* A page could not be written where one was that is forgotten. */
static void test_hole(void **state)
{
	struct tier *t = file_tier(ROOM(6));
	uint64_t nr = 20;

	for (uint64_t i = 0; i < 6; i++)
		put(t, i);
	forget(t, 0, 100); /* 0 and 3; its mark is where 0 was, */
	put(t, SIZED);	   /* with a page of one block */
	for (int i = 0; i < 2; i++, nr++)
		put(t, nr);
	t->ops->flush(t);
	faults("tier-write@1:EIO");
	put(t, nr++);
	t->ops->flush(t);
	faults(NULL);
	for (int i = 0; i < 100 && !how_many(t, nr, nr + 1); i++) {
		usleep(100000); /* it is left alone for a time */
		put(t, nr);
		t->ops->flush(t);
	}
	t = again(t, ROOM(6));
	assert_false(got(t, 0));
	assert_false(got(t, 3));
	assert_true(got(t, nr));
	tier_free(t);
}

/* More than anybody would note while a file cannot be read: all goes. */
static void test_too_much(void **state)
{
	struct tier_forgot forgot = { .pages = 0 };
	struct tier *t = file_tier(ROOM(16));

	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	t->ops->flush(t);
	tier_free(t);
	t = file_tier_begun(ROOM(16));
	for (uint64_t i = 0; i < 2000; i++)
		t->ops->forget(t, 100 + i, 100, &forgot);
	assert_true(forgot.owed);
	for (int restarts = 0; restarts < 2; restarts++) {
		t->ops->flush(t);
		assert_int_equal(how_many(t, 0, 9), 0);
		if (restarts)
			break;
		put(t, 7);
		t = again(t, ROOM(16));
		assert_true(got(t, 7));
		put(t, 8);
		assert_true(got(t, 8));
		forget(t, 7 % ORIGINS, 9);
		forget(t, 8 % ORIGINS, 9);
	}
	tier_free(t);
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
		TEST(test_forget), TEST(test_ring), TEST(test_left_behind),
		TEST(test_again), TEST(test_interrupted),
		TEST(test_ended),
		TEST(test_ended_over_old), TEST(test_failed_over_old), TEST(test_unreadable),
		TEST(test_ended_in_trouble), TEST(test_hole),
		TEST(test_too_much), TEST(test_many),
		TEST(test_reading), TEST(test_owed), TEST(test_shut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
