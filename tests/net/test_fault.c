/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fault.c - what goes wrong in the daemon, by KVD_FAULT: whom it reaches,
 * and that all is well again afterwards.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

static void sleep_ms(long ms)
{
	struct timespec t = { .tv_sec = ms / 1000,
			      .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static void start(struct daemon *d, const char *fault)
{
	setenv("KVD_FAULT", fault, 1);
	daemon_start(d, NULL);
	unsetenv("KVD_FAULT");
}

/* A space, a page, and all of it back. */
static void assert_serves(const struct daemon *d)
{
	uint64_t handle, place;
	int fd = raw_open(d->socket), space = raw_open_space(fd, 1);

	assert_true(space > 0);
	assert_int_equal(raw_alloc(fd, (uint32_t)space, 1, 5000, &handle,
				   &place), 0);
	assert_int_equal(raw_release(fd, &handle, 1), 0);
	assert_int_equal(raw_bye(fd), 0);
	close(fd);
	daemon_assert_idle(d);
}

static void test_bad(void **state)
{
	const char *const argv[] = { "kvd", "--config", "/dev/null", "--socket",
				     "/nonexistent/kvd.sock", NULL };
	char out[4096];

	setenv("KVD_FAULT", "send@0", 1);
	assert_int_equal(daemon_run(argv, out, sizeof(out)), EXIT_FAILURE);
	unsetenv("KVD_FAULT");
	assert_non_null(strstr(out, "KVD_FAULT=send@0: after @"));
}

/* The system has no memory for a segment: said, and the next try has it. */
static void test_segment(void **state)
{
	static const char *const faults[] = { "segment@1:ENOSPC",
					      "segment@1:ENOMEM" };
	uint64_t handle, place;
	struct daemon d;
	size_t i;
	int fd, space, r;

	for (i = 0; i < 2; i++) {
		start(&d, faults[i]);
		fd = raw_open(d.socket);
		space = raw_open_space(fd, 1);
		r = raw_alloc(fd, (uint32_t)space, 1, 100, &handle, &place);
		assert_true(r == -ENOSPC || r == 0);
		raw_bye(fd);
		close(fd);
		assert_serves(&d);
		daemon_stop(&d);
	}
}

static int say_hello(const char *socket)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	int fd = raw_connect(socket), r;

	assert_true(fd >= 0);
	hello.version = WIRE_VERSION;
	r = raw_call(fd, WIRE_HELLO, &hello.base, NULL, NULL, NULL);
	close(fd);
	return r;
}

/* No descriptors: refused at once, and served when there are some again. */
static void test_accept(void **state)
{
	int i, r = 0, nr_refused = 0;
	struct daemon d;

	start(&d, "accept@20-59:EMFILE");
	for (i = 0; i < 60; i++) {
		r = say_hello(d.socket);
		nr_refused += r < 0;
	}
	assert_int_equal(r, 0);
	assert_in_range(nr_refused, 1, 40);
	assert_serves(&d);
	daemon_stop(&d);
}

/* One space's memfds, or a segment's descriptor, cannot be had. */
static void test_descriptors(void **state)
{
	static const char *const faults[] = { "memfd@3-4:EMFILE",
					      "memfd@2-5:ENOMEM",
					      "export@1-2:EMFILE",
					      "export@1:EIO" };
	struct daemon d;
	size_t i;
	int fd, nr;

	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		start(&d, faults[i]);
		for (nr = 0; nr < 6; nr++) {
			uint64_t handle, place;
			int space;

			fd = raw_open(d.socket);
			space = raw_open_space(fd, (uint8_t)nr);
			if (space > 0)
				raw_alloc(fd, (uint32_t)space, 1, 100, &handle,
					  &place);
			assert_int_equal(raw_bye(fd), 0);
			close(fd);
		}
		assert_serves(&d);
		daemon_stop(&d);
	}
}

/* A frame that cannot be sent costs its client the connection, no other. */
static void test_send(void **state)
{
	int calm, unlucky, i, r = 0;
	struct daemon d;

	start(&d, "send@6:ENOBUFS");
	unlucky = raw_open(d.socket);
	for (i = 0; i < 6 && r == 0; i++)
		r = raw_ping(unlucky);
	assert_int_equal(r, -ECONNRESET);
	calm = raw_open(d.socket);
	assert_int_equal(raw_ping(calm), 0);
	raw_bye(calm);
	close(calm);
	close(unlucky);
	assert_serves(&d);
	daemon_stop(&d);
}

/* ---- a driver call that does not return ---- */

static bool has_state(int fd, const char *text)
{
	Kvd__StatusRequest req = KVD__STATUS_REQUEST__INIT;
	Kvd__StatusReply *reply;
	bool is;

	assert_int_equal(raw_call(fd, WIRE_STATUS, &req.base,
				  &kvd__status_reply__descriptor, &reply, NULL),
			 0);
	is = strcmp(reply->state, text) == 0;
	kvd__status_reply__free_unpacked(reply, NULL);
	return is;
}

static void wait_state(int fd, const char *text)
{
	int i;

	for (i = 0; i < DAEMON_DEADLINE_MS / 20 && !has_state(fd, text); i++)
		sleep_ms(20);
	assert_true(has_state(fd, text));
}

static unsigned fed(struct manager *m, const char *status, bool *ret_said)
{
	unsigned nr;

	pthread_mutex_lock(&m->lock);
	nr = m->nr_watchdog;
	*ret_said = strstr(m->status, status) != NULL;
	pthread_mutex_unlock(&m->lock);
	return nr;
}

/* What an operator's script goes by. */
static int kvctl_status(const struct daemon *d)
{
	char command[512];
	int status;

	snprintf(command, sizeof(command),
		 "%s status --socket %s >/dev/null 2>&1",
		 daemon_program("kvctl", KVD_KVCTL), d->socket);
	status = system(command);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Health is progress: said, not fed, and who needs no device is served. */
static void test_stuck(void **state)
{
	uint64_t handle, place;
	struct manager m;
	unsigned before;
	bool said;
	int fd, space;

	setenv("KVD_FAULT", "dev-job@1:13500ms", 1);
	manager_start(&m, NULL);
	unsetenv("KVD_FAULT");
	fd = raw_open(m.daemon.socket);
	space = raw_open_space(fd, 1);
	assert_true(space > 0);
	assert_int_equal(raw_alloc(fd, (uint32_t)space, 1, 50, &handle, &place),
			 -ENOSPC);
	wait_state(fd, "degraded");
	sleep_ms(100); /* the tick is over, and what it said is read */
	before = fed(&m, "device stuck", &said);
	assert_true(said);
	sleep_ms(1300);
	assert_int_equal(raw_match(fd, (uint32_t)space, NULL, 0), 0);
	assert_int_equal(raw_ping(fd), 0);
	assert_true(has_state(fd, "degraded"));
	assert_int_equal(kvctl_status(&m.daemon), 3);
	assert_int_equal(fed(&m, "", &said), before);
	wait_state(fd, "ready");
	assert_int_equal(kvctl_status(&m.daemon), 0);
	sleep_ms(100);
	assert_true(fed(&m, "stuck", &said) > before);
	assert_false(said);
	raw_bye(fd);
	close(fd);
	assert_serves(&m.daemon);
	manager_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_segment),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_stuck),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
