// SPDX-License-Identifier: Apache-2.0
/*
 * test_death.c - how clients go, and when their pages are free again.
 *
 * Pages of a writer are reused only when its socket has hung up and its
 * process is gone; what it published stays.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define NR_PAGES 16

static struct daemon d;

static int setup(void **state)
{
	daemon_start(&d, NULL);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until @field of the statistics is @want. */
#define WAIT_STAT(field, want)                                             \
	do {                                                               \
		struct daemon_stat st_;                                    \
		int64_t end_ = now_ms() + DAEMON_DEADLINE_MS;              \
									   \
		do                                                         \
			daemon_stat(d.socket, &st_);                       \
		while (st_.field != (want) && now_ms() < end_);            \
		assert_int_equal(st_.field, want);                         \
	} while (0)

/* Connects and takes pages. Return: the connection. */
static int hold_pages(uint64_t *handles)
{
	int fd = raw_open(d.socket);
	int space = raw_open_space(fd, 1);

	CHECK(space >= 0, "space");
	CHECK(raw_alloc(fd, (uint32_t)space, NR_PAGES, 5000, handles,
			NULL) == 0, "alloc");
	return fd;
}

static void do_nothing(int fd)
{
}

static void sleep_on(int fd)
{
	pause();
}

/* A worker that has pages, and has done @work when this returns; it goes on
 * with @then. */
static pid_t start_worker_then(void (*work)(int fd), void (*then)(int fd))
{
	uint64_t handles[NR_PAGES];
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = hold_pages(handles);
		work(fd);
		CHECK(write(ready[1], "r", 1) == 1, "pipe");
		then(fd);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static pid_t start_worker(void (*work)(int fd))
{
	return start_worker_then(work, sleep_on);
}

static void reap(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_sigkill(void **state)
{
	pid_t pid;
	int i;

	for (i = 0; i < 20; i++) {
		pid = start_worker(do_nothing);
		WAIT_STAT(open, NR_PAGES);
		kill(pid, SIGKILL);
		daemon_assert_idle(&d); /* a zombie is dead enough */
		reap(pid);
	}
}

static void work_fork(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		struct timespec t = { .tv_nsec = 600000000 };

		nanosleep(&t, NULL);
		_exit(0);
	}
}

/* A child that has inherited the socket may have inherited the GPU too. */
static void test_forked_child(void **state)
{
	int64_t t = now_ms();
	pid_t pid = start_worker(work_fork);
	struct daemon_stat st;

	kill(pid, SIGKILL);
	reap(pid);
	daemon_stat(d.socket, &st);
	if (now_ms() - t < 400) /* the child still lives */
		assert_int_equal(st.open, NR_PAGES);
	daemon_assert_idle(&d);
	assert_true(now_ms() - t >= 600);
}

static void work_close(int fd)
{
	close(fd);
}

/* Gone without a bye while its process lives: its device may still write. */
static void test_close_without_bye(void **state)
{
	pid_t pid = start_worker(work_close);
	struct daemon_stat st;

	WAIT_STAT(quarantined, NR_PAGES);
	usleep(100000);
	daemon_stat(d.socket, &st);
	assert_int_equal(st.quarantined, NR_PAGES);
	kill(pid, SIGKILL);
	daemon_assert_idle(&d);
	reap(pid);
}

static void work_empty_message(int fd)
{
	uint8_t b[1] = { 0 };

	CHECK(raw_send_bytes(fd, b, 0, NULL, 0) == 0, "send");
	CHECK(raw_at_end(fd), "still connected"); /* and stays open here */
}

/* We hung up first, so it cannot be seen that it does: time has to pass. */
static void test_cut_off(void **state)
{
	pid_t pid = start_worker(work_empty_message);
	struct daemon_stat st;
	int64_t t;

	WAIT_STAT(quarantined, NR_PAGES);
	t = now_ms();
	kill(pid, SIGKILL);
	reap(pid);
	daemon_stat(d.socket, &st);
	if (now_ms() - t < 800)
		assert_int_equal(st.quarantined, NR_PAGES);
	daemon_assert_idle(&d);
	assert_true(now_ms() - t >= 990);
}

static void work_bye(int fd)
{
	raw_bye(fd);
	close(fd);
}

static void test_bye(void **state)
{
	pid_t pid = start_worker(work_bye);

	daemon_assert_idle(&d); /* while it lives */
	kill(pid, SIGKILL);
	reap(pid);
}

static void work_second_connection(int fd)
{
	uint64_t handles[NR_PAGES];

	hold_pages(handles);
	close(fd);
}

/* One of two connections of a process ends: its pages wait for the process,
 * the other's are not touched. */
static void test_two_connections(void **state)
{
	pid_t pid = start_worker(work_second_connection);

	WAIT_STAT(quarantined, NR_PAGES);
	WAIT_STAT(open, NR_PAGES);
	kill(pid, SIGKILL);
	daemon_assert_idle(&d);
	reap(pid);
}

static void work_publish(int fd)
{
	uint64_t h;
	int space = raw_open_space(fd, 1);

	CHECK(raw_alloc(fd, (uint32_t)space, 1, 5000, &h, NULL) == 0, "alloc");
	CHECK(raw_publish(fd, (uint32_t)space, h, 77) == 0, "publish");
}

/* What it published stays. */
static void test_published_stays(void **state)
{
	struct daemon_stat st;
	pid_t pid;

	pid = start_worker(work_publish);
	WAIT_STAT(sealed, 1);
	kill(pid, SIGKILL);
	daemon_assert_idle(&d);
	reap(pid);
	daemon_stat(d.socket, &st);
	assert_int_equal(st.cached, 1);
}

/* Dies with requests on their way. */
static void work_flood(int fd)
{
	for (;;)
		raw_send(fd, WIRE_STATUS, 1, NULL, 0);
}

static void test_dies_sending(void **state)
{
	pid_t pid;
	int i;

	for (i = 0; i < 10; i++) {
		pid = start_worker_then(do_nothing, work_flood);
		usleep(10000);
		kill(pid, SIGKILL);
		reap(pid);
		daemon_assert_idle(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sigkill),
		cmocka_unit_test(test_forked_child),
		cmocka_unit_test(test_close_without_bye),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_bye),
		cmocka_unit_test(test_two_connections),
		cmocka_unit_test(test_published_stays),
		cmocka_unit_test(test_dies_sending),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
