// SPDX-License-Identifier: Apache-2.0
/*
 * service_none.c - stands in for service.c in a build without libsystemd:
 * nothing was passed, nobody wants to hear.
 */
#include <string.h>
#include "daemon/service.h"

#define TICK_MS 1000

static void on_event(void *ctx)
{
}

static void on_status(void *ctx, const char *line)
{
}

bool service_journal(int level, const char *text,
		     const struct log_about *about)
{
	return false;
}

int service_init(struct service *s)
{
	memset(s, 0, sizeof(*s));
	s->listen_fd = -1;
	s->ops = (struct server_ops){ .ready = on_event,
				      .status = on_status,
				      .alive = on_event,
				      .stopping = on_event,
				      .reloading = on_event,
				      .tick_ms = TICK_MS };
	return 0;
}

void service_fini(struct service *s)
{
}
