// SPDX-License-Identifier: Apache-2.0
/*
 * mps.c - when MPS is asked for its clients.
 */
#include "daemon/net/mps.h"

static void mps_later(struct mps *m);

/* On the pool's thread. */
static void mps_run(uv_work_t *work)
{
	struct mps *m = work->data;

	m->err = mps_control_ask(&m->control);
}

static void mps_done(uv_work_t *work, int status)
{
	struct mps *m = work->data;

	m->asking = false;
	if (!m->ops)
		return;
	m->ops->answer(m->ctx, m->err < 0 ? NULL : &m->control,
		       m->control.why);
	mps_later(m);
}

static void mps_on_time(uv_timer_t *timer)
{
	struct mps *m = timer->data;

	if (!m->ops->begin(m->ctx))
		return;
	m->asking = true;
	if (uv_queue_work(timer->loop, &m->work, mps_run, mps_done) < 0) {
		m->asking = false;
		mps_later(m);
	}
}

static void mps_later(struct mps *m)
{
	uv_timer_start(&m->timer, mps_on_time, m->delay_ms, 0);
	m->delay_ms = m->delay_ms < MPS_LAST_MS / 2 ? 2 * m->delay_ms :
						      MPS_LAST_MS;
}

void mps_init(struct mps *m, uv_loop_t *loop, const struct mps_ops *ops,
	      void *ctx)
{
	uv_timer_init(loop, &m->timer);
	m->timer.data = m->work.data = m;
	m->ops = ops;
	m->ctx = ctx;
	m->delay_ms = MPS_FIRST_MS;
	atomic_store(&m->control.give_up, false);
}

void mps_want(struct mps *m)
{
	m->delay_ms = MPS_FIRST_MS;
	if (m->asking)
		return; /* the next one begins after that */
	if (!uv_is_active((uv_handle_t *)&m->timer) ||
	    uv_timer_get_due_in(&m->timer) > MPS_FIRST_MS)
		mps_later(m);
}

void mps_stop(struct mps *m)
{
	if (!m->ops)
		return;
	m->ops = NULL;
	atomic_store(&m->control.give_up, true);
	uv_close((uv_handle_t *)&m->timer, NULL);
}

void mps_fini(struct mps *m)
{
	mps_control_fini(&m->control);
}
