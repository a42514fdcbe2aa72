// SPDX-License-Identifier: Apache-2.0
/*
 * test_restart.c - the daemon dies and comes back with what was kept.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/check.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

static const char *const short_grace[] = { "--grace", "1500ms", NULL };
static const char *const long_grace[] = { "--grace", "60s", NULL };

static void status_of(const char *socket, uint32_t *restarts, char *state,
		      uint64_t *epoch)
{
	Kvd__StatusRequest req = KVD__STATUS_REQUEST__INIT;
	Kvd__StatusReply *reply;
	int fd = raw_open(socket);

	assert_int_equal(raw_call(fd, WIRE_STATUS, &req.base,
				  &kvd__status_reply__descriptor, &reply,
				  NULL), 0);
	*restarts = reply->restarts;
	*epoch = reply->epoch;
	strcpy(state, reply->state);
	kvd__status_reply__free_unpacked(reply, NULL);
	close(fd);
}

/* Published pages and held ones are there again, by their handles. */
static void restart(bool clean)
{
	struct manager m;
	uint64_t h[4], epoch, epoch_after;
	uint32_t space, restarts;
	char state[16];
	int fd, i;

	manager_start(&m, long_grace);
	status_of(m.daemon.socket, &restarts, state, &epoch);
	assert_string_equal(state, "ready");
	fd = raw_open(m.daemon.socket);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, space, 4, 5000, h, NULL), 0);
	assert_int_equal(raw_publish(fd, space, h[0], 5), 0);
	assert_int_equal(raw_publish(fd, space, h[1], 6), 0);
	assert_int_equal(raw_release(fd, h, 1), 0); /* cached now */
	if (clean)
		manager_term(&m);
	else
		manager_kill(&m);
	assert_true(raw_at_end(fd));
	close(fd);

	manager_again(&m, long_grace);
	status_of(m.daemon.socket, &restarts, state, &epoch_after);
	assert_int_equal(restarts, 1);
	assert_string_equal(state, "grace");
	assert_int_equal(epoch, epoch_after);
	fd = raw_open(m.daemon.socket);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_match(fd, space, h, 2), 2);
	for (i = 1; i < 4; i++)
		assert_int_equal(raw_claim(fd, space, h[i]), 1);
	assert_int_equal(raw_release(fd, h + 2, 2), 0);
	raw_bye(fd);
	close(fd);
	manager_stop(&m);
}

static void test_killed(void **state)
{
	restart(false);
}

static void test_terminated(void **state)
{
	restart(true);
}

/* A writer that does not come back but lives: quarantine, till it dies. */
static void test_unclaimed(void **state)
{
	struct manager m;
	struct daemon_stat st;
	struct timespec t = { .tv_nsec = 20000000 };
	int ready[2], i;
	pid_t pid;
	char c;

	manager_start(&m, short_grace);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		uint64_t h[8];
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = raw_open(m.daemon.socket);
		CHECK(raw_alloc(fd, (uint32_t)raw_open_space(fd, 1), 8, 5000,
				h, NULL) == 0, "alloc");
		CHECK(write(ready[1], "r", 1) == 1, "pipe");
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	manager_kill(&m);
	manager_again(&m, short_grace);
	daemon_stat(m.daemon.socket, &st);
	assert_int_equal(st.open, 8);
	for (i = 0; i < 500; i++) {
		daemon_stat(m.daemon.socket, &st);
		if (st.quarantined == 8)
			break;
		nanosleep(&t, NULL);
	}
	assert_int_equal(st.quarantined, 8);
	assert_int_equal(st.open, 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	daemon_assert_idle_at(m.daemon.socket);
	manager_stop(&m);
	close(ready[0]);
	close(ready[1]);
}

static void wait_open(const char *socket, uint64_t nr)
{
	struct timespec t = { .tv_nsec = 5000000 };
	struct daemon_stat st;
	int i;

	for (i = 0; i < 1000; i++) {
		daemon_stat(socket, &st);
		if (st.open == nr && !st.quarantined)
			return;
		nanosleep(&t, NULL);
	}
	fail_msg("%llu open, %llu quarantined", (unsigned long long)st.open,
		 (unsigned long long)st.quarantined);
}

/*
 * Pages whose handles never arrived, of a process that lives: they go back
 * when the next of the series has claimed what it knows. Those of another
 * series stay, and so does everything where there is none.
 */
static void test_rest(void **state)
{
	static uint64_t h[600], other[3];
	struct manager m;
	uint32_t space;
	int fd, next, none, fd_other;

	manager_start(&m, long_grace);
	fd = raw_open_series(m.daemon.socket, 7);
	fd_other = raw_open_series(m.daemon.socket, 8);
	space = (uint32_t)raw_open_space(fd, 1);
	raw_open_space(fd_other, 1);
	assert_int_equal(raw_alloc(fd, space, 300, 5000, h, NULL), 0);
	assert_int_equal(raw_alloc(fd, space, 300, 5000, h + 300, NULL), 0);
	assert_int_equal(raw_alloc(fd_other, space, 3, 5000, other, NULL), 0);
	manager_kill(&m);
	close(fd);
	close(fd_other);

	manager_again(&m, long_grace);
	none = raw_open_series(m.daemon.socket, 0);
	raw_claim_rest(none, (uint32_t)raw_open_space(none, 1));
	wait_open(m.daemon.socket, 603);
	fd = raw_open_series(m.daemon.socket, 7);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_claim(fd, space, h[0]), 1);
	assert_int_equal(raw_claim(fd, space, h[599]), 1);
	assert_int_equal(raw_claim_rest(fd, space), 2);
	wait_open(m.daemon.socket, 5);
	assert_int_equal(raw_claim(fd, space, h[1]), 0);

	/* And where only the connection was lost. */
	next = raw_open_series(m.daemon.socket, 7);
	raw_open_space(next, 1);
	assert_int_equal(raw_claim(next, space, h[599]), 1);
	raw_claim_rest(next, space);
	close(fd);
	wait_open(m.daemon.socket, 4);
	fd_other = raw_open_series(m.daemon.socket, 8);
	raw_open_space(fd_other, 1);
	assert_int_equal(raw_claim(fd_other, space, other[2]), 1);
	raw_bye(none);
	raw_bye(next);
	raw_claim_rest(fd_other, space);
	wait_open(m.daemon.socket, 1);
	raw_bye(fd_other);
	close(fd_other);
	close(none);
	close(next);
	daemon_assert_idle_at(m.daemon.socket);
	manager_stop(&m);
}

