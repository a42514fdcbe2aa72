/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis.h - a private Redis to compare a round trip with.
 */
#ifndef TOOLS_KVBENCH_REDIS_H
#define TOOLS_KVBENCH_REDIS_H

#include "tools/kvbench/child.h"

struct redis {
	int fd; /* -1: not connected */
	struct child server;
};

#define REDIS_NULL                                                             \
	{                                                                      \
		.fd = -1, .server = CHILD_NULL                                 \
	}

/**
 * redis_open() - start a server on a Unix socket and connect to it
 * @program:	the executable; NULL: looked for in PATH
 *
 * Nothing is persisted and no port opened. Return: 0; -ENOENT there is none
 * in PATH; -errno. redis_close() it in all cases.
 */
int redis_open(struct redis *r, const char *program);
void redis_close(struct redis *r);

/* One PING, answered. Return: 0, -EPROTO or -errno. */
int redis_ping(struct redis *r);

#define REDIS_MAX_PIPELINE 64u
#define REDIS_VALUE	   100u /* bytes */

/*
 * @nr SETs of values, or GETs of those, of different keys, at most
 * REDIS_MAX_PIPELINE: sent together, then all answers awaited. Return: as
 * redis_ping().
 */
int redis_set(struct redis *r, unsigned nr);
int redis_get(struct redis *r, unsigned nr);

#endif
