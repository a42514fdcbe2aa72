/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mps.h - when MPS is asked for its clients: while somebody waits for one to
 * go, ever more seldom.
 *
 * The question is asked on a thread of the loop's pool, one at a time; all
 * else is the loop's thread's.
 */
#ifndef DAEMON_NET_MPS_H
#define DAEMON_NET_MPS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "daemon/net/mps_control.h"

#define MPS_FIRST_MS 100
#define MPS_LAST_MS  30000

struct mps_ops {
	/*
	 * A question begins: what is so by now, its answer knows of. Return:
	 * false when nobody waits, and it is not asked.
	 */
	bool (*begin)(void *ctx);
	/* The answer; NULL: there is none, and @why has a line. */
	void (*answer)(void *ctx, const struct mps_control *list,
		       const char *why);
};

struct mps {
	uv_work_t work;
	uv_timer_t timer;
	const struct mps_ops *ops;
	void *ctx;
	struct mps_control control; /* the pool's thread's, while asking */
	uint64_t delay_ms;	/* before the next question */
	bool asking;
	int err;
};

/* @ops are kept. */
void mps_init(struct mps *m, uv_loop_t *loop, const struct mps_ops *ops,
	      void *ctx);

/* Somebody has begun to wait: a question begins soon. */
void mps_want(struct mps *m);

/*
 * No answer comes any more. The loop has to run until its handles are closed,
 * and a question that is out has come back.
 */
void mps_stop(struct mps *m);

/* After that. */
void mps_fini(struct mps *m);

#endif
