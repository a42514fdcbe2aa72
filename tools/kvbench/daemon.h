/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.h - a kvd of our own: the one beside this program, on the host.
 */
#ifndef TOOLS_KVBENCH_DAEMON_H
#define TOOLS_KVBENCH_DAEMON_H

#include <jansson.h>
#include <kvd/kvd.h>
#include "tools/kvbench/child.h"

#define DAEMON_MAX_ARGS 16

/**
 * daemon_start() - start it in a directory of its own
 * @c:		child_fini() it, also after a failure
 * @more:	its further arguments, at most DAEMON_MAX_ARGS, then NULL;
 *		NULL: none
 *
 * Return: 0 or -errno.
 */
int daemon_start(struct child *c, const char *const *more);

/**
 * daemon_connect() - connect to it as soon as it serves
 * @program:	name that kvctl shows
 *
 * Return: as kvd_connect(); -ENOTCONN also when it has ended.
 */
int daemon_connect(const struct child *c, const char *program,
                   struct kvd **ret);

/* What kvctl, the one beside this program, says of its pool; NULL: nothing. */
json_t *daemon_stat(const struct child *c);

/* What it has said, to stderr: for when it will not start. */
void daemon_print_log(const struct child *c);

#endif
