// SPDX-License-Identifier: Apache-2.0
/*
 * wait.c - allocations that wait for room.
 *
 * mem says -EAGAIN while a segment is being made or pages are on their way,
 * -ENOSPC or -EDQUOT when others would have to release some, and calls room()
 * when it is worth trying again. A pass over the queue tries
 * each request, but none behind an older one of its tenant that still waits;
 * so one that leaves the queue for whatever reason is cause for a pass too.
 * Passes run from the loop, never from inside mem.
 */
#include <errno.h>
#include <stdlib.h>
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"

/* Of all clients: bounds a pass. */
#define WAITERS_MAX 4096

struct waiter {
	TAILQ_ENTRY(waiter) link;
	LIST_ENTRY(waiter) of_client;
	struct client *client;
	struct alloc_args args;
	uint64_t deadline_ms;
	int err;		/* of the last attempt */
	uint64_t need_bytes;
};

static void waiter_free(struct server *s, struct waiter *w)
{
	TAILQ_REMOVE(&s->waiters.queue, w, link);
	LIST_REMOVE(w, of_client);
	w->client->nr_waiting--;
	w->client->tenant->nr_waiting--;
	s->waiters.nr--;
	free(w);
}

/* Answers and forgets @w. */
static void waiter_reply(struct server *s, struct waiter *w, int err,
			 struct reply *r)
{
	reply_send(w->client, WIRE_ALLOC, w->args.frame_id, err, r);
	waiter_free(s, w);
}

static void waiters_on_timer(uv_timer_t *timer);

/* The timer may be early, when the one it was set for has left; not late. */
static void waiters_arm(struct server *s, uint64_t deadline_ms)
{
	uint64_t now = uv_now(&s->loop);

	if (deadline_ms >= s->waiters.next_ms)
		return;
	s->waiters.next_ms = deadline_ms;
	uv_timer_start(&s->waiters.timer, waiters_on_timer,
		       deadline_ms > now ? deadline_ms - now : 0, 0);
}

static void waiter_expire(struct server *s, struct waiter *w)
{
	struct reply r;

	reply_init(&r, &s->arena);
	r.need_bytes = w->need_bytes;
	waiter_reply(s, w, w->err, &r);
	waiters_retry(s);
}

static void waiters_on_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	struct waiter *w, *next;

	s->waiters.next_ms = UINT64_MAX;
	for (w = TAILQ_FIRST(&s->waiters.queue); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->deadline_ms <= uv_now(&s->loop))
			waiter_expire(s, w);
		else
			waiters_arm(s, w->deadline_ms);
	}
}

int waiters_init(struct server *s)
{
	TAILQ_INIT(&s->waiters.queue);
	s->waiters.next_ms = UINT64_MAX;
	s->waiters.timer.data = s;
	return uv_timer_init(&s->loop, &s->waiters.timer);
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
	struct waiter *w;

	if (c->nr_waiting >= s->cfg.max_waiting ||
	    s->waiters.nr >= WAITERS_MAX)
		return -EBUSY;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->client = c;
	w->args = *args;
	w->deadline_ms = deadline_ms;
	w->err = err;
	w->need_bytes = need_bytes;
	c->nr_waiting++;
	c->tenant->nr_waiting++;
	s->waiters.nr++;
	TAILQ_INSERT_TAIL(&s->waiters.queue, w, link);
	LIST_INSERT_HEAD(&c->waiters, w, of_client);
	waiters_arm(s, deadline_ms);
	return 0;
}

void waiters_cancel(struct client *c)
{
	struct waiter *w;

	while ((w = LIST_FIRST(&c->waiters))) {
		waiter_free(c->server, w);
		waiters_retry(c->server);
	}
}

static void waiters_pass(struct server *s)
{
	unsigned pass = ++s->waiters.pass;
	struct waiter *w, *next;
	struct reply r;
	int err;

	for (w = TAILQ_FIRST(&s->waiters.queue); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->client->tenant->pass == pass)
			continue;
		reply_init(&r, &s->arena);
		err = alloc_try(w->client, &w->args, &r);
		if (waiter_may_wait(err)) {
			w->client->tenant->pass = pass;
			w->err = err;
			w->need_bytes = r.need_bytes;
		} else {
			waiter_reply(s, w, err, &r);
		}
	}
}

static void waiters_on_idle(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	waiters_pass(idle->data);
}

void waiters_retry(struct server *s)
{
	if (!TAILQ_EMPTY(&s->waiters.queue))
		uv_idle_start(&s->room, waiters_on_idle);
}
