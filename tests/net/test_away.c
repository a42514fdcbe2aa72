// SPDX-License-Identifier: Apache-2.0
/*
 * test_away.c - a connection breaks, both processes live: what it held waits
 * for the next one of its series.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/net/away.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define SERIES	   7u
#define NR_PAGES   4u /* of a connection; the first is sealed */
#define LONG_GRACE "60s"

static void start(struct daemon *d, const char *grace)
{
	const char *const args[] = { "--grace", grace, NULL };

	daemon_start(d, args);
}

static int hold(const char *socket, uint32_t series, uint32_t *space,
		uint64_t *h)
{
	int fd = raw_open_series(socket, series);

	*space = (uint32_t)raw_open_space(fd, 1);
	CHECK(raw_alloc(fd, *space, NR_PAGES, 5000, h, NULL) == 0, "alloc");
	CHECK(raw_publish(fd, *space, h[0], series) == 0, "publish");
	return fd;
}

static bool wait_for(const char *socket, uint64_t open, uint64_t sealed,
		     uint64_t quarantined)
{
	struct timespec t = { .tv_nsec = 5000000 };
	struct daemon_stat st;

	for (int i = 0; i < 1000; i++) {
		daemon_stat(socket, &st);
		if (!st.nr_clients && st.open == open && st.sealed == sealed &&
		    st.quarantined == quarantined)
			return true;
		nanosleep(&t, NULL);
	}
	return false;
}

/* Nothing has changed for the next one, which claims a part; the rest goes. */
static void test_claimed(void **state)
{
	uint64_t h[NR_PAGES];
	struct daemon d;
	uint32_t space;

	start(&d, LONG_GRACE);
	close(hold(d.socket, SERIES, &space, h));
	assert_true(wait_for(d.socket, NR_PAGES - 1, 1, 0));
	int fd = raw_open_series(d.socket, SERIES);

	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_claim(fd, space, h[1]), 1);
	raw_claim_rest(fd, space);
	assert_int_equal(raw_claim(fd, space, h[2]), 0);
	close(fd);
	assert_true(wait_for(d.socket, 1, 0, 0));
	fd = raw_open_series(d.socket, SERIES);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_claim(fd, space, h[1]), 1);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* One that says bye gives back what the one before it had. */
static void test_bye(void **state)
{
	uint64_t h[NR_PAGES];
	struct daemon d;
	uint32_t space;
	int fd, other;

	start(&d, LONG_GRACE);
	close(hold(d.socket, SERIES, &space, h));
	assert_true(wait_for(d.socket, NR_PAGES - 1, 1, 0));
	other = raw_open_series(d.socket, SERIES + 1);
	raw_bye(other);
	close(other);
	assert_true(wait_for(d.socket, NR_PAGES - 1, 1, 0));
	fd = raw_open_series(d.socket, SERIES);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* When the time is over, open pages wait for the end of their writer. */
static void test_late(void **state)
{
	uint64_t h[NR_PAGES];
	struct daemon d;
	uint32_t space;
	int fd;

	start(&d, "300ms");
	close(hold(d.socket, SERIES, &space, h));
	assert_true(wait_for(d.socket, 0, 0, NR_PAGES - 1));
	fd = raw_open_series(d.socket, SERIES);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_claim(fd, space, h[1]), 1);
	raw_claim_rest(fd, space);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* The process ends meanwhile: nobody waits for the time. */
static void test_dead(void **state)
{
	struct daemon d;
	int ready[2], status;
	pid_t pid;
	char c;

	start(&d, LONG_GRACE);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		uint64_t h[NR_PAGES];
		uint32_t space;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(hold(d.socket, SERIES, &space, h));
		hold(d.socket, SERIES, &space, h);
		CHECK(write(ready[1], "r", 1) == 1, "pipe");
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	close(ready[0]);
	close(ready[1]);
}

/* Of a process that breaks all its connections not all are waited for; nor is
 * one that says it does not come back. */
static void test_many(void **state)
{
	uint64_t h[NR_PAGES];
	const uint64_t open = NR_PAGES - 1, n = AWAY_MAX_OF_PROC;
	struct daemon d;
	uint32_t space;

	start(&d, LONG_GRACE);
	for (uint32_t i = 0; i < n + 2; i++)
		close(hold(d.socket, SERIES + i, &space, h));
	close(hold(d.socket, 0, &space, h));
	assert_true(wait_for(d.socket, n * open, n, 3 * open));
	for (uint32_t i = 0; i < n + 2; i++) {
		int fd = raw_open_series(d.socket, SERIES + i);

		raw_claim_rest(fd, 0);
		raw_bye(fd);
		close(fd);
	}
	assert_true(wait_for(d.socket, 0, 0, open));
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claimed), cmocka_unit_test(test_bye),
		cmocka_unit_test(test_late), cmocka_unit_test(test_dead),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