/* A writer that died while there was no daemon. */
static void test_dead_writer(void **state)
{
	struct manager m;
	pid_t pid;
	int status;

	manager_start(&m, short_grace);
	pid = fork();
	if (pid == 0) {
		uint64_t h[8];
		int fd = raw_open(m.daemon.socket);

		CHECK(raw_alloc(fd, (uint32_t)raw_open_space(fd, 1), 8, 5000,
				h, NULL) == 0, "alloc");
		kill(m.daemon.pid, SIGKILL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	manager_kill(&m);
	manager_again(&m, short_grace);
	daemon_assert_idle_at(m.daemon.socket);
	manager_stop(&m);
}

/* Many times in a row: nothing is lost, nothing piles up. */
static void test_again_and_again(void **state)
{
	struct manager m;
	uint32_t space, restarts;
	unsigned nr_fds = 0, i;
	uint64_t h, epoch;
	char text[16];
	int fd;

	manager_start(&m, short_grace);
	fd = raw_open(m.daemon.socket);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &h, NULL), 0);
	assert_int_equal(raw_publish(fd, space, h, 5), 0);
	raw_bye(fd);
	close(fd);
	for (i = 1; i <= 8; i++) {
		manager_kill(&m);
		manager_again(&m, short_grace);
		status_of(m.daemon.socket, &restarts, text, &epoch);
		assert_int_equal(restarts, i);
		fd = raw_open(m.daemon.socket);
		space = (uint32_t)raw_open_space(fd, 1);
		assert_int_equal(raw_match(fd, space, &h, 1), 1);
		raw_bye(fd);
		close(fd);
		if (i == 1)
			nr_fds = manager_nr_fds(&m, NULL);
		assert_int_equal(manager_nr_fds(&m, NULL), nr_fds);
	}
	daemon_assert_idle_at(m.daemon.socket);
	manager_stop(&m);
}

/* Descriptors that make no sense: started empty, nothing is believed. */
static void test_junk(void **state)
{
	static const char *const names[] = { "kvd-table", "kvd-seg-1",
					     "something" };
	struct manager m;
	uint64_t epoch;
	uint32_t restarts;
	char text[16];
	unsigned i;
	int fd;

	manager_start(&m, short_grace);
	manager_kill(&m);
	for (i = 0; i < m.nr_fds; i++)
		close(m.fds[i].fd);
	for (i = 0; i < 3; i++) {
		strcpy(m.fds[i].name, names[i]);
		fd = memfd_create("junk", MFD_CLOEXEC);
		assert_int_equal(write(fd, "junk junk junk junk", 19), 19);
		m.fds[i].fd = fd;
	}
	m.nr_fds = 3;
	manager_again(&m, short_grace);
	status_of(m.daemon.socket, &restarts, text, &epoch);
	assert_string_equal(text, "ready");
	assert_int_equal(restarts, 0);
	daemon_assert_idle_at(m.daemon.socket);
	manager_stop(&m);
}

static void test_watchdog_and_status(void **state)
{
	struct manager m;
	struct timespec t = { .tv_nsec = 50000000 };
	unsigned i, nr = 0;

	setenv("WATCHDOG_USEC", "200000", 1);
	manager_start(&m, NULL);
	for (i = 0; i < 100 && nr < 5; i++) {
		nanosleep(&t, NULL);
		pthread_mutex_lock(&m.lock);
		nr = m.nr_watchdog;
		pthread_mutex_unlock(&m.lock);
	}
	assert_true(nr >= 5);
	assert_non_null(strstr(m.status, "host: "));
	manager_stop(&m);
	unsetenv("WATCHDOG_USEC");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_terminated),
		cmocka_unit_test(test_unclaimed),
		cmocka_unit_test(test_rest),
		cmocka_unit_test(test_dead_writer),
		cmocka_unit_test(test_again_and_again),
		cmocka_unit_test(test_junk),
		cmocka_unit_test(test_watchdog_and_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
