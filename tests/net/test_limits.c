// SPDX-License-Identifier: Apache-2.0
/*
 * test_limits.c - limits of tenants, live: who may set them, what they do to
 * answers, and that one tenant's are nobody else's.
 *
 * Pages are 32 KiB. We are the daemon's own user, so an admin; as root we can
 * be another user too, and where we are not, what needs two tenants is
 * skipped.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define PAGE	 32768ull
#define OTHER	 4242
#define MANY	 4096	/* as many as wait of one tenant */

enum { MIN = 1, HIGH = 2, MAX = 4 };

static struct daemon d;
static struct raw_frame f;
static uint64_t handles[512];
static char name[32];		/* of our tenant */

static int setup(void **state)
{
	const char *const args[] = { "--pool", "16M", "--segment", "8M",
				     "--set", "max-waiting=5000",
				     "--set", "socket-mode=0666", NULL };

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	daemon_prepare(&d);
	chmod(d.dir, 0711);
	daemon_start_in(&d, args);
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

/* A connection of another user; NULL-like -1 where we cannot be one. */
static int open_other(void)
{
	int fd;

	if (geteuid() != 0)
		return -1;
	assert_int_equal(seteuid(OTHER), 0);
	fd = raw_open(d.socket);
	assert_int_equal(seteuid(0), 0);
	return fd;
}

static int set_limits(int fd, const char *tenant, uint32_t keys, uint64_t min,
		      uint64_t high, uint64_t max)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;
	Kvd__TenantSetReply *reply = NULL;
	int r;

	req.name = (char *)(uintptr_t)tenant;
	req.keys = keys;
	req.min = min;
	req.high = high;
	req.max = max;
	req.runtime = 1;
	r = raw_call(fd, WIRE_TENANT_SET, &req.base,
		     &kvd__tenant_set_reply__descriptor, &reply, &f);
	if (r < 0)
		return r;
	assert_string_equal(reply->path, "");
	assert_true(!(keys & MAX) || reply->max == max);
	kvd__tenant_set_reply__free_unpacked(reply, NULL);
	return 0;
}

static void unlimited(int fd)
{
	assert_int_equal(set_limits(fd, name, MIN | HIGH | MAX, 0, 0, 0), 0);
}

/* Asks as @fd; NULL when it is not shown such a tenant. The caller frees. */
static Kvd__TenantsReply *ask(int fd, const char *tenant,
			      const Kvd__TenantStat **ret)
{
	Kvd__TenantsRequest req = KVD__TENANTS_REQUEST__INIT;
	Kvd__TenantsReply *reply;

	assert_int_equal(raw_call(fd, WIRE_TENANTS, &req.base,
				  &kvd__tenants_reply__descriptor, &reply,
				  NULL), 0);
	*ret = NULL;
	for (size_t i = 0; i < reply->n_tenants; i++)
		if (strcmp(reply->tenants[i]->name, tenant) == 0)
			*ret = reply->tenants[i];
	return reply;
}

/* Answers held back so far, and for how long. */
static uint64_t throttled(int fd, uint64_t *ret_ms)
{
	const Kvd__TenantStat *st;
	Kvd__TenantsReply *reply = ask(fd, name, &st);
	uint64_t nr;

	assert_non_null(st);
	nr = st->throttled;
	if (ret_ms)
		*ret_ms = st->throttled_ms;
	kvd__tenants_reply__free_unpacked(reply, NULL);
	return nr;
}

static void send_alloc(int fd, uint32_t id, uint32_t space, uint32_t count,
		       uint32_t deadline_ms)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;

	req.space = space;
	req.count = count;
	req.deadline_ms = deadline_ms;
	assert_int_equal(raw_send_msg(fd, WIRE_ALLOC, id, &req.base), 0);
}

/* The reply to @id is the next one. Return: its status. */
static int expect(int fd, uint32_t id)
{
	do
		assert_int_equal(raw_recv(fd, &f), 0);
	while (f.header.type == WIRE_EVENT);
	assert_int_equal(f.header.id, id);
	return f.header.status;
}

