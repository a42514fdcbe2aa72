// SPDX-License-Identifier: Apache-2.0
/*
 * test_stall.c - pressure, as the daemon tells it: who waits has it, and the
 * pool; nobody else has.
 *
 * Times are those of the daemon between two of ours, so each is held between
 * what must have been waited and what has passed. As root we can be another
 * user too; where we are not, what needs two tenants is skipped.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define OTHER 4242
#define PAGES 64	/* of 32 KiB: our tenant's max */
#define HIGH  2		/* bits of the keys of a tenant's section */
#define MAX   4

static struct daemon d;
static struct raw_frame f;
static uint64_t handles[PAGES];
static char name[32], theirs[32];

static int setup(void **state)
{
	const char *const args[] = { "--pool", "16M", "--segment", "8M",
				     "--set", "socket-mode=0666", NULL };

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	snprintf(theirs, sizeof(theirs), "uid-%d", OTHER);
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

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A connection of another user; -1 where we cannot be one. */
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

struct told {
	Kvd__Pressure pool, tenant;
	size_t nr_tenants;
};

/* What @fd is told of the pool and of @tenant. */
static struct told ask(int fd, const char *tenant)
{
	Kvd__TenantsRequest req = KVD__TENANTS_REQUEST__INIT;
	Kvd__TenantsReply *reply;
	struct told told;
	size_t i, found = 0;

	assert_int_equal(raw_call(fd, WIRE_TENANTS, &req.base,
				  &kvd__tenants_reply__descriptor, &reply,
				  NULL), 0);
	assert_non_null(reply->pressure);
	told.pool = *reply->pressure;
	told.nr_tenants = reply->n_tenants;
	for (i = 0; i < reply->n_tenants; i++) {
		assert_non_null(reply->tenants[i]->pressure);
		if (strcmp(reply->tenants[i]->name, tenant) != 0)
			continue;
		told.tenant = *reply->tenants[i]->pressure;
		found++;
	}
	assert_int_equal(found, 1);
	kvd__tenants_reply__free_unpacked(reply, NULL);
	return told;
}

static uint64_t total(int fd)
{
	return ask(fd, name).tenant.total_us;
}

static void set_limit(int fd, uint32_t key, uint64_t pages)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;

	req.name = name;
	req.keys = key;
	req.high = req.max = pages * 32768;
	req.runtime = 1;
	assert_int_equal(raw_call(fd, WIRE_TENANT_SET, &req.base,
				  &kvd__tenant_set_reply__descriptor, NULL,
				  &f), 0);
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

/* A connection that has all the pages its tenant may have. */
static int open_full(uint32_t *ret_space)
{
	int fd = raw_open(d.socket);

	*ret_space = (uint32_t)raw_open_space(fd, 1);
	set_limit(fd, MAX, PAGES);
	assert_int_equal(raw_alloc(fd, *ret_space, PAGES, 5000, handles,
				   NULL), 0);
	return fd;
}

static void end(int fd)
{
	raw_bye(fd);
	close(fd);
}

/* Over the ends of two periods: at least one of them was nothing else. */
static void test_waiting(void **state)
{
	int other = open_other(), fd;
	uint64_t before, took;
	struct told told;
	uint32_t space;

	fd = open_full(&space);
	before = total(fd);
	took = now_us();
	send_alloc(fd, 1, space, 1, 4100);
	assert_int_equal(expect(fd, 1), EDQUOT);
	told = ask(fd, name);
	took = now_us() - took;
	assert_in_range(told.tenant.total_us - before, 4090000, took);
	assert_in_range(told.tenant.avg10, 1812, 10000);
	assert_in_range(told.tenant.avg60, 327, told.tenant.avg10 - 1);
	assert_in_range(told.tenant.avg300, 66, told.tenant.avg60 - 1);
	/* There is no other that waited. */
	assert_int_equal(told.pool.total_us, told.tenant.total_us);
	assert_int_equal(told.pool.avg10, told.tenant.avg10);
	assert_int_equal(told.pool.avg300, told.tenant.avg300);
	/* It stays as it is. */
	usleep(50000);
	assert_int_equal(total(fd), told.tenant.total_us);
	if (other >= 0) {
		/* Who is no admin sees its own, and the pool. */
		took = told.pool.total_us;
		told = ask(other, theirs);
		assert_int_equal(told.nr_tenants, 1);
		assert_int_equal(told.tenant.total_us, 0);
		assert_int_equal(told.tenant.avg10, 0);
		assert_int_equal(told.tenant.avg60, 0);
		assert_int_equal(told.tenant.avg300, 0);
		assert_int_equal(told.pool.total_us, took);
		end(other);
	}
	end(fd);
}

/* What goes on is counted while it does, and three at once are no more. */
static void test_at_once(void **state)
{
	uint64_t before, took, some, more;
	uint32_t space, i;
	int fd, watcher = raw_open(d.socket);

	fd = open_full(&space);
	before = total(watcher);
	took = now_us();
	for (i = 1; i <= 3; i++)
		send_alloc(fd, i, space, 1, 20000);
	assert_int_equal(raw_ping(fd), 0); /* they wait */
	usleep(300000);
	some = total(watcher) - before;
	assert_in_range(some, 300000, now_us() - took);
	/* Two go, and one waits on. */
	assert_int_equal(raw_release(fd, handles, 2), 0);
	assert_int_equal(expect(fd, 1), 0);
	assert_int_equal(expect(fd, 2), 0);
	usleep(100000);
	more = total(watcher) - before;
	assert_in_range(more, some + 100000, now_us() - took);
	assert_int_equal(raw_release(fd, handles + 2, 1), 0);
	assert_int_equal(expect(fd, 3), 0);
	some = total(watcher) - before;
	assert_in_range(some, more, now_us() - took);
	usleep(50000);
	assert_int_equal(total(watcher) - before, some);
	end(fd);
	end(watcher);
}

/* Who dies waits no more. */
static void test_gone(void **state)
{
	int fd, dying = raw_open(d.socket), watcher = raw_open(d.socket);
	uint32_t space;
	uint64_t some;

	fd = open_full(&space);
	raw_open_space(dying, 1);
	some = total(watcher);
	send_alloc(dying, 1, space, 1, 60000);
	send_alloc(dying, 2, space, 1, 60000);
	assert_int_equal(raw_ping(dying), 0);
	usleep(20000);
	assert_true(total(watcher) >= some + 20000);
	close(dying);
	end(fd);
	end(watcher);
	daemon_assert_idle(&d); /* its end has been seen to */
	watcher = raw_open(d.socket);
	some = total(watcher);
	usleep(50000);
	assert_int_equal(total(watcher), some);
	end(watcher);
}

/* Above its high what it is answered is late: 100 ms at a quarter above. */
static void test_slowed(void **state)
{
	uint64_t before, took;
	struct told told;
	uint32_t space;
	int fd = raw_open(d.socket);

	space = (uint32_t)raw_open_space(fd, 1);
	set_limit(fd, MAX, 0);
	set_limit(fd, HIGH, PAGES / 2);
	assert_int_equal(raw_alloc(fd, space, PAGES / 2, 5000, handles, NULL),
			 0);
	before = total(fd);
	took = now_us();
	send_alloc(fd, 1, space, PAGES / 4, 5000);
	assert_int_equal(expect(fd, 1), 0);
	told = ask(fd, name);
	took = now_us() - took;
	assert_in_range(told.tenant.total_us - before, 98000, took);
	assert_int_equal(told.pool.total_us, told.tenant.total_us);
	set_limit(fd, HIGH, 0);
	end(fd);
}

/* Two tenants, one after the other: the pool has waited for both. */
static void test_two(void **state)
{
	int fd, other = open_other();
	struct told ours, others;
	uint64_t before, took;
	uint32_t space;

	if (other < 0)
		skip();
	fd = open_full(&space);
	before = ask(fd, name).pool.total_us;
	took = now_us();
	send_alloc(fd, 1, space, 1, 100);
	assert_int_equal(expect(fd, 1), EDQUOT);
	space = (uint32_t)raw_open_space(other, 1);
	/* 16 MiB are 512 pages, and we have 64 of them. */
	send_alloc(other, 2, space, 500, 200);
	assert_int_equal(expect(other, 2), ENOSPC);
	ours = ask(fd, name);
	others = ask(fd, theirs);
	took = now_us() - took;
	/* A deadline is from when it was asked on, a wait from when it began. */
	assert_in_range(others.tenant.total_us, 100000, took);
	assert_in_range(others.pool.total_us - before,
			others.tenant.total_us + 50000, took);
	assert_int_equal(ours.tenant.total_us + others.tenant.total_us,
			 others.pool.total_us);
	end(fd);
	end(other);
}

/* Stopped while some wait, and some are slowed: it ends as it should. */
static void test_stopped(void **state)
{
	const char *const args[] = { "--set", "tenant-max=2M", NULL };
	struct daemon whole = d;
	uint32_t space;
	int fd;

	daemon_start(&d, args);
	fd = raw_open(d.socket);
	space = (uint32_t)raw_open_space(fd, 1);
	set_limit(fd, HIGH, 16);
	send_alloc(fd, 1, space, PAGES, 5000);
	send_alloc(fd, 2, space, 1, 5000);
	assert_int_equal(raw_ping(fd), 0);
	daemon_stop(&d);
	close(fd);
	d = whole;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_slowed),
		cmocka_unit_test(test_two),
		cmocka_unit_test(test_stopped),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
