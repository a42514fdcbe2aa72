/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - what a service manager gives and wants to hear.
 *
 * systemd, or whatever speaks its protocol: sockets it has opened for us,
 * descriptors it kept for us, readiness, watchdog. Without one everything
 * here does nothing.
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include <stddef.h>
#include <stdint.h>
#include "daemon/net/log.h"
#include "daemon/net/server.h"

#define SERVICE_WHY_BYTES 256

struct service {
	int listen_fd;		/* -1: none was given */
	struct server_fd *fds;	/* kept for us */
	size_t nr_fds;
	char **names;		/* of all that was passed */
	struct server_ops ops;	/* tells the manager */
	char why[SERVICE_WHY_BYTES];
};

/**
 * service_init() - take over what was passed in the environment
 * Return: 0, or a negative errno with s->why.
 */
int service_init(struct service *s);

/* Closes what nobody has taken. */
void service_fini(struct service *s);

/* Lines for the journal, with what they are about as fields. Any thread. */
log_sink service_journal;

#endif