static uint64_t need_bytes(void)
{
	Kvd__ErrorReply *e;
	uint64_t need;

	e = kvd__error_reply__unpack(NULL, f.header.length, f.payload);
	assert_non_null(e);
	need = e->need_bytes;
	kvd__error_reply__free_unpacked(e, NULL);
	return need;
}

static void end(int fd)
{
	raw_bye(fd);
	close(fd);
}

/* ---- setting ---- */

static void test_refused(void **state)
{
	int fd = raw_open(d.socket);

	assert_int_equal(set_limits(fd, "nobody", MAX, 0, 0, 1), -ENOENT);
	assert_non_null(strstr(raw_error(&f), "[tenant nobody] in kvd.conf"));
	assert_int_equal(set_limits(fd, "../x", MAX, 0, 0, 1), -EINVAL);
	assert_int_equal(set_limits(fd, "", MAX, 0, 0, 1), -EINVAL);
	assert_int_equal(set_limits(fd, "12345678901234567890123456789012",
				    MAX, 0, 0, 1), -EINVAL);
	assert_int_equal(set_limits(fd, name, 0, 0, 0, 0), -EINVAL);
	assert_int_equal(set_limits(fd, name, 8, 0, 0, 0), -EINVAL);
	assert_int_equal(set_limits(fd, name, MIN | MAX, 2048, 0, 1024),
			 -EINVAL);
	assert_non_null(strstr(raw_error(&f), "min 2K is above max 1K"));
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, UINT64_MAX), -EINVAL);
	/* Promises are in the pool: of 16 MiB, to all together. */
	assert_int_equal(set_limits(fd, name, MIN, 17 << 20, 0, 0), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "the pool's 16M"));
	assert_int_equal(set_limits(fd, "uid-77", MIN, 10 << 20, 0, 0), 0);
	assert_int_equal(set_limits(fd, name, MIN, 7 << 20, 0, 0), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "others have 10M"));
	assert_int_equal(set_limits(fd, name, MIN, 6 << 20, 0, 0), 0);
	assert_int_equal(set_limits(fd, "uid-77", MIN, 0, 0, 0), 0);
	unlimited(fd);
	end(fd);
}

/* Another user sees its own tenant, and sets nobody's, not its own either. */
static void test_not_admin(void **state)
{
	char own[16];
	const Kvd__TenantStat *st;
	Kvd__TenantsReply *reply;
	int fd = open_other();

	if (fd < 0)
		skip();
	snprintf(own, sizeof(own), "uid-%d", OTHER);
	assert_int_equal(set_limits(fd, own, MAX, 0, 0, 1 << 30), -EACCES);
	assert_non_null(strstr(raw_error(&f), "admin group"));
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 1), -EACCES);
	assert_int_equal(set_limits(fd, "nobody", MAX, 0, 0, 1), -EACCES);
	reply = ask(fd, own, &st);
	assert_int_equal(reply->n_tenants, 1);
	assert_non_null(st);
	assert_int_equal(st->max, 0);
	assert_int_equal(st->n_uids, 1);
	assert_int_equal(st->uids[0], OTHER);
	assert_int_equal(st->clients, 1);
	kvd__tenants_reply__free_unpacked(reply, NULL);
	end(fd);
}

/* All are shown, in as many replies as it takes. */
static void test_many_tenants(void **state)
{
	Kvd__TenantsRequest req = KVD__TENANTS_REQUEST__INIT;
	int fd = raw_open(d.socket);
	Kvd__TenantsReply *reply;
	char tenant[16];
	size_t nr = 0, more = 1;

	for (int i = 0; i < 100; i++) {
		snprintf(tenant, sizeof(tenant), "uid-%d", 100000 + i);
		assert_int_equal(set_limits(fd, tenant, MAX, 0, 0, 1 << 20),
				 0);
	}
	while (more) {
		req.skip = (uint32_t)nr;
		assert_int_equal(raw_call(fd, WIRE_TENANTS, &req.base,
					  &kvd__tenants_reply__descriptor,
					  &reply, NULL), 0);
		assert_true(reply->n_tenants > 0);
		nr += reply->n_tenants;
		more = (size_t)reply->more;
		kvd__tenants_reply__free_unpacked(reply, NULL);
	}
	assert_in_range(nr, 101, 110);
	end(fd);
}

