// SPDX-License-Identifier: Apache-2.0
/*
 * readonly.c - is a write through a mapping for reading refused, and how?
 *
 * Three ways to write, each by a process of its own, since the refusal may
 * break its context: a fill, a copy from the host, a kernel.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/gpu/question.h"
#include "tests/gpu/spin.h"

#define BYTES (2ul << 20)

/* What a writer met; "none" when it came through. */
struct refusal {
	char call[48];
	char wait[48];		/* for the work that the call recorded */
};

static void exporter(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	cu_ptr p;
	int fd = question_export(cu, BYTES, &p);

	child_send(socket, "x", 1, fd);
	for (;;)
		pause();
}

static cu_result by_fill(const struct cuda_driver *cu, cu_ptr p)
{
	return cu->cuMemsetD8Async(p, 1, BYTES, NULL);
}

static cu_result by_copy(const struct cuda_driver *cu, cu_ptr p)
{
	static const char bytes[4096];

	return cu->cuMemcpyHtoDAsync(p, bytes, sizeof(bytes), NULL);
}

static cu_result by_kernel(const struct cuda_driver *cu, cu_ptr p)
{
	return spin_start(cu, p, BYTES / 4, 1);
}

static const struct way {
	const char *name;
	cu_result (*write)(const struct cuda_driver *cu, cu_ptr p);
} ways[] = {
	{ "fill", by_fill },
	{ "copy", by_copy },
	{ "kernel", by_kernel },
};

static const struct way *way; /* of the next writer */

static void writer(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct refusal r = { "none", "none" };
	cu_result err;
	cu_mem mem;
	cu_ptr p;
	char c;
	int fd;

	child_receive(socket, &c, 1, &fd);
	REQUIRE(cu->cuMemImportFromShareableHandle(
			&mem, (void *)(intptr_t)fd, CU_HANDLE_POSIX_FD) ==
		CU_OK);
	p = question_map(cu, mem, BYTES, CU_ACCESS_READ);
	signal(SIGSEGV, SIG_DFL); /* not a sanitizer's, on the double */
	child_send(socket, "m", 1, -1);
	err = way->write(cu, p);
	if (err)
		strcpy(r.call, question_error(cu, err));
	err = cu->cuStreamSynchronize(NULL);
	if (err)
		strcpy(r.wait, question_error(cu, err));
	child_send(socket, &r, sizeof(r), -1);
}

/* A writer that mapped and then died tells by what. */
static struct refusal try_write(int fd)
{
	struct refusal r;
	int socket, status;
	pid_t pid = child_start(writer, &socket);
	char c;

	child_send(socket, "x", 1, fd);
	child_receive(socket, &c, 1, NULL);
	if (recv(socket, &r, sizeof(r), 0) == (ssize_t)sizeof(r)) {
		child_wait(pid);
	} else {
		status = child_wait(pid);
		REQUIRE(WIFSIGNALED(status));
		strcpy(r.call, "none");
		snprintf(r.wait, sizeof(r.wait), "killed by signal %d",
			 WTERMSIG(status));
	}
	close(socket);
	return r;
}

static bool refused(const struct refusal *r)
{
	return strcmp(r->call, "none") || strcmp(r->wait, "none");
}

int main(void)
{
	struct question_found after;
	struct refusal r[3];
	unsigned nr_refused = 0;
	int exported, fd, e = question_begin();
	pid_t pid;
	char c;

	if (e)
		return e;
	pid = child_start(exporter, &exported);
	child_receive(exported, &c, 1, &fd);
	for (int i = 0; i < 3; i++) {
		way = &ways[i];
		r[i] = try_write(fd);
		nr_refused += refused(&r[i]);
	}
	after = question_find(fd, BYTES);
	printf("{\"question\": \"readonly\", \"answer\": \"%s\", "
	       "\"bytes_changed\": %llu",
	       nr_refused == 3 && !after.wrong ? "refused" :
	       nr_refused			? "refused in part" :
						  "not refused",
	       (unsigned long long)after.wrong);
	for (int i = 0; i < 3; i++)
		printf(", \"%s_call\": \"%s\", \"%s_wait\": \"%s\"",
		       ways[i].name, r[i].call, ways[i].name, r[i].wait);
	puts("}");
	kill(pid, SIGKILL);
	child_wait(pid);
	close(exported);
	close(fd);
	return 0;
}
