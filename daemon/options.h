/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the command line, and the configuration that it leads to.
 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>
#include "daemon/config.h"

/* What is to be done. */
struct options {
	int argc;		/* the command line, read again for each */
	char **argv;		/* configuration */
	const char *config;	/* --config, or NULL */
	const char *dropins;	/* --dropins, or NULL */
	bool check;
	bool done;		/* --help and --version have been served */
};

/* Keeps @argv. Return: 0, or -EINVAL when it has said why on stderr. */
int options_parse(int argc, char **argv, struct options *ret);

/**
 * options_config() - files and command line, the latter winning
 * @c:	as config_init() leaves it
 *
 * One thread at a time. Return: 0, or a negative errno with c->why.
 */
int options_config(const struct options *o, struct config *c);

#endif
