// SPDX-License-Identifier: Apache-2.0
/*
 * service.c - what a service manager gives and wants to hear.
 *
 * Descriptors are kept with FDPOLL=0: a manager that polled them would drop
 * those that report an error or a hangup, as device nodes may.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include "daemon/net/log.h"
#include "daemon/service.h"

#define TICK_MS 1000

/* ---- to the manager ---- */

static void on_ready(void *ctx)
{
	sd_notify(0, "READY=1");
}

static void on_status(void *ctx, const char *line)
{
	sd_notifyf(0, "STATUS=%s", line);
}

static void on_alive(void *ctx)
{
	sd_notify(0, "WATCHDOG=1");
}

static void on_stopping(void *ctx)
{
	sd_notify(0, "STOPPING=1");
}

/* When it was said tells a manager that asked for it that it was heard. */
static void on_reloading(void *ctx)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		   (uint64_t)now.tv_sec * 1000000 +
		   (uint64_t)now.tv_nsec / 1000);
}

static void on_keep_fd(void *ctx, const char *name, int fd)
{
	char state[320];
	int r;

	snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	r = sd_pid_notify_with_fds(0, 0, state, &fd, 1);
	if (r < 0)
		log_line(LOG_WARNING, "descriptor %s was not kept: %s; pages "
			 "in it will not survive a restart", name,
			 strerror(-r));
}

static void on_drop_fd(void *ctx, const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* ---- from the manager ---- */

/* A socket of ours is adopted, of another kind refused, the rest was kept. */
static int take_fd(struct service *s, int fd, const char *name)
{
	if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) > 0) {
		if (s->listen_fd >= 0) {
			snprintf(s->why, sizeof(s->why), "two sockets were "
				 "passed: kvd.socket has to have one");
			return -EINVAL;
		}
		s->listen_fd = fd;
		return 0;
	}
	if (sd_is_socket(fd, AF_UNSPEC, 0, -1) > 0) {
		snprintf(s->why, sizeof(s->why), "socket %s is of the wrong "
			 "kind: kvd.socket has to say "
			 "ListenSequentialPacket=PATH", name);
		return -EINVAL;
	}
	s->fds[s->nr_fds++] = (struct server_fd){ .name = name, .fd = fd };
	return 0;
}

static uint64_t tick_ms(void)
{
	uint64_t watchdog_us = 0;

	if (sd_watchdog_enabled(0, &watchdog_us) > 0 &&
	    watchdog_us / 2000 < TICK_MS)
		return watchdog_us / 2000 ? watchdog_us / 2000 : 1;
	return TICK_MS;
}

int service_init(struct service *s)
{
	int nr, i, r = 0;

	memset(s, 0, sizeof(*s));
	s->listen_fd = -1;
	s->ops = (struct server_ops){ .ready = on_ready,
				      .status = on_status,
				      .alive = on_alive,
				      .stopping = on_stopping,
				      .reloading = on_reloading,
				      .tick_ms = tick_ms() };
	if (getenv("NOTIFY_SOCKET")) {
		s->ops.keep_fd = on_keep_fd;
		s->ops.drop_fd = on_drop_fd;
	}
	nr = sd_listen_fds_with_names(1, &s->names);
	if (nr <= 0)
		return nr;
	s->fds = calloc((size_t)nr, sizeof(*s->fds));
	if (!s->fds)
		return -ENOMEM;
	for (i = 0; i < nr && r == 0; i++)
		r = take_fd(s, SD_LISTEN_FDS_START + i, s->names[i]);
	return r;
}

void service_fini(struct service *s)
{
	size_t i;

	for (i = 0; i < s->nr_fds; i++)
		if (s->fds[i].fd >= 0)
			close(s->fds[i].fd);
	free(s->fds);
	for (i = 0; s->names && s->names[i]; i++)
		free(s->names[i]);
	free(s->names);
}
