/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reload.h - another configuration, while the server runs.
 */
#ifndef DAEMON_NET_RELOAD_H
#define DAEMON_NET_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "daemon/net/server.h"

#define RELOAD_WHY_BYTES 512

struct reload {
	const struct server_reload *how;
	void *ctx;		/* for @how */
	uv_work_t work;
	bool running;
	bool again;		/* was asked for meanwhile */
	uint64_t nr_kept;	/* server's, when it began */
	struct server_config *cfg; /* that was read */
	int err;
	char why[RELOAD_WHY_BYTES];
};

/* Reads the configuration, off the loop's thread, and puts it in force. */
void reload_start(struct server *s);

#endif
