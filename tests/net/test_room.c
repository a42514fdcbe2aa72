// SPDX-License-Identifier: Apache-2.0
/*
 * test_room.c - a full pool: deadlines, waiting in turn, limits of a tenant.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define MAX_HANDLES 4096

static struct daemon d;
static uint64_t handles[MAX_HANDLES];
static unsigned nr_handles;
static struct raw_frame f;

static int setup(void **state)
{
	const char *const args[] = { "--pool", "8M", "--segment", "8M",
				     "--set", "max-waiting=4", NULL };

	daemon_start(&d, args);
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

/* Takes every page there is. */
static void fill(int fd, uint32_t space)
{
	unsigned step = 64;

	nr_handles = 0;
	assert_int_equal(raw_alloc(fd, space, 1, 5000, handles, NULL), 0);
	nr_handles = 1;
	while (step > 0) {
		if (raw_alloc(fd, space, step, 0, handles + nr_handles,
			      NULL) == 0)
			nr_handles += step;
		else
			step /= 2;
		assert_true(nr_handles < MAX_HANDLES - 64);
	}
	assert_true(nr_handles > 100);
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

/* The first handle of the reply that expect() has received. */
static uint64_t first_handle(void)
{
	Kvd__AllocReply *reply;
	uint64_t h;

	reply = kvd__alloc_reply__unpack(NULL, f.header.length, f.payload);
	assert_non_null(reply);
	assert_true(reply->n_handles > 0);
	h = reply->handles[0];
	kvd__alloc_reply__free_unpacked(reply, NULL);
	return h;
}

static void test_deadline(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	Kvd__ErrorReply *e;
	int64_t t;

	fill(fd, space);
	t = now_ms();
	send_alloc(fd, 1, space, 3, 0);
	assert_int_equal(expect(fd, 1), ENOSPC);
	assert_true(now_ms() - t < 10000);
	e = kvd__error_reply__unpack(NULL, f.header.length, f.payload);
	assert_true(e->need_bytes > 0);
	assert_non_null(strstr(e->text, "pool"));
	kvd__error_reply__free_unpacked(e, NULL);

	t = now_ms();
	send_alloc(fd, 2, space, 1, 400);
	assert_int_equal(raw_ping(fd), 0); /* answered first */
	assert_int_equal(expect(fd, 2), ENOSPC);
	t = now_ms() - t;
	assert_true(t >= 395 && t < 10000);
	raw_bye(fd);
	close(fd);
}

static void test_first_come(void **state)
{
	int fd = raw_open(d.socket), a = raw_open(d.socket);
	int b = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	uint64_t h;

	raw_open_space(a, 1);
	raw_open_space(b, 1);
	fill(fd, space);
	send_alloc(a, 1, space, 2, 10000); /* needs two, came first */
	assert_int_equal(raw_ping(a), 0);
	send_alloc(b, 2, space, 1, 10000);
	assert_int_equal(raw_ping(b), 0);
	assert_int_equal(raw_release(fd, handles, 1), 0);
	/* One page is free, and it is not the late one's. */
	send_alloc(b, 3, space, 1, 100);
	assert_int_equal(expect(b, 3), ENOSPC);
	assert_int_equal(raw_release(fd, handles + 1, 2), 0);
	assert_int_equal(expect(a, 1), 0);
	assert_int_equal(expect(b, 2), 0);
	h = first_handle();
	assert_int_equal(raw_release(b, &h, 1), 0);
	raw_bye(fd);
	raw_bye(a);
	raw_bye(b);
	close(fd);
	close(a);
	close(b);
}

/* One who waits and dies is not served, and holds up nobody. */
static void test_waiter_dies(void **state)
{
	int fd = raw_open(d.socket), a = raw_open(d.socket);
	int b = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	raw_open_space(a, 1);
	raw_open_space(b, 1);
	fill(fd, space);
	send_alloc(a, 1, space, 64, 10000);
	assert_int_equal(raw_ping(a), 0);
	send_alloc(b, 2, space, 1, 10000);
	assert_int_equal(raw_ping(b), 0);
	close(a);
	assert_int_equal(raw_release(fd, handles, 1), 0);
	assert_int_equal(expect(b, 2), 0);
	raw_bye(fd);
	raw_bye(b);
	close(fd);
	close(b);
}

/* One whose deadline comes makes way for those behind it. */
static void test_waiter_expires(void **state)
{
	int fd = raw_open(d.socket), a = raw_open(d.socket);
	int b = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	int64_t t = now_ms();

	raw_open_space(a, 1);
	raw_open_space(b, 1);
	fill(fd, space);
	send_alloc(a, 1, space, 64, 300);
	assert_int_equal(raw_ping(a), 0);
	send_alloc(b, 2, space, 1, 15000);
	assert_int_equal(raw_ping(b), 0);
	assert_int_equal(raw_release(fd, handles, 1), 0);
	assert_int_equal(expect(a, 1), ENOSPC);
	assert_int_equal(expect(b, 2), 0);
	assert_true(now_ms() - t < 10000);
	raw_bye(fd);
	raw_bye(a);
	raw_bye(b);
	close(fd);
	close(a);
	close(b);
}

/* What can never be had does not wait, and is waited behind by nobody. */
static void test_never_fits(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	send_alloc(fd, 1, space, WIRE_MAX_PAGES, 15000);
	assert_int_equal(expect(fd, 1), EINVAL);
	assert_non_null(strstr(raw_error(&f), "can ever hold"));
	send_alloc(fd, 2, space, 1, 5000);
	assert_int_equal(expect(fd, 2), 0);
	raw_bye(fd);
	close(fd);
}

static void test_many_waiting(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1), i;

	fill(fd, space);
	for (i = 1; i <= 4; i++)
		send_alloc(fd, i, space, 1, 300);
	send_alloc(fd, 5, space, 1, 300);
	assert_int_equal(expect(fd, 5), EBUSY);
	for (i = 1; i <= 4; i++)
		assert_int_equal(expect(fd, i), ENOSPC);
	raw_bye(fd);
	close(fd);
}

