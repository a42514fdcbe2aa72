/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.h - what libuv would end the process for, had ahead of need.
 */
#ifndef DAEMON_NET_AHEAD_H
#define DAEMON_NET_AHEAD_H

#include <uv.h>

/* Makes @loop's table of watchers large enough for @nr descriptors, or for as
 * many as the process may have. Runs the loop. As far as it can. */
void ahead_of_fds(uv_loop_t *loop, unsigned nr);

#endif
