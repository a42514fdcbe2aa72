// SPDX-License-Identifier: Apache-2.0
/*
 * test_peer.c - whose process is it? On kernels that say, on those that do
 * not, and where its pid is not ours to see.
 *
 * A filter on system calls takes SO_PEERPIDFD away from kvd, as kernels before
 * 6.5 do; a PID namespace of its own makes all pids read 0. Both need root.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define PEERPIDFD 77

enum { OLD_KERNEL = 1, APART = 2 };

static struct daemon d;
static struct raw_frame f;

/* getsockopt(, , SO_PEERPIDFD): no such option. */
static void forget_option(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PEERPIDFD, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]),
				   .filter = code };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privs");
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0,
	      "seccomp: %s", strerror(errno));
}

/* /proc is that of the namespace we are in now. */
static void mount_proc(void)
{
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	      mount("proc", "/proc", "proc", 0, NULL) == 0, "mount: %s",
	      strerror(errno));
}

static void start(int how)
{
	unsigned long flags = how & APART ? CLONE_NEWPID | CLONE_NEWNS : 0;
	const char *argv[DAEMON_MAX_ARGS];

	if (geteuid() != 0)
		skip();
	daemon_prepare(&d);
	daemon_args(&d, NULL, argv);
	d.pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (d.pid < 0 && errno == EPERM) {
		daemon_remove(&d);
		skip();
	}
	CHECK(d.pid >= 0, "clone: %s", strerror(errno));
	if (d.pid == 0) {
		if (how & APART)
			mount_proc();
		if (how & OLD_KERNEL)
			forget_option();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(freopen(d.log, "a", stderr), "%s", d.log);
		execv(daemon_path(), (char **)(uintptr_t)argv);
		_exit(127);
	}
	daemon_wait_ready(&d);
}

static void stop(void)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* Says hello with the descriptor @own, or none. Return: its status. */
static int hello_with(int own, int *ret_fd)
{
	static const uint8_t hello[] = { 0x08, WIRE_VERSION };
	struct wire_header h = { .length = sizeof(hello), .type = WIRE_HELLO,
				 .id = 1 };
	uint8_t buf[WIRE_HEADER_BYTES + sizeof(hello)];
	int fd = raw_connect(d.socket);

	CHECK(fd >= 0, "connect");
	wire_put(buf, &h);
	memcpy(buf + WIRE_HEADER_BYTES, hello, sizeof(hello));
	CHECK(raw_send_bytes(fd, buf, sizeof(buf), &own, own >= 0) == 0,
	      "send");
	CHECK(raw_recv(fd, &f) == 0, "recv");
	*ret_fd = fd;
	return -(int)f.header.status;
}

static int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	CHECK(fd >= 0, "pidfd_open: %s", strerror(errno));
	return fd;
}

/* A worker has pages and is killed: they come back. @own: it sends a pidfd */
static void lives_and_dies(bool own)
{
	struct daemon_stat st;
	int ready[2], status;
	uint64_t h[4];
	char byte;
	pid_t pid;

	CHECK(pipe(ready) == 0, "pipe");
	pid = fork();
	if (pid == 0) {
		int fd, space;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(hello_with(own ? pidfd_of(getpid()) : -1, &fd) == 0,
		      "hello: %s", raw_error(&f));
		space = raw_open_space(fd, 1);
		CHECK(space > 0, "space: %s", strerror(-space));
		CHECK(raw_alloc(fd, (uint32_t)space, 4, 5000, h, NULL) == 0,
		      "alloc");
		CHECK(write(ready[1], "r", 1) == 1, "write");
		pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	daemon_stat(d.socket, &st);
	assert_int_equal(st.open, 4);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	daemon_assert_idle(&d);
}

/* A pidfd of another process, or none: not believed. */
static void lies(void)
{
	int fd, other = pidfd_of(getppid());

	assert_int_equal(hello_with(other, &fd), -EBADF);
	close(fd);
	assert_int_equal(hello_with(STDERR_FILENO, &fd), -EBADF);
	close(fd);
	close(other);
}

static void test_new(void **state)
{
	start(0);
	lives_and_dies(false);
	lives_and_dies(true);
	lies();
	stop();
}

static void test_old(void **state)
{
	start(OLD_KERNEL);
	lives_and_dies(false);
	lives_and_dies(true);
	lies();
	stop();
}

/* All pids are 0, which is no reason to believe what a client sends. */
static void test_apart(void **state)
{
	start(APART);
	lives_and_dies(false);
	lives_and_dies(true);
	lies();
	stop();
}

/* It cannot be told who it is: it may ask, but has no pages. */
static void test_apart_old(void **state)
{
	struct daemon_stat st;
	int fd;

	start(APART | OLD_KERNEL);
	assert_int_equal(hello_with(-1, &fd), 0);
	assert_int_equal(raw_ping(fd), 0);
	daemon_stat(d.socket, &st);
	assert_int_equal(raw_open_space(fd, 1), -EACCES);
	close(fd);
	lives_and_dies(true);
	assert_int_equal(hello_with(STDERR_FILENO, &fd), -EBADF);
	close(fd);
	stop();
}

/* Connects and ends; its child says hello when it is told to. */
static void outlive(int told)
{
	int fd = raw_connect(d.socket);
	char byte;

	if (fork() != 0)
		_exit(0);
	CHECK(read(told, &byte, 1) == 1, "read");
	CHECK(raw_send(fd, WIRE_HELLO, 1, "\x08\x01", 2) == 0, "send");
	CHECK(raw_recv(fd, &f) == 0, "recv");
	byte = (char)f.header.status;
	CHECK(write(told, &byte, 1) == 1, "write");
	_exit(0);
}

/* Who connected has ended before the hello, which another sends. */
static void goes(void)
{
	int told[2], status;
	char byte = 0;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, told) == 0, "pair");
	pid = fork();
	if (pid == 0)
		outlive(told[1]);
	close(told[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(write(told[0], "g", 1), 1);
	assert_int_equal(read(told[0], &byte, 1), 1);
	assert_int_equal(byte, EACCES);
	close(told[0]);
}

/* It may end at any moment of the daemon's looking at it: many times. */
static void test_gone(void **state)
{
	int how, i;

	for (how = 0; how <= OLD_KERNEL; how++) {
		start(how);
		for (i = 0; i < 200; i++)
			goes();
		stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_old),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_apart_old),
		cmocka_unit_test(test_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