/* Closing the space answers what waits in it. */
static void test_space_closed(void **state)
{
	Kvd__CloseSpaceRequest req = KVD__CLOSE_SPACE_REQUEST__INIT;
	int fd = raw_open(d.socket), a = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	raw_open_space(a, 1);
	fill(fd, space);
	send_alloc(a, 1, space, 1, 10000);
	req.space = space;
	assert_int_equal(raw_call(fd, WIRE_CLOSE_SPACE, &req.base, NULL, NULL,
				  NULL), 0);
	raw_send_msg(a, WIRE_CLOSE_SPACE, 2, &req.base);
	assert_int_equal(expect(a, 2), 0);
	assert_int_equal(raw_release(fd, handles, 1), 0);
	assert_int_equal(expect(a, 1), ENOENT);
	raw_bye(fd);
	raw_bye(a);
	close(fd);
	close(a);
}

static void test_quota(void **state)
{
	const char *const args[] = { "--set", "tenant-max=2M", NULL };
	struct daemon q;
	uint32_t space;
	int fd;

	daemon_start(&q, args);
	fd = raw_open(q.socket);
	space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, space, 64, 5000, handles, NULL), 0);
	send_alloc(fd, 9, space, 1, 0); /* 64 of 32 KiB were all */
	assert_int_equal(expect(fd, 9), EDQUOT);
	assert_non_null(strstr(raw_error(&f), "max"));
	send_alloc(fd, 10, space, 1, 5000);
	assert_int_equal(raw_release(fd, handles, 1), 0);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&q);
	daemon_stop(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_first_come),
		cmocka_unit_test(test_waiter_dies),
		cmocka_unit_test(test_waiter_expires),
		cmocka_unit_test(test_never_fits),
		cmocka_unit_test(test_many_waiting),
		cmocka_unit_test(test_space_closed),
		cmocka_unit_test(test_quota),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
