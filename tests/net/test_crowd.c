// SPDX-License-Identifier: Apache-2.0
/*
 * test_crowd.c - a thousand connections; more than is allowed; more than
 * there are descriptors for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define NR_MANY 1000

static void raise_nofile(void)
{
	struct rlimit lim;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = lim.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

/* All of them, page by page. */
static unsigned count_listed(int fd)
{
	Kvd__ClientsRequest req = KVD__CLIENTS_REQUEST__INIT;
	Kvd__ClientsReply *reply;
	unsigned nr = 0;
	int more;

	do {
		assert_int_equal(raw_call(fd, WIRE_CLIENTS, &req.base,
					  &kvd__clients_reply__descriptor,
					  &reply, NULL), 0);
		nr += (unsigned)reply->n_clients;
		more = reply->more;
		if (reply->n_clients > 0)
			req.after = reply->clients[reply->n_clients - 1]->id;
		kvd__clients_reply__free_unpacked(reply, NULL);
	} while (more);
	return nr;
}

static void test_thousand(void **state)
{
	static int fds[NR_MANY];
	struct daemon d;
	int i, pass;

	raise_nofile();
	daemon_start(&d, NULL);
	for (i = 0; i < NR_MANY; i++)
		fds[i] = raw_open(d.socket);
	for (pass = 0; pass < 3; pass++)
		for (i = 0; i < NR_MANY; i++)
			assert_int_equal(raw_ping(fds[i]), 0);
	assert_int_equal(count_listed(fds[0]), NR_MANY);
	for (i = 0; i < NR_MANY; i++)
		close(fds[i]);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* The one too many hears why. */
static void test_limits(void **state)
{
	const char *const args[] = { "--set", "max-clients=4", NULL };
	const char *const args_user[] = { "--set", "max-clients-per-user=3",
					  NULL };
	const char *const *const all[] = { args, args_user };
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	static struct raw_frame f;
	struct daemon d;
	int fds[4], fd, i, round, nr;

	hello.version = WIRE_VERSION;
	for (round = 0; round < 2; round++) {
		nr = 4 - round;
		daemon_start(&d, all[round]);
		for (i = 0; i < nr; i++)
			fds[i] = raw_open(d.socket);
		fd = raw_connect(d.socket);
		assert_int_equal(raw_call(fd, WIRE_HELLO, &hello.base, NULL,
					  NULL, &f), -EUSERS);
		assert_non_null(strstr(raw_error(&f), "max-clients"));
		assert_true(raw_at_end(fd));
		close(fd);
		for (i = 0; i < nr; i++) {
			assert_int_equal(raw_ping(fds[i]), 0);
			close(fds[i]);
		}
		daemon_assert_idle(&d);
		daemon_stop(&d);
	}
}

/* CPU time of the daemon, in ticks. */
static unsigned long cpu_ticks(pid_t pid)
{
	unsigned long user, sys;
	char path[64];
	FILE *f;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	n = fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
		      "%lu %lu", &user, &sys);
	fclose(f);
	assert_int_equal(n, 2);
	return user + sys;
}

/* Out of descriptors: those beyond are closed, the others served, and the
 * loop does not turn for nothing. */
static void test_no_descriptors(void **state)
{
	struct rlimit old, few = { 64, 64 };
	struct daemon d;
	int fds[200], i, nr_served = 0;
	unsigned long before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few.rlim_max = old.rlim_max;
	daemon_prepare(&d);
	daemon_start_in(&d, NULL);
	few.rlim_max = 64;
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &few, NULL), 0);
	for (i = 0; i < 200; i++) {
		fds[i] = raw_connect(d.socket);
		assert_true(fds[i] >= 0);
	}
	before = cpu_ticks(d.pid);
	usleep(1000000);
	assert_true(cpu_ticks(d.pid) - before < 50);
	for (i = 0; i < 200; i++) {
		Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;

		hello.version = WIRE_VERSION;
		if (raw_call(fds[i], WIRE_HELLO, &hello.base, NULL, NULL,
			     NULL) == 0)
			nr_served++;
	}
	assert_true(nr_served > 10 && nr_served < 64);
	for (i = 0; i < 200; i++)
		close(fds[i]);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thousand),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