/* ---- max ---- */

static void test_max(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	assert_int_equal(raw_alloc(fd, space, 64, 5000, handles, NULL), 0);
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 60 * PAGE), 0);
	send_alloc(fd, 9, space, 1, 0);
	assert_int_equal(expect(fd, 9), EDQUOT);
	assert_int_equal(need_bytes(), 5 * PAGE);
	assert_int_equal(raw_release(fd, handles, 4), 0);
	send_alloc(fd, 10, space, 1, 0);
	assert_int_equal(expect(fd, 10), EDQUOT);
	assert_int_equal(need_bytes(), PAGE);
	/* Who waits has it when the limit is raised. */
	send_alloc(fd, 11, space, 2, 20000);
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 61 * PAGE), 0);
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 62 * PAGE), 0);
	assert_int_equal(expect(fd, 11), 0);
	unlimited(fd);
	end(fd);
}

/* ---- high ---- */

/* Has 64 pages, and 64 are its high. */
static uint32_t at_high(int fd)
{
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	assert_int_equal(set_limits(fd, name, HIGH, 0, 64 * PAGE, 0), 0);
	assert_int_equal(raw_alloc(fd, space, 64, 5000, handles, NULL), 0);
	return space;
}

static void test_slowed(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t before = throttled(fd, NULL), ms, ms2;
	uint32_t space = at_high(fd);
	int64_t t;

	assert_int_equal(throttled(fd, &ms), before);
	/* A quarter above: the longest. Nothing else it asks is late. */
	t = now_ms();
	send_alloc(fd, 1, space, 16, 5000);
	assert_int_equal(raw_ping(fd), 0);
	assert_int_equal(expect(fd, 1), 0);
	assert_true(now_ms() - t >= 98);
	assert_int_equal(throttled(fd, &ms2), before + 1);
	assert_true(ms2 - ms >= 98);
	/* Who would not wait for room is slowed too. */
	t = now_ms();
	send_alloc(fd, 2, space, 1, 0);
	assert_int_equal(expect(fd, 2), 0);
	assert_true(now_ms() - t >= 98);
	/* A deadline is kept. */
	assert_int_equal(throttled(fd, &ms), before + 2);
	send_alloc(fd, 3, space, 1, 7);
	assert_int_equal(expect(fd, 3), 0);
	assert_int_equal(throttled(fd, &ms2), before + 3);
	assert_true(ms2 - ms >= 6);
	/* Below it again there is no delay. */
	assert_int_equal(raw_release(fd, handles, 40), 0);
	assert_int_equal(raw_alloc(fd, space, 1, 0, handles, NULL), 0);
	assert_int_equal(throttled(fd, NULL), before + 3);
	unlimited(fd);
	end(fd);
}

/* Each answer is late by itself: they do not wait behind each other. */
static void test_side_by_side(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t before = throttled(fd, NULL), ms, ms2;
	uint32_t space = at_high(fd), i;
	int64_t t = now_ms();

	throttled(fd, &ms);
	for (i = 1; i <= 20; i++)
		send_alloc(fd, i, space, 16, 5000);
	for (i = 1; i <= 20; i++)
		assert_int_equal(expect(fd, i), 0);
	t = now_ms() - t;
	assert_int_equal(throttled(fd, &ms2), before + 20);
	/* One after the other would have been as long as all together. */
	assert_true(ms2 - ms >= 20 * 98 && t < (int64_t)(ms2 - ms));
	unlimited(fd);
	end(fd);
}

