// SPDX-License-Identifier: Apache-2.0
/*
 * test_crowd.c - a thousand connections; more than is allowed; more
 * descriptors than are read; more than there are.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include "proto/shm.h"
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

#define FEW_FDS 8u

static void ask_map(int fd, uint32_t id, uint32_t space, uint32_t segment)
{
	Kvd__MapRequest req = KVD__MAP_REQUEST__INIT;

	req.space = space;
	req.n_segments = 1;
	req.segments = &segment;
	assert_int_equal(raw_send_msg(fd, WIRE_MAP, id, &req.base), 0);
}

/* Reads @nr answers. Return: descriptors that came with them. */
static unsigned read_maps(int fd, unsigned nr)
{
	static struct raw_frame f;
	unsigned got = 0;

	for (; nr > 0; nr--) {
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_true(f.nr_fds == 1 || f.header.status == EBUSY);
		got += f.nr_fds;
		while (f.nr_fds > 0)
			close(f.fds[--f.nr_fds]);
	}
	return got;
}

/* What a user has not read counts, and no more when it was read, or when a
 * connection has gone with it. */
static void test_unread(void **state)
{
	const char *const args[] = { "--set", "max-fds-per-user=8", NULL };
	uint32_t space, segment, i;
	struct daemon d;
	uint64_t h, place;
	int fd, other;

	daemon_start(&d, args);
	fd = raw_open(d.socket);
	other = raw_open(d.socket);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_open_space(other, 1), (int)space);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &h, &place), 0);
	segment = place_segment(place);
	for (i = 1; i <= 20; i++)
		ask_map(fd, i, space, segment);
	for (i = 0; i < 50; i++) /* those are all answered by then */
		assert_int_equal(raw_ping(other), 0);
	/* Two may still have counted as unread by the other. */
	assert_in_range(read_maps(fd, 20), FEW_FDS - 2, FEW_FDS);
	while (raw_open_space(other, 1) == -EBUSY)
		continue;
	for (i = 1; i <= 20; i++)
		ask_map(fd, i, space, segment);
	close(fd);
	while (raw_open_space(other, 1) == -EBUSY)
		continue;
	raw_bye(other);
	close(other);
	daemon_stop(&d);
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

/* Pages, a block, a match of it, and what there is to be seen. */
static void work(int fd, uint32_t space, uint32_t tag)
{
	Kvd__StatRequest stat = KVD__STAT_REQUEST__INIT;
	uint64_t h[2];

	assert_int_equal(raw_alloc(fd, space, 2, 5000, h, NULL), 0);
	assert_int_equal(raw_publish(fd, space, h[0], tag), 0);
	assert_int_equal(raw_match(fd, space, h, 1), 1);
	assert_int_equal(raw_call(fd, WIRE_STAT, &stat.base, NULL, NULL, NULL),
			 0);
	assert_int_equal(raw_release(fd, h, 2), 0);
}

static bool let_in(const char *socket)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	int fd = raw_connect(socket), r;

	assert_true(fd >= 0);
	hello.version = WIRE_VERSION;
	r = raw_call(fd, WIRE_HELLO, &hello.base, NULL, NULL, NULL);
	close(fd);
	return r == 0;
}

/* Out of descriptors: those beyond are closed, the others served, and the
 * loop does not turn for nothing. Who comes when some have gone is let in. */
static void test_no_descriptors(void **state)
{
	struct rlimit old, few = { 64, 64 };
	struct daemon d;
	int fds[200], i, fd, space, nr_served = 0;
	unsigned long before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few.rlim_max = old.rlim_max;
	daemon_prepare(&d);
	daemon_start_in(&d, NULL);
	few.rlim_max = 64;
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &few, NULL), 0);
	fd = raw_open(d.socket);
	space = raw_open_space(fd, 1);
	assert_true(space > 0);
	work(fd, (uint32_t)space, 1);
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
	work(fd, (uint32_t)space, 2);
	for (i = 0; i < 100; i++)
		close(fds[i]);
	for (i = 0; i < 1000 && !let_in(d.socket); i++)
		usleep(10000);
	assert_true(i < 1000);
	work(fd, (uint32_t)space, 3);
	assert_int_equal(raw_bye(fd), 0);
	close(fd);
	for (i = 100; i < 200; i++)
		close(fds[i]);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thousand),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_unread),
		cmocka_unit_test(test_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
