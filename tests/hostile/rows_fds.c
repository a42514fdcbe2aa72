// SPDX-License-Identifier: Apache-2.0
/*
 * rows_fds.c - descriptors that are not what they should be, or should not be.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "tests/hostile/hostile.h"

static struct raw_frame f;

/* A hello with @own in the place of a pidfd of ours. */
static void hello_with(int own)
{
	int fd = raw_connect(w->socket);

	MUST(fd >= 0 && own >= 0, "%s", strerror(errno));
	MUST(send_with(fd, WIRE_HELLO, 1, "\x08\x01", 2, &own, 1) == 0,
	     "send");
	want(reply_to(fd, 1, &f), -EBADF);
	MUST(raw_at_end(fd), "still connected");
	close(fd);
	close(own);
}

static int pidfd_of(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void other_pidfd(void)
{
	hello_with(pidfd_of(w->victim.pid));
	hello_with(pidfd_of(w->kvd));
	hello_with(pidfd_of(1));
}

static void dead_pidfd(void)
{
	pid_t pid = fork();
	int fd;

	if (pid == 0)
		_exit(0);
	fd = pidfd_of(pid);
	kill_and_reap(pid);
	hello_with(fd);
}

static void plain_memfd(void)
{
	hello_with(memfd_create("pidfd", 0));
}

static void sealed_memfd(void)
{
	int fd = memfd_create("pidfd", MFD_ALLOW_SEALING);

	MUST(ftruncate(fd, 1 << 20) == 0 &&
	     fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW |
		   F_SEAL_WRITE | F_SEAL_SEAL) == 0, "seals");
	hello_with(fd);
}

static void directory(void)
{
	hello_with(open("/proc/self", O_RDONLY | O_DIRECTORY));
	hello_with(open("/", O_PATH));
}

static void device(void)
{
	hello_with(open("/dev/zero", O_RDWR));
	hello_with(open("/dev/null", O_RDWR));
}

static void pipe_closed(void)
{
	int ends[2];

	MUST(pipe(ends) == 0, "pipe");
	close(ends[1]);
	hello_with(ends[0]);
}

static void epoll_fd(void)
{
	hello_with(epoll_create1(0));
}

/* Text that looks as fdinfo does. */
static void fake_fdinfo(void)
{
	int fd = memfd_create("\nPid:\t1\n", 0);

	MUST(write(fd, "\nPid:\t1\n", 8) == 8, "write");
	hello_with(fd);
}

/* Sockets in each other: kept alive by nobody but themselves. */
static void itself(void)
{
	for (int i = 0; i < 100; i++) {
		int fd = raw_connect(w->socket), fds[2] = { fd, fd };

		MUST(send_with(fd, WIRE_HELLO, 1, "\x08\x01", 2, fds, 1) == 0,
		     "send");
		want(reply_to(fd, 1, &f), -EBADF);
		close(fd);
		fd = raw_open(w->socket);
		fds[0] = fds[1] = fd;
		MUST(send_with(fd, WIRE_PING, 2, "", 0, fds, 2) == 0, "send");
		want(reply_to(fd, 2, &f), -EBADF);
		/* And one nobody reads: it dies with it. */
		send_with(fd, WIRE_PING, 3, "", 0, fds, 2);
		close(fd);
	}
}

static void where_none_are_taken(void)
{
	int fd = raw_open(w->socket), one = STDERR_FILENO;

	for (unsigned type = WIRE_OPEN_SPACE; type < WIRE_NR_TYPES; type++) {
		if (type == WIRE_EVENT)
			continue;
		MUST(send_with(fd, type, type, "", 0, &one, 1) == 0, "send");
		want(reply_to(fd, type, &f), -EBADF);
		want(raw_ping(fd), 0);
	}
}

static void as_many_as_can_be(void)
{
	int fd = raw_open(w->socket), fds[253];

	for (int i = 0; i < 253; i++)
		fds[i] = open("/dev/zero", O_RDONLY);
	for (uint32_t i = 1; i <= 50; i++) {
		MUST(send_with(fd, WIRE_PING, i, "", 0, fds, 253) == 0,
		     "send");
		want(reply_to(fd, i, &f), -EBADF);
	}
	want(raw_ping(fd), 0);
}

static void with_garbage(void)
{
	int fds[64];

	for (int i = 0; i < 64; i++)
		fds[i] = memfd_create("m", 0);
	for (int i = 0; i < 50; i++) {
		int fd = raw_connect(w->socket);

		MUST(raw_send_bytes(fd, "garbage", 7, fds, 64) == 0, "send");
		MUST(raw_at_end(fd), "still connected");
		close(fd);
	}
	saw("the connection ends");
}

/* Sent, and never received: there are more of them than kvd may open. */
static void left_in_socket(void)
{
	int fds[100], conns[16];
	unsigned nr = 0;

	for (int i = 0; i < 100; i++)
		fds[i] = open("/dev/zero", O_RDONLY);
	for (int i = 0; i < 16; i++) {
		conns[i] = raw_open(w->socket);
		fcntl(conns[i], F_SETFL, O_NONBLOCK);
	}
	for (int round = 0; round < 200; round++)
		for (int i = 0; i < 16; i++)
			nr += send_with(conns[i], WIRE_PING, 1, "", 0, fds,
					100) == 0;
	VICTIM_IS_SERVED();
	saw("%s, those sent are closed", "EBADF");
	MUST(nr > 0, "none sent");
}

const struct row rows_fds[] = {
	{ "fd: another's pidfd", "hello with the pidfd of the victim, of kvd, "
	  "of init", other_pidfd },
	{ "fd: dead pidfd", "hello with that of a dead child", dead_pidfd },
	{ "fd: memfd", "hello with a memfd", plain_memfd },
	{ "fd: sealed memfd", "hello with a sealed one", sealed_memfd },
	{ "fd: directory", "hello with a directory, a path", directory },
	{ "fd: device", "hello with /dev/zero, /dev/null", device },
	{ "fd: pipe", "hello with a pipe without writer", pipe_closed },
	{ "fd: epoll", "hello with an epoll instance", epoll_fd },
	{ "fd: fdinfo", "hello with a memfd whose name and content are a "
	  "pidfd's fdinfo", fake_fdinfo },
	{ "fd: cycle", "the connection, sent over itself", itself },
	{ "fd: not taken", "one with every request that takes none",
	  where_none_are_taken },
	{ "fd: 253", "as many as a message can have", as_many_as_can_be },
	{ "fd: garbage", "64 with bytes that are no frame", with_garbage },
	{ "fd: flood", "100 with each of 3200 messages, answers unread",
	  left_in_socket },
	{ 0 }
};
