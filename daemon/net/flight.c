// SPDX-License-Identifier: Apache-2.0
/*
 * flight.c - single flight: blocks that somebody is about to compute, and those
 * who wait for them.
 *
 * One map has the names of all flights, mixed with their space; what it finds
 * is compared, name and space, at the place that the block's depth says. So no
 * name finds a block of another space, and with that of another tenant.
 *
 * Names of a flight that is over stay in the map for some turns. They are
 * passed over, because all its blocks count as done, and may be announced again
 * meanwhile: then the entry is the new flight's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/mem/tiers.h"
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/flight.h"
#include "daemon/net/state.h"

/* Of a turn. */
#define STEP_NAMES  2048u
#define STEP_EVENTS 64u

/* After a fetch that did not bring what it was to. */
#define FETCH_AGAIN_MS 1000u

struct flight {
	TAILQ_ENTRY(flight) link; /* client.flights, or flights.over */
	struct client *client;	/* NULL: it is over */
	struct user *user;	/* charged for its names while they are here */
	uint64_t id;
	uint64_t since_ms;	/* of the last block, or the announcement */
	uint32_t space;
	uint32_t depth;		/* of its first block */
	uint32_t nr;
	uint32_t done;		/* of them, from the first on */
	struct flight_waits waits;
	struct mem_fetch *fetch; /* it comes from the tiers; NULL: it does not */
	struct name names[];
};

struct flight_wait {
	uv_timer_t timer;
	TAILQ_ENTRY(flight_wait) link; /* flight.waits, or flights.woken */
	LIST_ENTRY(flight_wait) of_client;
	struct client *client;
	struct flight *flight;	/* NULL: it is to be told */
	uint64_t deadline_ms;
	uint32_t frame_id;
	uint32_t first, nr;	/* blocks of the flight that it waits for */
	bool late;
};

static void flights_on_idle(uv_idle_t *idle);

static void flights_work(struct server *s)
{
	uv_idle_start(&s->flights.idle, flights_on_idle);
}

static struct flight_counts *counts_of(const struct client *c)
{
	return &c->tenant->flights;
}

/* ---- waits ---- */

static void wait_on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void wait_free(struct flight_wait *w)
{
	struct client *c = w->client;

	if (w->flight)
		TAILQ_REMOVE(&w->flight->waits, w, link);
	else
		TAILQ_REMOVE(&c->server->flights.woken, w, link);
	LIST_REMOVE(w, of_client);
	c->nr_flight_waits--;
	c->user->nr_flight_waits--;
	counts_of(c)->nr_waits--;
	uv_close((uv_handle_t *)&w->timer, wait_on_closed);
}

/* It will be told, within the next turns. */
static void wait_wake(struct flight_wait *w)
{
	struct server *s = w->client->server;

	TAILQ_REMOVE(&w->flight->waits, w, link);
	w->flight = NULL;
	TAILQ_INSERT_TAIL(&s->flights.woken, w, link);
	uv_timer_stop(&w->timer);
	flights_work(s);
}

/* ---- flights ---- */

static uint64_t name_key_of(uint32_t space, const struct name *name)
{
	return name_hash(name) ^ space * 0x9e3779b97f4a7c15ULL;
}

static void flight_over(struct flight *f)
{
	struct client *c = f->client;
	struct flight_wait *w;

	while ((w = TAILQ_FIRST(&f->waits)))
		wait_wake(w);
	if (f->fetch)
		mem_fetch_cancel(f->fetch);
	f->fetch = NULL;
	TAILQ_REMOVE(&c->flights, f, link);
	c->nr_flights--;
	c->nr_announced -= f->nr;
	counts_of(c)->nr_flights--;
	f->client = NULL;
	f->done = f->nr;
	TAILQ_INSERT_TAIL(&c->server->flights.over, f, link);
	flights_work(c->server);
}

static void flight_give_up(struct flight *f)
{
	counts_of(f->client)->given_up++;
	flight_over(f);
}

/* When, without another block, nobody is to wait any more. */
static uint64_t flight_stalls_ms(const struct server *s, const struct flight *f)
{
	return f->since_ms + s->cfg.announce_ms;
}

static bool flight_check_stalled(struct server *s, struct flight *f)
{
	if (uv_now(&s->loop) < flight_stalls_ms(s, f))
		return false;
	counts_of(f->client)->stalled++;
	flight_over(f);
	return true;
}

