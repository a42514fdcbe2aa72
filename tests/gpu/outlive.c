// SPDX-License-Identifier: Apache-2.0
/*
 * outlive.c - does exported memory outlive a killed exporter, when nobody but
 * the holder of its descriptor is left?
 *
 * The holder, this process, has no CUDA, as a service manager has none. Asked
 * twice: as it is, and with all GPUs' device nodes held open as well, which
 * keeps a GPU from being shut down when its last user closes it. "openers" are
 * descriptors of such nodes in all processes, once the exporter was gone: the
 * answer without ours says little unless there were none.
 */
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tests/gpu/question.h"

#define BYTES (64ul << 20)
#define NODES "/dev/nvidia[0-9]*"
#define MAX_NODES 64

struct trial {
	struct question_found found;
	unsigned openers;
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

/* Opens the device nodes. Return: how many. */
static unsigned hold_nodes(int *fds)
{
	unsigned nr = 0;
	glob_t g;

	if (glob(NODES, 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc && nr < MAX_NODES; i++) {
			fds[nr] = open(g.gl_pathv[i], O_RDWR | O_CLOEXEC);
			nr += fds[nr] >= 0;
		}
	globfree(&g);
	return nr;
}

/* Descriptors of device nodes in all processes that we may look at. */
static unsigned count_openers(void)
{
	unsigned nr = 0;
	char to[64];
	ssize_t n;
	glob_t g;

	if (glob("/proc/[0-9]*/fd/*", 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++) {
			n = readlink(g.gl_pathv[i], to, sizeof(to) - 1);
			to[n < 0 ? 0 : n] = '\0';
			nr += strncmp(to, "/dev/nvidia", 11) == 0 &&
			      to[11] >= '0' && to[11] <= '9';
		}
	globfree(&g);
	return nr;
}

static struct trial ask(void)
{
	struct trial t;
	int socket, fd;
	pid_t pid = child_start(exporter, &socket);
	char c;

	child_receive(socket, &c, 1, &fd);
	kill(pid, SIGKILL);
	child_wait(pid);
	close(socket);
	if (!child_double())
		sleep(2); /* a GPU that is shut down is so by now */
	t.openers = count_openers();
	t.found = question_find(fd, BYTES);
	close(fd);
	return t;
}

static bool outlived(const struct trial *t)
{
	return !strcmp(t->found.import, "CUDA_SUCCESS") && !t->found.wrong;
}

static void say(const char *how, const struct trial *t)
{
	printf(", \"%s_import\": \"%s\", \"%s_wrong_bytes\": %llu, "
	       "\"%s_openers\": %u", how, t->found.import, how,
	       (unsigned long long)t->found.wrong, how, t->openers);
}

int main(void)
{
	int fds[MAX_NODES], r = question_begin();
	struct trial alone, held;
	unsigned nr;

	if (r)
		return r;
	alone = ask();
	nr = hold_nodes(fds);
	held = ask();
	while (nr > 0)
		close(fds[--nr]);
	printf("{\"question\": \"outlive\", \"answer\": \"%s\"",
	       outlived(&alone) ? "yes" :
	       outlived(&held)	? "only while a device node is held open" :
				  "no");
	say("alone", &alone);
	say("held", &held);
	puts("}");
	return 0;
}
