// SPDX-License-Identifier: Apache-2.0
/*
 * turn.c - how long the longest turn of the loop was.
 *
 * libuv counts how long it waits. What is left of the time from one wait to
 * the next is the turn's. The processor is asked only when turns have added up
 * to enough for it to matter: a turn is charged too much by ASK_NS at most,
 * and never more than it took by the clock.
 */
#include <string.h>
#include <time.h>
#include "daemon/net/turn.h"

#define ASK_NS 100000u

static uint64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void turn_longer(struct turn_max *m, uint64_t wall_ns, uint64_t cpu_ns)
{
	if (wall_ns > m->wall_ns)
		m->wall_ns = wall_ns;
	if (cpu_ns > m->cpu_ns)
		m->cpu_ns = cpu_ns;
}

static void turns_count(struct turns *t, uint64_t wall_ns)
{
	uint64_t cpu_ns = wall_ns, now;

	t->unasked_ns += wall_ns;
	if (t->unasked_ns >= ASK_NS) {
		now = thread_ns();
		if (now - t->cpu_ns < cpu_ns)
			cpu_ns = now - t->cpu_ns;
		t->cpu_ns = now;
		t->unasked_ns = 0;
	}
	turn_longer(&t->window, wall_ns, cpu_ns);
	turn_longer(&t->ever, wall_ns, cpu_ns);
}

static void turns_on_prepare(uv_prepare_t *prepare)
{
	struct turns *t = prepare->data;
	uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(prepare->loop);
	uint64_t all = now - t->now_ns, waited = idle - t->idle_ns;

	turns_count(t, all > waited ? all - waited : 0);
	t->now_ns = now;
	t->idle_ns = idle;
	if (now - t->window_ns < TURN_WINDOW_NS)
		return;
	t->before = t->window;
	memset(&t->window, 0, sizeof(t->window));
	t->window_ns = now;
}

int turns_init(struct turns *t, uv_loop_t *loop)
{
	int r = uv_loop_configure(loop, UV_METRICS_IDLE_TIME);

	if (r < 0)
		return r;
	memset(t, 0, sizeof(*t));
	uv_prepare_init(loop, &t->prepare);
	t->prepare.data = t;
	return 0;
}

void turns_start(struct turns *t)
{
	t->now_ns = t->window_ns = uv_hrtime();
	t->cpu_ns = thread_ns();
	uv_prepare_start(&t->prepare, turns_on_prepare);
}

struct turn_max turns_window(const struct turns *t)
{
	struct turn_max m = t->window;

	turn_longer(&m, t->before.wall_ns, t->before.cpu_ns);
	return m;
}

void turns_reset(struct turns *t)
{
	memset(&t->window, 0, sizeof(t->window));
	memset(&t->before, 0, sizeof(t->before));
	t->window_ns = t->now_ns;
}
