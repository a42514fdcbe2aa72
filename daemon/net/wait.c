// SPDX-License-Identifier: Apache-2.0
/*
 * wait.c - allocations that wait for room.
 *
 * mem says -EAGAIN while a segment is being made or pages are on their way,
 * -ENOSPC or -EDQUOT when others would have to release some, and calls room()
 * when it is worth trying again. A pass tries the oldest request of each
 * tenant in turn, until each has one that has to wait still or has none left;
 * so one that leaves a queue for whatever reason is cause for a pass too.
 * Passes run from the loop, never from inside mem, and go on in its next turn
 * when they have taken long.
 */
#include <errno.h>
#include <stdlib.h>
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"

/* Pages given out in one turn; an attempt in vain costs as much as so many. */
#define PASS_PAGES  1024u
#define PASS_FAILED 256u

struct waiter {
	uv_timer_t timer;
	TAILQ_ENTRY(waiter) link; /* tenant.waiters */
	LIST_ENTRY(waiter) of_client;
	struct client *client;
	struct alloc_args args;
	uint64_t deadline_ms;
	int err;		/* of the last attempt */
	uint64_t need_bytes;
};

void waiters_init(struct server *s)
{
	TAILQ_INIT(&s->waiters.tenants);
	TAILQ_INIT(&s->waiters.stuck);
}

/* All are to be tried anew; those that were not yet, first. */
static void waiters_unstick(struct waiters *ws)
{
	struct tenant *t;

	TAILQ_FOREACH(t, &ws->stuck, waiting)
		t->stuck = false;
	TAILQ_CONCAT(&ws->tenants, &ws->stuck, waiting);
}

static void waiter_link(struct waiter *w)
{
	struct tenant *t = w->client->tenant;

	if (t->nr_waiting++ == 0) {
		TAILQ_INIT(&t->waiters);
		t->stuck = false;
		TAILQ_INSERT_TAIL(&w->client->server->waiters.tenants, t,
				  waiting);
	}
	TAILQ_INSERT_TAIL(&t->waiters, w, link);
	LIST_INSERT_HEAD(&w->client->waiters, w, of_client);
	w->client->nr_waiting++;
	w->client->user->nr_waiting++;
	client_stall_begin(w->client);
}

static void waiter_on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void waiter_free(struct waiter *w)
{
	struct waiters *ws = &w->client->server->waiters;
	struct tenant *t = w->client->tenant;

	client_stall_end(w->client);
	w->client->nr_waiting--;
	w->client->user->nr_waiting--;
	LIST_REMOVE(w, of_client);
	TAILQ_REMOVE(&t->waiters, w, link);
	if (--t->nr_waiting == 0 && t->stuck)
		TAILQ_REMOVE(&ws->stuck, t, waiting);
	else if (t->nr_waiting == 0)
		TAILQ_REMOVE(&ws->tenants, t, waiting);
	uv_close((uv_handle_t *)&w->timer, waiter_on_closed);
}

/* Answers and forgets @w. */
static void waiter_reply(struct waiter *w, int err, struct reply *r)
{
	reply_send(w->client, WIRE_ALLOC, w->args.frame_id, err, r);
	waiter_free(w);
}

/* It got its pages: now, or a little later. */
static void waiter_serve(struct waiter *w, struct reply *r)
{
	uint64_t now = uv_now(&w->client->server->loop);
	uint64_t left = w->deadline_ms > now ? w->deadline_ms - now : 0;

	if (alloc_slow(w->client, &w->args, left, r) == REPLY_LATER)
		waiter_free(w);
	else
		waiter_reply(w, 0, r);
}

static void waiter_on_timer(uv_timer_t *timer)
{
	struct waiter *w = timer->data;
	struct server *s = w->client->server;
	struct reply r;

	reply_init(&r, &s->arena);
	r.need_bytes = w->need_bytes;
	/* Or room has not come in time, perhaps to one before it: its tenant
	 * is short of it in any case. */
	events_short(w->client, w->err == -EAGAIN ? -EDQUOT : w->err);
	waiter_reply(w, w->err, &r);
	waiters_retry(s);
}

bool waiters_ahead(const struct client *c)
{
	return c->tenant->nr_waiting > 0;
}

bool waiter_may_wait(int err)
{
	return err == -EAGAIN || err == -ENOSPC || err == -EDQUOT;
}

int waiter_add(struct client *c, const struct alloc_args *args,
	       uint64_t deadline_ms, int err, uint64_t need_bytes)
{
	struct server *s = c->server;
	uint64_t now = uv_now(&s->loop);
	struct waiter *w;

	if (c->nr_waiting >= s->cfg.max_waiting ||
	    c->user->nr_waiting >= s->cfg.max_waiting_per_user)
		return -EBUSY;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->client = c;
	w->args = *args;
	w->deadline_ms = deadline_ms;
	w->err = err;
	w->need_bytes = need_bytes;
	waiter_link(w);
	uv_timer_init(&s->loop, &w->timer);
	w->timer.data = w;
	uv_timer_start(&w->timer, waiter_on_timer,
		       deadline_ms > now ? deadline_ms - now : 0, 0);
	return 0;
}

void waiters_cancel(struct client *c)
{
	struct waiter *w;

	while ((w = LIST_FIRST(&c->waiters))) {
		waiter_free(w);
		waiters_retry(c->server);
	}
}

/* Return: false when it has to wait still. */
static bool waiter_try(struct server *s, struct waiter *w)
{
	struct reply r;
	int err;

	reply_init(&r, &s->arena);
	err = alloc_try(w->client, &w->args, &r);
	if (waiter_may_wait(err)) {
		w->err = err;
		w->need_bytes = r.need_bytes;
		events_short(w->client, err);
		return false;
	}
	if (err == 0)
		waiter_serve(w, &r);
	else
		waiter_reply(w, err, &r);
	return true;
}

/*
 * Whoever was served goes to the end; who was not keeps the place. Return:
 * there are more to be tried.
 */
static bool waiters_pass(struct server *s)
{
	struct waiters *ws = &s->waiters;
	uint32_t spent = 0;
	struct tenant *t;

	while (spent < PASS_PAGES && (t = TAILQ_FIRST(&ws->tenants))) {
		struct waiter *w = TAILQ_FIRST(&t->waiters);
		uint32_t count = w->args.count;

		TAILQ_REMOVE(&ws->tenants, t, waiting);
		TAILQ_INSERT_TAIL(&ws->tenants, t, waiting);
		if (waiter_try(s, w)) {
			spent += count;
			continue;
		}
		spent += PASS_FAILED;
		t->stuck = true;
		TAILQ_REMOVE(&ws->tenants, t, waiting);
		TAILQ_INSERT_TAIL(&ws->stuck, t, waiting);
	}
	if (!TAILQ_EMPTY(&ws->tenants))
		return true;
	waiters_unstick(ws);
	return false;
}

static void waiters_on_idle(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	if (waiters_pass(idle->data))
		uv_idle_start(idle, waiters_on_idle);
}

void waiters_retry(struct server *s)
{
	waiters_unstick(&s->waiters);
	if (!TAILQ_EMPTY(&s->waiters.tenants))
		uv_idle_start(&s->room, waiters_on_idle);
}
