// SPDX-License-Identifier: Apache-2.0
/*
 * child.c - a server of our own, in a directory of its own, for one benchmark.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/kvbench/child.h"

#define STOP_MS 5000

int child_init(struct child *c)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp || strlen(tmp) > CHILD_PATH / 2)
		tmp = "/tmp"; /* a socket's path must stay short */
	c->pid = 0;
	snprintf(c->dir, sizeof(c->dir), "%s/kvbench.XXXXXX", tmp);
	if (mkdtemp(c->dir))
		return 0;
	c->dir[0] = '\0';
	return -errno;
}

static void become(const struct child *c, const char *path,
                   const char *const argv[])
{
	char log[CHILD_PATH + 8];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	snprintf(log, sizeof(log), "%s/log", c->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	}
	execv(path, (char *const *)(uintptr_t)argv);
	_exit(127);
}

int child_start(struct child *c, const char *path, const char *const argv[])
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		become(c, path, argv);
	c->pid = pid;
	return 0;
}

int child_alive(const struct child *c)
{
	siginfo_t info = { 0 };

	return c->pid &&
	       waitid(P_PID, (id_t)c->pid, &info,
	              WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
	return remove(path);
}

void child_fini(struct child *c)
{
	int ms;

	if (c->pid) {
		kill(c->pid, SIGTERM);
		for (ms = 0; ms < STOP_MS && child_alive(c); ms++)
			usleep(1000);
		if (ms == STOP_MS)
			kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
		c->pid = 0;
	}
	if (c->dir[0])
		nftw(c->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	c->dir[0] = '\0';
}
