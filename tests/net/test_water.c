// SPDX-License-Identifier: Apache-2.0
/*
 * test_water.c - a daemon makes room before it is asked for, by itself.
 *
 * Pages are 32 KiB, 512 in the pool; low is 32 of them, high 64.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define PAGE  32768ull
#define PAGES 512u

static struct daemon d;

static void start(const char *low, const char *high)
{
	const char *args[] = { "--pool", "16M", "--segment", "8M", "--set", low,
			       "--set", high, NULL };

	daemon_start(&d, args);
}

static void stop(int fd)
{
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

static struct daemon_stat stat_now(void)
{
	struct daemon_stat st;

	daemon_stat(d.socket, &st);
	return st;
}

/* @nr pages cached, of prompts that begin with token 32 * @seed and on. */
static void cache(int fd, uint32_t space, uint32_t nr, uint32_t seed)
{
	uint64_t h[64];

	assert_true(nr <= 64);
	assert_int_equal(raw_alloc(fd, space, nr, 5000, h, NULL), 0);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(raw_publish(fd, space, h[i], seed + i), 0);
	assert_int_equal(raw_release(fd, h, nr), 0);
}

static void wait_for_room(uint64_t bytes)
{
	for (int ms = 0; stat_now().room != bytes; ms++) {
		if (ms > 5000)
			fail_msg("free room is %llu after 5 s, not %llu",
				 (unsigned long long)stat_now().room,
				 (unsigned long long)bytes);
		usleep(1000);
	}
}

static void test_background(void **state)
{
	uint32_t space;
	uint64_t h[64];
	int fd;

	start("watermark-low=1M", "watermark-high=12.5%");
	fd = raw_open(d.socket);
	space = raw_open_space(fd, 1);
	assert_int_equal(stat_now().mark_high, 64 * PAGE);
	for (uint32_t i = 0; i < 7; i++)
		cache(fd, space, 64, 64 * i);
	cache(fd, space, 32, 64 * 7);
	usleep(20000);
	assert_int_equal(stat_now().room, 32 * PAGE);
	assert_int_equal(stat_now().evicted, 0);
	cache(fd, space, 1, 64 * 8);
	wait_for_room(64 * PAGE);
	assert_int_equal(stat_now().background, 33);
	assert_int_equal(stat_now().evicted, 33);
	/* What was made is there for who asks, and has no deadline. */
	assert_int_equal(raw_alloc(fd, space, 32, 0, h, NULL), 0);
	assert_int_equal(stat_now().evicted, 33);
	assert_int_equal(stat_now().direct, 0);
	assert_int_equal(raw_release(fd, h, 32), 0);
	stop(fd);
}

static void test_none(void **state)
{
	uint32_t space;
	int fd;

	start("watermark-low=0", "watermark-high=0");
	fd = raw_open(d.socket);
	space = raw_open_space(fd, 1);
	for (uint32_t i = 0; i < 8; i++)
		cache(fd, space, 64, 64 * i);
	usleep(20000);
	assert_int_equal(stat_now().room, 0);
	cache(fd, space, 64, 64 * 9);
	assert_int_equal(stat_now().background, 0);
	assert_int_equal(stat_now().direct, 64);
	stop(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_background),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