/* The flight that block @name of @depth is to come of, or NULL. */
static struct flight *flight_find(struct server *s, uint32_t space,
				  uint32_t depth, const struct name *name)
{
	const uint64_t *v = map_get(&s->flights.names,
				    name_key_of(space, name));
	struct flight *f = v ? (struct flight *)(uintptr_t)*v : NULL;
	uint32_t at;

	if (!f || f->space != space || depth < f->depth)
		return NULL;
	at = depth - f->depth;
	if (at < f->done || at >= f->nr || !name_equal(&f->names[at], name))
		return NULL;
	return flight_check_stalled(s, f) ? NULL : f;
}

/* ---- asking ---- */

static void wait_on_timer(uv_timer_t *timer);

static void wait_start_timer(struct flight_wait *w)
{
	struct server *s = w->client->server;
	uint64_t now = uv_now(&s->loop), at = flight_stalls_ms(s, w->flight);

	if (at > w->deadline_ms)
		at = w->deadline_ms;
	uv_timer_start(&w->timer, wait_on_timer, at > now ? at - now : 0, 0);
}

static void wait_on_timer(uv_timer_t *timer)
{
	struct flight_wait *w = timer->data;
	struct server *s = w->client->server;

	if (uv_now(&s->loop) >= w->deadline_ms) {
		w->late = true;
		counts_of(w->client)->late++;
		wait_wake(w);
	} else if (!flight_check_stalled(s, w->flight)) {
		wait_start_timer(w);
	}
}

static int wait_add(struct client *c, struct flight *f,
		    const struct flight_ask *ask, uint32_t nr)
{
	const struct server_config *cfg = &c->server->cfg;
	uint64_t ms = ask->wait_ms < cfg->max_wait_ms ? ask->wait_ms :
							cfg->max_wait_ms;
	struct flight_wait *w;

	if (c->nr_flight_waits >= cfg->max_waiting ||
	    c->user->nr_flight_waits >= cfg->max_waiting_per_user)
		return -EBUSY;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->client = c;
	w->flight = f;
	w->deadline_ms = uv_now(&c->server->loop) + ms;
	w->frame_id = ask->frame_id;
	w->first = ask->depth - f->depth;
	w->nr = nr;
	TAILQ_INSERT_TAIL(&f->waits, w, link);
	LIST_INSERT_HEAD(&c->flight_waits, w, of_client);
	c->nr_flight_waits++;
	c->user->nr_flight_waits++;
	counts_of(c)->nr_waits++;
	counts_of(c)->waited += !ask->again;
	uv_timer_init(&c->server->loop, &w->timer);
	w->timer.data = w;
	wait_start_timer(w);
	return 0;
}

/* How many of the blocks asked for are to come of @f. */
static uint32_t flight_alike(const struct flight *f,
			     const struct flight_ask *ask)
{
	uint32_t first = ask->depth - f->depth, nr = 1;

	while (nr < ask->nr && first + nr < f->nr &&
	       name_equal(&f->names[first + nr], &ask->names[nr]))
		nr++;
	return nr;
}

/* How many of them, from the first on, are nobody's. */
static uint32_t flight_free(struct server *s, uint32_t space,
			    const struct flight_ask *ask)
{
	uint32_t nr = 1;

	while (nr < ask->nr && !flight_find(s, space, ask->depth + nr,
					    &ask->names[nr]))
		nr++;
	return nr;
}

static struct flight *flight_new(struct client *c, uint32_t space,
				 const struct flight_ask *ask, uint32_t nr)
{
	struct flights *fs = &c->server->flights;
	struct flight *f;

	if (map_reserve(&fs->names, nr) < 0)
		return NULL;
	f = malloc(sizeof(*f) + nr * sizeof(f->names[0]));
	if (!f)
		return NULL;
	*f = (struct flight){ .client = c,
			      .user = c->user,
			      .id = ++fs->last_id,
			      .since_ms = uv_now(&c->server->loop),
			      .space = space,
			      .depth = ask->depth,
			      .nr = nr };
	TAILQ_INIT(&f->waits);
	memcpy(f->names, ask->names, nr * sizeof(f->names[0]));
	for (uint32_t i = 0; i < nr; i++)
		map_put(&fs->names, name_key_of(space, &f->names[i]),
			(uintptr_t)f);
	return f;
}

