// SPDX-License-Identifier: Apache-2.0
/*
 * throttle.c - answers held back, of tenants above their high.
 */
#include <errno.h>
#include <stdlib.h>
#include "daemon/net/state.h"
#include "daemon/net/throttle.h"

struct throttled {
	uv_timer_t timer;
	LIST_ENTRY(throttled) link;
	struct client *client;
	uint64_t since_ms;
	uint8_t *frame;
	size_t size;
};

static void throttle_on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* Counted for as long as it was held; freed when the loop lets go of it. */
static void throttle_end(struct throttled *th)
{
	struct client *c = th->client;

	c->tenant->throttled_ms += uv_now(&c->server->loop) - th->since_ms;
	client_stall_end(c);
	c->nr_throttled--;
	c->user->nr_throttled--;
	LIST_REMOVE(th, link);
	free(th->frame);
	uv_close((uv_handle_t *)&th->timer, throttle_on_closed);
}

static void throttle_on_timer(uv_timer_t *timer)
{
	struct throttled *th = timer->data;

	conn_send(&th->client->conn, th->frame, th->size, NULL, 0);
	throttle_end(th);
}

int throttle_send(struct client *c, uint64_t delay_ms, uint8_t *frame,
		  size_t size)
{
	struct throttled *th = malloc(sizeof(*th));

	if (!th) {
		free(frame);
		return -ENOMEM;
	}
	uv_timer_init(&c->server->loop, &th->timer);
	th->timer.data = th;
	th->client = c;
	th->since_ms = uv_now(&c->server->loop);
	th->frame = frame;
	th->size = size;
	LIST_INSERT_HEAD(&c->throttled, th, link);
	c->nr_throttled++;
	c->user->nr_throttled++;
	c->tenant->nr_throttled++;
	client_stall_begin(c);
	uv_timer_start(&th->timer, throttle_on_timer, delay_ms, 0);
	return 0;
}

void throttle_cancel(struct client *c)
{
	struct throttled *th;

	while ((th = LIST_FIRST(&c->throttled)))
		throttle_end(th);
}
