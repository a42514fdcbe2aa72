/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - a server of our own, in a directory of its own, for one benchmark.
 */
#ifndef TOOLS_KVBENCH_CHILD_H
#define TOOLS_KVBENCH_CHILD_H

#include <sys/types.h>

#define CHILD_PATH 64

struct child {
	pid_t pid;            /* 0: not running */
	char dir[CHILD_PATH]; /* "": none */
};

#define CHILD_NULL                                                             \
	{                                                                      \
		0                                                              \
	}

/**
 * child_init() - make the directory, so that the arguments can name it
 * Return: 0 or -errno.
 */
int child_init(struct child *c);

/**
 * child_start() - run @path with @argv; its output goes to DIR/log
 *
 * It dies with this process. Return: 0 or -errno (not whether @path could be
 * executed: the server that never answers says that).
 */
int child_start(struct child *c, const char *path, const char *const argv[]);

/* Whether it has not ended yet. */
int child_alive(const struct child *c);

/* Ends it, waits for it, removes its directory. A struct of zeroes is fine. */
void child_fini(struct child *c);

#endif
