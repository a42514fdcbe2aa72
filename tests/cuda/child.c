// SPDX-License-Identifier: Apache-2.0
/*
 * child.c - processes that share device memory, for tests.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cuda/child.h"

void child_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	_exit(1);
}

const struct cuda_driver *child_cuda(void)
{
	char why[256];
	const struct cuda_driver *cu = cuda_driver(why, sizeof(why));
	cu_context ctx;

	REQUIRE(cu);
	REQUIRE(cu->cuInit(0) == CU_OK);
	REQUIRE(cu->cuDevicePrimaryCtxRetain(&ctx, 0) == CU_OK);
	REQUIRE(cu->cuCtxSetCurrent(ctx) == CU_OK);
	return cu;
}

static void *double_symbol(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	REQUIRE(lib);
	return dlsym(lib, "fakecuda_live");
}

bool child_double(void)
{
	return double_symbol() != NULL;
}

unsigned child_live(void)
{
	void *p = double_symbol();
	unsigned (*live)(void);

	if (!p)
		return 0;
	memcpy(&live, &p, sizeof(live));
	return live();
}

void child_live_is(unsigned nr)
{
	REQUIRE(!child_double() || child_live() == nr);
}

pid_t child_start(void (*fn)(int socket), int *ret_socket)
{
	int pair[2];
	pid_t pid;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid) {
		close(pair[0]);
		fn(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	*ret_socket = pair[0];
	return pid;
}

int child_wait(pid_t pid)
{
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid);
	return status;
}

void child_send(int socket, const void *buf, size_t bytes, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (void *)(size_t)buf, bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	REQUIRE(sendmsg(socket, &msg, 0) == (ssize_t)bytes);
}

void child_receive(int socket, void *buf, size_t bytes, int *ret_fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { buf, bytes };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };

	REQUIRE(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) == (ssize_t)bytes);
	if (!ret_fd)
		return;
	REQUIRE(CMSG_FIRSTHDR(&msg));
	memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(*ret_fd));
}