static bool flight_is_allowed(const struct client *c, uint32_t nr)
{
	return c->nr_flights < FLIGHT_MAX_NR &&
	       c->nr_announced + nr <= FLIGHT_MAX_NAMES &&
	       c->user->nr_announced + nr <=
		       c->server->cfg.max_announced_per_user;
}

static void flight_begin(struct client *c, struct flight *f)
{
	TAILQ_INSERT_HEAD(&c->flights, f, link);
	c->nr_flights++;
	c->nr_announced += f->nr;
	c->user->nr_announced += f->nr;
	counts_of(c)->nr_flights++;
}

static int flight_announce(struct client *c, uint32_t space,
			   const struct flight_ask *ask,
			   struct flight_answer *ret)
{
	uint32_t nr = flight_free(c->server, space, ask);
	struct flight *f;

	if (!flight_is_allowed(c, nr))
		return -EBUSY;
	f = flight_new(c, space, ask, nr);
	if (!f)
		return -ENOMEM;
	flight_begin(c, f);
	counts_of(c)->announced += nr;
	*ret = (struct flight_answer){ FLIGHT_OURS, f->id, nr };
	return 0;
}

static void flight_on_fetched(void *ctx, uint32_t nr);

/*
 * What nobody computes the tiers may have: then it comes from there, for all
 * who want it, and the flight is of whoever asked first. Only for who waits.
 */
static struct flight *flight_fetch(struct client *c, struct mem_space *sp,
				   const struct flight_ask *ask)
{
	uint32_t nr = ask->nr < MEM_FETCH_BLOCKS ? ask->nr : MEM_FETCH_BLOCKS;
	struct mem_fetch *fetch;
	struct flight *f;

	if (!c->server->tiers || !ask->wait_ms ||
	    !flight_is_allowed(c, nr))
		return NULL;
	if (name_equal(&ask->names[0], &c->fetch_not) &&
	    uv_now(&c->server->loop) < c->fetch_ms)
		return NULL;
	nr = mem_fetch(sp, ask->depth, ask->names, nr, &fetch);
	if (!nr)
		return NULL;
	f = flight_new(c, mem_space_id(sp), ask, nr);
	if (!f) {
		mem_fetch_cancel(fetch);
		return NULL;
	}
	f->fetch = fetch;
	mem_fetch_wait(fetch, flight_on_fetched, f);
	flight_begin(c, f);
	return f;
}

int flight_ask(struct client *c, struct mem_space *sp,
	       const struct flight_ask *ask, struct flight_answer *ret)
{
	uint32_t space = mem_space_id(sp);
	struct flight *f;

	*ret = (struct flight_answer){ .state = FLIGHT_NONE };
	if (mem_pin_find(sp, &ask->names[0])) {
		ret->state = FLIGHT_HERE;
		return 0;
	}
	f = flight_find(c->server, space, ask->depth, &ask->names[0]);
	if (!f)
		f = flight_fetch(c, sp, ask);
	if (!f)
		return ask->announce ? flight_announce(c, space, ask, ret) : 0;
	ret->state = FLIGHT_COMING;
	ret->nr = flight_alike(f, ask);
	return ask->wait_ms ? wait_add(c, f, ask, ret->nr) : 0;
}

/* ---- what becomes of them ---- */

static struct flight *flight_of(const struct client *c, uint64_t id)
{
	struct flight *f;

	TAILQ_FOREACH(f, &c->flights, link)
		if (f->id == id)
			break;
	return f;
}

/* Who waits for what is done now is told. */
static void flight_tell(struct flight *f)
{
	const struct client_space *sp =
		client_space_find(f->client, f->space);
	struct flight_wait *w, *next;

	for (w = TAILQ_FIRST(&f->waits); w; w = next) {
		uint32_t nr;

		next = TAILQ_NEXT(w, link);
		if (w->first >= f->done)
			continue;
		nr = f->done - w->first < w->nr ? f->done - w->first : w->nr;
		counts_of(w->client)->saved += (uint64_t)nr * sp->page_tokens;
		wait_wake(w);
	}
}

