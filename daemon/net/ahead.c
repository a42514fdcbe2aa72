// SPDX-License-Identifier: Apache-2.0
/*
 * ahead.c - what libuv would end the process for, had ahead of need.
 *
 * libuv finds who watches a descriptor in a table by number. Where it is to
 * grow and there is no memory, libuv calls abort(): then it had better be at
 * start, where nothing is lost, than with the thousandth client.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include "daemon/net/ahead.h"

/* A descriptor with number @nr, or the highest that there may be; or -1. */
static int high_fd(unsigned nr)
{
	struct rlimit lim;
	int low, high;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return -1;
	if (nr >= lim.rlim_cur)
		nr = (unsigned)lim.rlim_cur - 1;
	low = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (low < 0)
		return -1;
	high = fcntl(low, F_DUPFD_CLOEXEC, (int)nr);
	close(low);
	return high;
}

static void on_event(uv_poll_t *poll, int status, int events)
{
}

void ahead_of_fds(uv_loop_t *loop, unsigned nr)
{
	int fd = high_fd(nr);
	uv_poll_t poll;

	if (fd < 0)
		return;
	if (uv_poll_init(loop, &poll, fd) == 0) {
		uv_poll_start(&poll, UV_READABLE, on_event);
		uv_close((uv_handle_t *)&poll, NULL);
		uv_run(loop, UV_RUN_NOWAIT);
	}
	close(fd);
}
