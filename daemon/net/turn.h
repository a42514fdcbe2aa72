/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn.h - how long the longest turn of the loop was.
 *
 * A turn is what the loop does between two waits: everybody else waits for as
 * long. Two times are told: by the clock, in which a busy machine may have run
 * somebody else, and of the processor, which is the daemon's own doing. Both
 * since start, and of a window of ten seconds.
 */
#ifndef DAEMON_NET_TURN_H
#define DAEMON_NET_TURN_H

#include <stdint.h>
#include <uv.h>

#define TURN_WINDOW_NS 10000000000ull

/* The longest, each by itself. */
struct turn_max {
	uint64_t wall_ns;
	uint64_t cpu_ns;
};

struct turns {
	uv_prepare_t prepare;
	uint64_t now_ns;	/* when the last turn ended */
	uint64_t idle_ns;	/* waited until then */
	uint64_t cpu_ns;	/* of the thread, when last asked */
	uint64_t unasked_ns;	/* of turns since */
	uint64_t window_ns;	/* when the window began */
	struct turn_max window, before, ever;
};

/* Before anything else is on @loop. Return: 0 or a negative errno. */
int turns_init(struct turns *t, uv_loop_t *loop);

/* The first turn begins. */
void turns_start(struct turns *t);

/* Of the window and the one before it, so of ten seconds at least. */
struct turn_max turns_window(const struct turns *t);

/* Begins a new window, and forgets the one before. */
void turns_reset(struct turns *t);

#endif
