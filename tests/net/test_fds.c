// SPDX-License-Identifier: Apache-2.0
/*
 * test_fds.c - descriptors that come with frames: too many, of the wrong
 * kind, missing. None may stay open in the daemon.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

static struct daemon d;
static struct raw_frame f;

/* The second start finds the name key on disk: no descriptor of that. */
static int setup(void **state)
{
	daemon_start(&d, NULL);
	daemon_kill(&d);
	daemon_start_in(&d, NULL);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

static unsigned nr_open(void)
{
	char path[64];
	struct dirent *e;
	unsigned nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d.pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir)))
		nr += e->d_name[0] != '.';
	closedir(dir);
	return nr;
}

static int send_with_fds(int fd, unsigned type, uint32_t id,
			 const void *payload, uint32_t size, const int *fds,
			 unsigned nr)
{
	struct wire_header h = { .length = size, .type = (uint16_t)type,
				 .id = id };
	uint8_t buf[256];

	wire_put(buf, &h);
	memcpy(buf + WIRE_HEADER_BYTES, payload, size);
	return raw_send_bytes(fd, buf, WIRE_HEADER_BYTES + size, fds, nr);
}

/* Any number with any request: refused, closed, the connection lives. */
static void test_extra(void **state)
{
	int fd = raw_open(d.socket), fds[253];
	unsigned before, type, i;

	for (i = 0; i < 253; i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(raw_ping(fd), 0);
	before = nr_open();
	for (type = WIRE_OPEN_SPACE; type < WIRE_NR_TYPES; type++) {
		if (type == WIRE_EVENT || wire_type_name(type)[0] == '?')
			continue;
		assert_int_equal(send_with_fds(fd, type, 2, "", 0, fds,
					       type == WIRE_PING ? 253 : 1),
				 0);
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_int_equal(f.header.status, EBADF);
		assert_int_equal(raw_ping(fd), 0);
		assert_int_equal(nr_open(), before);
	}
	close(fd);
}

/* Garbage with descriptors: those go too. */
static void test_with_garbage(void **state)
{
	int fds[3] = { 0, 1, 2 };
	int watcher = raw_open(d.socket), fd;
	unsigned before, i;

	assert_int_equal(raw_ping(watcher), 0);
	before = nr_open();
	for (i = 0; i < 20; i++) {
		fd = raw_connect(d.socket);
		assert_int_equal(raw_send_bytes(fd, "xyz", 3, fds, 3), 0);
		assert_true(raw_at_end(fd));
		close(fd);
	}
	assert_int_equal(raw_ping(watcher), 0);
	assert_int_equal(nr_open(), before);
	close(watcher);
}

static const uint8_t hello[] = { 0x08, WIRE_VERSION };

static int hello_with(int *fds, unsigned nr)
{
	int fd = raw_connect(d.socket), r;

	assert_int_equal(send_with_fds(fd, WIRE_HELLO, 1, hello, sizeof(hello),
				       fds, nr), 0);
	r = raw_recv(fd, &f);
	assert_int_equal(r, 0);
	close(fd);
	return -(int)f.header.status;
}

static void test_hello(void **state)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
	int fds[2] = { self, self };
	int watcher = raw_open(d.socket);
	unsigned before;

	assert_true(self >= 0 && parent >= 0);
	assert_int_equal(raw_ping(watcher), 0);
	before = nr_open();
	assert_int_equal(hello_with(fds, 1), 0);
	assert_int_equal(hello_with(fds, 2), -EBADF);
	fds[0] = parent; /* somebody else's */
	assert_int_equal(hello_with(fds, 1), -EBADF);
	fds[0] = STDERR_FILENO; /* no pidfd at all */
	assert_int_equal(hello_with(fds, 1), -EBADF);
	assert_non_null(strstr(raw_error(&f), "not a pidfd"));
	assert_int_equal(hello_with(NULL, 0), 0);
	assert_int_equal(raw_ping(watcher), 0);
	while (nr_open() != before) /* the last hangup is on its way */
		assert_int_equal(raw_ping(watcher), 0);
	close(watcher);
	close(self);
	close(parent);
}

/* Without room for its descriptor a hello is as a connection not let in: it is
 * not told that what it sent is no pidfd. */
static void test_hello_without_room(void **state)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fd = raw_connect(d.socket);
	int watcher = raw_open(d.socket); /* accepted after fd */
	struct rlimit was;

	assert_true(self >= 0 && fd >= 0);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, NULL, &was), 0);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &(struct rlimit){
				 .rlim_max = was.rlim_max }, NULL), 0);
	assert_int_equal(send_with_fds(fd, WIRE_HELLO, 1, hello, sizeof(hello),
				       &self, 1), 0);
	assert_int_equal(raw_recv(fd, &f), -ECONNRESET);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &was, NULL), 0);
	assert_int_equal(hello_with(&self, 1), 0);
	assert_int_equal(raw_ping(watcher), 0);
	close(fd);
	close(watcher);
	close(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extra),
		cmocka_unit_test(test_with_garbage),
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_hello_without_room),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
