/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - kvd.conf and the command line, into what the server is told.
 *
 * Both set the same keys through the same table; the command line wins.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include "daemon/net/server.h"

#define CONFIG_WHY_BYTES 1024

struct config {
	struct server_config server;
	int log_level;
	const char *dropins;	/* one more directory of files; NULL: none */
	uint32_t later;		/* keys that config_keep() has put back */
	const char *reading;	/* the file, while it is read */
	char why[CONFIG_WHY_BYTES]; /* the first thing that is wrong */
};

/* Defaults for whoever runs us. */
void config_init(struct config *c);
void config_fini(struct config *c);

/**
 * config_read() - take over what a file says
 * Return: 0; -ENOENT no such file; -EINVAL; c->why names file, line, key and
 * what is allowed.
 */
int config_read(struct config *c, const char *path);

/**
 * config_read_dropins() - take over what is in directories beside a file
 * @path:	the configuration file that was read; NULL: none
 *
 * Files named *.conf in @path.d, if @path is a regular file, in c->dropins, and
 * in kvd.conf.d of the state directory, as it is known by now; in order of
 * their names over all, and of the directories where they have the same. A
 * directory that is not there is empty. Return: 0, -EINVAL as config_read().
 */
int config_read_dropins(struct config *c, const char *path);

/**
 * config_set() - set one key of [kvd] from its text
 * @where:	what to name in an error: "--pool", "kvd.conf:12: pool"
 * Return: 0, -ENOENT no such key, -EINVAL a value it does not take.
 */
int config_set(struct config *c, const char *key, const char *value,
	       const char *where);

/* What takes effect at a start only is put back to what @from has. */
void config_keep(struct config *c, const struct config *from);

/* The first key at or after *@i that was put back, and *@i behind it; or
 * NULL. */
const char *config_next_kept(const struct config *c, unsigned *i);

/* What must hold between keys. Return: 0 or -EINVAL with c->why. */
int config_check(struct config *c);

#endif