/* Its first @nr blocks are in the index, and perhaps some that follow it. */
static void flight_has_come(struct flight *f, uint32_t nr)
{
	if (nr > f->nr)
		nr = f->nr;
	if (nr <= f->done)
		return;
	f->done = nr;
	f->since_ms = uv_now(&f->client->server->loop);
	if (!TAILQ_EMPTY(&f->waits))
		flight_tell(f);
	if (f->done == f->nr)
		flight_over(f);
}

void flight_progress(struct client *c, uint64_t id, uint32_t depth)
{
	struct flight *f = flight_of(c, id);

	if (f && !f->fetch && depth > f->depth)
		flight_has_come(f, depth - f->depth);
}

/* Where not all has come, somebody had better compute it: nobody is to wait in
 * a circle. */
static void flight_on_fetched(void *ctx, uint32_t nr)
{
	struct flight *f = ctx;
	struct client *c = f->client;

	f->fetch = NULL;
	if (nr < f->nr) {
		c->fetch_not = f->names[nr];
		c->fetch_ms = uv_now(&c->server->loop) + FETCH_AGAIN_MS;
		flight_has_come(f, nr);
		flight_over(f);
	} else {
		flight_has_come(f, nr);
	}
}

void flight_end(struct client *c, uint64_t id)
{
	struct flight *f = flight_of(c, id);

	if (f)
		flight_give_up(f);
}

void flight_leave(struct client *c, uint32_t frame_id)
{
	struct flight_wait *w;

	LIST_FOREACH(w, &c->flight_waits, of_client)
		if (w->frame_id == frame_id)
			break;
	if (w)
		wait_free(w);
}

void flights_end_space(struct client *c, uint32_t id)
{
	struct flight *f, *next;

	for (f = TAILQ_FIRST(&c->flights); f; f = next) {
		next = TAILQ_NEXT(f, link);
		if (f->space == id)
			flight_give_up(f);
	}
}

void flights_forget(struct client *c)
{
	struct flight_wait *w;
	struct flight *f;

	while ((w = LIST_FIRST(&c->flight_waits)))
		wait_free(w);
	while ((f = TAILQ_FIRST(&c->flights)))
		flight_give_up(f);
}

/* ---- a step at a time ---- */

static void flights_tell_some(struct flights *fs)
{
	struct flight_wait *w;

	for (uint32_t i = 0; i < STEP_EVENTS && (w = TAILQ_FIRST(&fs->woken));
	     i++) {
		dispatch_flight(w->client, w->frame_id, w->late);
		wait_free(w);
	}
}

/* Takes its last names out of the map, up to @nr. Return: how many. */
static uint32_t flight_unname(struct flights *fs, struct flight *f, uint32_t nr)
{
	uint32_t n = f->nr < nr ? f->nr : nr;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t key = name_key_of(f->space, &f->names[--f->nr]);
		const uint64_t *v = map_get(&fs->names, key);

		if (v && *v == (uintptr_t)f)
			map_del(&fs->names, key);
	}
	f->done = f->nr;
	f->user->nr_announced -= n;
	return n;
}

static void flights_free_some(struct flights *fs)
{
	uint32_t left = STEP_NAMES;
	struct flight *f;

	while (left && (f = TAILQ_FIRST(&fs->over))) {
		left -= flight_unname(fs, f, left);
		if (f->nr)
			continue;
		TAILQ_REMOVE(&fs->over, f, link);
		free(f);
	}
	map_trim(&fs->names);
}

static void flights_on_idle(uv_idle_t *idle)
{
	struct server *s = idle->data;
	struct flights *fs = &s->flights;

	flights_tell_some(fs);
	flights_free_some(fs);
	if (TAILQ_EMPTY(&fs->woken) && TAILQ_EMPTY(&fs->over))
		uv_idle_stop(idle);
}

void flights_init(struct server *s)
{
	TAILQ_INIT(&s->flights.over);
	TAILQ_INIT(&s->flights.woken);
	uv_idle_init(&s->loop, &s->flights.idle);
	s->flights.idle.data = s;
}

void flights_fini(struct server *s)
{
	struct flight *f;

	while ((f = TAILQ_FIRST(&s->flights.over))) {
		TAILQ_REMOVE(&s->flights.over, f, link);
		free(f);
	}
	map_fini(&s->flights.names);
}