/* What has waited for room may be slowed on top. */
static void test_waited_and_slowed(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t before = throttled(fd, NULL);
	uint32_t space = at_high(fd);

	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 64 * PAGE), 0);
	send_alloc(fd, 1, space, 16, 20000);
	assert_int_equal(raw_ping(fd), 0);
	assert_int_equal(throttled(fd, NULL), before);
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 80 * PAGE), 0);
	assert_int_equal(expect(fd, 1), 0);
	assert_int_equal(throttled(fd, NULL), before + 1);
	unlimited(fd);
	end(fd);
}

/* Its pages come back, whatever way it goes. */
static void slowed_five(int fd)
{
	uint32_t space = at_high(fd), i;

	for (i = 1; i <= 5; i++)
		send_alloc(fd, i, space, 16, 5000);
}

static void test_slowed_and_gone(void **state)
{
	int watcher = raw_open(d.socket), fd, end_of[2];
	uint64_t before = throttled(watcher, NULL);
	char byte;
	pid_t pid;

	assert_int_equal(pipe(end_of), 0);
	pid = fork();
	if (pid == 0) {
		slowed_five(raw_open(d.socket));
		_exit(0);
	}
	close(end_of[1]);
	assert_int_equal(read(end_of[0], &byte, 1), 0); /* it has ended */
	close(end_of[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	fd = raw_open(d.socket);
	slowed_five(fd);
	assert_int_equal(raw_bye(fd), 0);
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
	assert_true(throttled(watcher, NULL) >= before + 5);
	unlimited(watcher);
	end(watcher);
	daemon_assert_idle(&d);
}

/* ---- two tenants ---- */

/* One at its max, with all the requests it may have waiting. */
static void test_apart(void **state)
{
	int fd = raw_open(d.socket), other = open_other(), i;
	uint32_t space = (uint32_t)raw_open_space(fd, 1), theirs;
	uint64_t h[256];

	if (other < 0) {
		end(fd);
		skip();
	}
	theirs = (uint32_t)raw_open_space(other, 1);
	assert_int_equal(set_limits(fd, name, MAX, 0, 0, 8 * PAGE), 0);
	assert_int_equal(raw_alloc(fd, space, 8, 5000, handles, NULL), 0);
	for (i = 1; i <= MANY; i++)
		send_alloc(fd, (uint32_t)i, space, 1, 60000);
	send_alloc(fd, MANY + 1, space, 1, 60000);
	assert_int_equal(expect(fd, MANY + 1), EBUSY);
	/* The other has what it asks for, at once. */
	assert_int_equal(raw_alloc(other, theirs, 200, 5000, h, NULL), 0);
	assert_int_equal(raw_alloc(other, theirs, 10, 0, h + 200, NULL), 0);
	/* It may wait, and is served when it has released something. */
	assert_int_equal(set_limits(fd, "uid-4242", MAX, 0, 0, 210 * PAGE),
			 0);
	send_alloc(other, 7, theirs, 1, 20000);
	assert_int_equal(raw_ping(other), 0);
	assert_int_equal(raw_release(other, h, 1), 0);
	assert_int_equal(expect(other, 7), 0);
	/* And the first again: who waits longest is served first. */
	assert_int_equal(raw_release(fd, handles, 2), 0);
	assert_int_equal(expect(fd, 1), 0);
	assert_int_equal(expect(fd, 2), 0);
	assert_int_equal(set_limits(other, "uid-4242", MAX, 0, 0, 0), -EACCES);
	assert_int_equal(raw_bye(fd), 0);
	close(fd);
	fd = raw_open(d.socket);
	assert_int_equal(set_limits(fd, "uid-4242", MAX, 0, 0, 0), 0);
	unlimited(fd);
	end(fd);
	end(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_not_admin),
		cmocka_unit_test(test_many_tenants),
		cmocka_unit_test(test_max),
		cmocka_unit_test(test_slowed),
		cmocka_unit_test(test_side_by_side),
		cmocka_unit_test(test_waited_and_slowed),
		cmocka_unit_test(test_slowed_and_gone),
		cmocka_unit_test(test_apart),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
