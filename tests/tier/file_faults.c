/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_faults.c - a disk that is full, gone, read-only, slow: no tier, said
 * once, and a tier again when it is well.
 *
 * Time is what the test says, where only a tick looks at it; a disk that fails
 * is left alone for five seconds, and one is slow that takes two.
 */
#include "tests/tier/fixture.h"
#include "daemon/util/clock.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND	    1000000000ull

/* Puts until it is taken, for ten seconds. */
static bool comes_back(struct tier *t, uint64_t nr)
{
	for (int i = 0; i < 100; i++) {
		put(t, nr);
		t->ops->flush(t);
		if (how_many(t, nr, nr + 1))
			return true;
		usleep(100000);
	}
	return false;
}

/* Full by ENOSPC; what is there can be read; it comes back. */
static void test_full(void **state)
{
	struct tier *t = file_tier(ROOM(64));

	put(t, 0);
	t->ops->flush(t);
	faults("tier-write:ENOSPC");
	for (uint64_t i = 1; i < 20; i++)
		put(t, i);
	t->ops->flush(t);
	assert_int_equal(how_many(t, 1, 20), 0);
	assert_int_equal(said.bad, 1);
	assert_non_null(strstr(said.what, "No space left"));
	assert_string_equal(stat_of(t).trouble, said.what);
	assert_true(got(t, 0));
	put(t, 1); /* not even tried */
	assert_true(stat_of(t).refused > 0);
	faults(NULL);
	assert_true(comes_back(t, 30));
	assert_int_equal(said.good, 1);
	assert_string_equal(stat_of(t).trouble, "");
	put(t, 31);
	assert_true(got(t, 31));
	tier_free(t);
}

/* The same by a limit of the system's, and no signal. */
static void test_limit(void **state)
{
	struct rlimit was, lim;
	struct tier *t = file_tier(ROOM(64));

	getrlimit(RLIMIT_FSIZE, &was);
	lim = was;
	lim.rlim_cur = ROOM(4);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
	for (uint64_t i = 0; i < 8; i++)
		put(t, i);
	t->ops->flush(t);
	setrlimit(RLIMIT_FSIZE, &was);
	assert_int_equal(how_many(t, 0, 8), 4);
	assert_int_equal(said.bad, 1);
	for (uint64_t i = 0; i < 4; i++)
		assert_true(got(t, i));
	tier_free(t);
}

static void test_read_error(void **state)
{
	struct tier *t = file_tier(ROOM(64));

	put(t, 1);
	t->ops->flush(t);
	faults("tier-read:EIO");
	assert_false(got(t, 1));
	faults(NULL);
	assert_false(got(t, 1));
	assert_int_equal(said.bad, 1);
	assert_int_equal(stat_of(t).errors, 1);
	tier_free(t);
}

/* No directory for it, then there is one. */
static void test_no_place(void **state)
{
	char sub[64];
	struct tier *t;

	snprintf(sub, sizeof(sub), "%.50s/sub", dir);
	snprintf(path, sizeof(path), "%s/tier", sub);
	t = file_tier(ROOM(8));
	assert_int_equal(said.bad, 1);
	assert_non_null(strstr(said.what, "No such file"));
	put(t, 1);
	assert_false(got(t, 1));
	mkdir(sub, 0700);
	t->ops->tick(t, clock_ns());
	t->ops->flush(t);
	assert_int_equal(said.good, 0); /* it is not time yet */
	t->ops->tick(t, clock_ns() + 6 * SECOND);
	t->ops->flush(t);
	assert_int_equal(said.good, 1);
	put(t, 1);
	assert_true(got(t, 1));
	tier_free(t);
	unlink(path);
	rmdir(sub);
}

/* Nothing can be made there: not by root either, in /proc. */
static void test_read_only(void **state)
{
	struct tier *t;

	if (geteuid() == 0)
		snprintf(path, sizeof(path), "/proc/kvd-tier");
	else
		chmod(dir, 0500);
	t = file_tier(ROOM(8));
	chmod(dir, 0700);
	assert_int_equal(said.bad, 1);
	assert_true(stat_of(t).trouble[0]);
	put(t, 1);
	assert_false(got(t, 1));
	tier_free(t);
}

/* Removed while it is in use: it begins anew. */
static void test_removed(void **state)
{
	struct tier *t = file_tier(ROOM(8));

	put(t, 1);
	t->ops->flush(t);
	unlink(path);
	assert_true(got(t, 1)); /* nothing is wrong with it yet */
	t->ops->tick(t, clock_ns() + 11 * SECOND);
	t->ops->flush(t);
	assert_false(got(t, 1));
	assert_int_equal(access(path, R_OK), 0);
	put(t, 2);
	assert_true(got(t, 2));
	assert_int_equal(said.bad, 0);
	tier_free(t);
}

/* A write that takes long holds up nothing here, and is said. */
static void test_slow(void **state)
{
	struct tier *t = file_tier(ROOM(64));
	uint64_t begin;

	put(t, 1);
	t->ops->flush(t);
	faults("tier-write@1:2500ms");
	begin = clock_ns();
	put(t, 2);
	assert_int_equal(how_many(t, 1, 2), 1);
	assert_true(clock_ns() - begin < SECOND);
	while (clock_ns() - begin < 2 * SECOND + SECOND / 5)
		usleep(10000);
	assert_int_equal(how_many(t, 1, 3), 0); /* as if it had none */
	put(t, 3);
	assert_int_equal(stat_of(t).refused, 1);
	t->ops->tick(t, clock_ns());
	assert_int_equal(said.bad, 1);
	assert_non_null(strstr(stat_of(t).trouble, "does not answer"));
	t->ops->flush(t);
	t->ops->tick(t, clock_ns());
	assert_int_equal(said.good, 1);
	assert_true(got(t, 1));
	assert_true(got(t, 2));
	tier_free(t);
	faults(NULL);
}

/* What waits at the end is told that there is nothing. */
static void on_nothing(struct tier_get *get, struct tier_page *page)
{
	assert_null(page);
	get->done = NULL;
}

static void test_end(void **state)
{
	struct tier_get get = { .done = on_nothing };
	struct tier *t = file_tier(ROOM(64));
	struct tier_key key = key_of(1);

	put(t, 1);
	t->ops->flush(t);
	faults("tier-write:300ms");
	put(t, 2);
	usleep(50000); /* it is being written, and what follows waits */
	t->ops->get(t, &key, &get);
	assert_non_null(get.done);
	tier_free(t);
	assert_null(get.done);
	faults(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_full, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_limit, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_read_error, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_no_place, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_read_only, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_removed, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_slow, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_end, dir_setup,
						dir_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
