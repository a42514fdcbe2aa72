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

#define DAEMON_MAX_WORDS 8

/**
 * daemon_kvctl() - have kvctl, the one beside this program, ask it
 * @words:	command and arguments, at most DAEMON_MAX_WORDS, then NULL
 *
 * Return: the answer; NULL: none, or kvctl has failed.
 */
json_t *daemon_kvctl(const struct child *c, const char *const *words);

/* What kvctl stat says. */
json_t *daemon_stat(const struct child *c);

/* What it has said, to stderr: for when it will not start. */
void daemon_print_log(const struct child *c);

#endif
