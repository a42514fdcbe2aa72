// SPDX-License-Identifier: Apache-2.0
/*
 * test_slow.c - clients that do not read, do not speak, or go in the middle.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

static struct daemon d;

static int setup(void **state)
{
	const char *const args[] = { "--set", "hello-timeout=1s", NULL };

	daemon_start(&d, args);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Asks for the status without waiting. Return: 0 or -1. */
static int ask(int fd)
{
	struct wire_header h = { .type = WIRE_STATUS, .id = 1 };
	uint8_t buf[WIRE_HEADER_BYTES];

	wire_put(buf, &h);
	return send(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ?
	       -1 : 0;
}

/* It is not read from either; others are served at once. */
static void test_never_reads(void **state)
{
	int slow = raw_open(d.socket), other = raw_open(d.socket);
	int64_t t, worst = 0;
	unsigned sent = 0, i;

	for (i = 0; i < 1000; i++) {
		while (sent < 100000 && ask(slow) == 0)
			sent++;
		t = now_us();
		assert_int_equal(raw_ping(other), 0);
		t = now_us() - t;
		if (t > worst)
			worst = t;
	}
	assert_true(sent > 256);
	assert_true(sent < 100000); /* kvd takes no more of them */
	assert_int_equal(ask(slow), -1);
	assert_true(worst < 10000000);
	close(slow);
	close(other);
	daemon_assert_idle(&d); /* its end is noticed */
}

/* One that reads late gets everything, in order. */
static void test_reads_late(void **state)
{
	static struct raw_frame f;
	int fd = raw_open(d.socket);
	uint32_t i, nr = 400; /* more than its socket takes */

	for (i = 1; i <= nr; i++)
		assert_int_equal(raw_send(fd, WIRE_STATUS, i, NULL, 0), 0);
	for (i = 1; i <= nr; i++) {
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_int_equal(f.header.id, i);
		assert_int_equal(f.header.status, 0);
	}
	close(fd);
}

static void test_says_nothing(void **state)
{
	int fd = raw_connect(d.socket);

	assert_true(fd >= 0);
	assert_true(raw_at_end(fd)); /* after hello-timeout */
	close(fd);
}

/* Requests of one who has gone are still done, in order. */
static void test_goes_early(void **state)
{
	uint64_t handles[8];
	int i, fd;

	for (i = 0; i < 50; i++) {
		fd = raw_open(d.socket);
		assert_int_equal(raw_alloc(fd,
					   (uint32_t)raw_open_space(fd, 1), 8,
					   1000, handles, NULL), 0);
		raw_send(fd, WIRE_STATUS, 7, NULL, 0);
		raw_send(fd, WIRE_STATUS, 8, NULL, 0);
		raw_send(fd, WIRE_BYE, 9, NULL, 0);
		close(fd);
	}
	daemon_assert_idle(&d); /* nothing is quarantined: bye was read */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_reads),
		cmocka_unit_test(test_reads_late),
		cmocka_unit_test(test_says_nothing),
		cmocka_unit_test(test_goes_early),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
