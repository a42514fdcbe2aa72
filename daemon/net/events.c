// SPDX-License-Identifier: Apache-2.0
/*
 * events.c - told unasked, to connections that have subscribed: levels of
 * pressure, and what becomes of a space's blocks.
 *
 * Frames are made in the server's send buffer, which nobody uses across a
 * call of mem/; not in its arena, where a reply may be in the making.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/events.h"
#include "daemon/net/state.h"

/* Events after which their stream is sent before the turn is over. */
#define STREAM_FRESH 1024u

/* All that want the same of a space. */
struct stream {
	struct watch *watch;
	struct blocklog log;	/* there while somebody wants it */
	LIST_HEAD(, subscription) subs;
	TAILQ_ENTRY(stream) link; /* events.news, when nr_fresh is not 0 */
	uint32_t nr_fresh;	/* events since it was last sent */
};

enum { PLAIN, TOKENS, NR_STREAMS };

/* A space that somebody watches. */
struct watch {
	struct server *server;
	struct mem_space *space;
	struct stream streams[NR_STREAMS];
	unsigned nr_readers;
};

struct subscription {
	LIST_ENTRY(subscription) of_stream;
	LIST_ENTRY(subscription) of_client;
	struct client *client;
	struct stream *stream;	/* NULL: the space has gone, to be told */
	uint32_t id;		/* of the space */
	uint64_t serial;
	uint64_t next;		/* event to be sent */
	uint64_t lost;		/* and not yet said so */
};

/* ---- streams ---- */

static void stream_unlist(struct stream *st)
{
	if (st->nr_fresh > 0)
		TAILQ_REMOVE(&st->watch->server->events.news, st, link);
	st->nr_fresh = 0;
}

static bool watch_is_idle(const struct watch *w)
{
	return LIST_EMPTY(&w->streams[PLAIN].subs) &&
	       LIST_EMPTY(&w->streams[TOKENS].subs);
}

static void watch_free(struct watch *w)
{
	int i;

	for (i = 0; i < NR_STREAMS; i++) {
		stream_unlist(&w->streams[i]);
		blocklog_fini(&w->streams[i].log);
	}
	free(w);
}

/* Whoever wanted it last has gone. */
static void stream_put(struct stream *st)
{
	struct watch *w = st->watch;

	if (!LIST_EMPTY(&st->subs))
		return;
	stream_unlist(st);
	blocklog_fini(&st->log);
	if (!watch_is_idle(w))
		return;
	mem_space_watch(w->space, NULL);
	watch_free(w);
}

static struct watch *watch_get(struct server *s, struct mem_space *space)
{
	struct watch *w = mem_space_watcher(space);
	int i;

	if (w)
		return w;
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->server = s;
	w->space = space;
	for (i = 0; i < NR_STREAMS; i++) {
		w->streams[i].watch = w;
		LIST_INIT(&w->streams[i].subs);
	}
	mem_space_watch(space, w);
	return w;
}

static int stream_get(struct server *s, struct mem_space *space, bool tokens,
		      struct stream **ret)
{
	struct watch *w = watch_get(s, space);
	struct stream *st = w ? &w->streams[tokens ? TOKENS : PLAIN] : NULL;
	struct mem_space_stat stat;

	if (!st)
		return -ENOMEM;
	if (w->nr_readers >= EVENTS_MAX_READERS)
		return -EBUSY;
	mem_space_stat(space, &stat);
	if (!st->log.slots &&
	    blocklog_init(&st->log, tokens ? stat.key->geometry.page_tokens :
					     0) < 0) {
		stream_put(st);
		return -ENOMEM;
	}
	*ret = st;
	return 0;
}

/* ---- subscriptions ---- */

static void sub_free(struct subscription *sub)
{
	struct stream *st = sub->stream;

	LIST_REMOVE(sub, of_client);
	sub->client->events.nr_subscriptions--;
	sub->client->user->nr_subscriptions--;
	if (st) {
		LIST_REMOVE(sub, of_stream);
		st->watch->nr_readers--;
		stream_put(st);
	}
	free(sub);
}

static bool sub_has_news(const struct subscription *sub)
{
	return !sub->stream || sub->next < sub->stream->log.next;
}

/*
 * Sends a frame of news, if the socket takes it. To a peer that is gone, or
 * will not read, none of it need be sent again. Return: it was.
 */
static bool sub_send(struct subscription *sub)
{
	const struct blocklog *log = sub->stream ? &sub->stream->log : NULL;
	struct block_batch b = { .space = sub->id,
				 .serial = sub->serial,
				 .log = log };
	uint8_t *tx = sub->client->server->tx;
	uint32_t nr;
	size_t size;
	int r;

	if (log && sub->next < log->oldest) {
		sub->lost += log->oldest - sub->next;
		sub->next = log->oldest;
	}
	b.first = sub->next;
	b.lost = sub->lost;
	size = dispatch_pack_blocks(&b, tx, &nr);
	r = conn_try(&sub->client->conn, tx, size);
	if (r == -EAGAIN)
		return false;
	sub->lost = 0;
	sub->next = r < 0 && log ? log->next : sub->next + nr;
	return true;
}

/* Frees it when its end has been told. */
static void sub_flush(struct subscription *sub)
{
	bool sent = true;

	while (sent && !conn_is_full(&sub->client->conn) && sub_has_news(sub)) {
		sent = sub_send(sub);
		if (sent && !sub->stream) {
			sub_free(sub);
			return;
		}
	}
}

static void stream_flush(struct stream *st)
{
	struct subscription *sub;
	bool all = true;

	stream_unlist(st);
	LIST_FOREACH(sub, &st->subs, of_stream) {
		sub_flush(sub);
		all &= !sub_has_news(sub);
	}
	if (all)
		blocklog_rewind(&st->log);
}

static void on_turn(uv_prepare_t *turn)
{
	struct server *s = turn->data;
	struct stream *st;

	while ((st = TAILQ_FIRST(&s->events.news)))
		stream_flush(st);
	uv_prepare_stop(turn);
}

/* ---- what mem tells ---- */

static void stream_add(struct stream *st, const struct mem_change *what)
{
	struct block_event *e = blocklog_add(&st->log);
	struct events *ev = &st->watch->server->events;

	e->stored = what->kind == MEM_BLOCK_STORED;
	e->name = *what->name;
	if (e->stored) {
		e->parent = *what->parent;
		e->extra = *what->extra;
		e->depth = what->depth;
		e->classes = what->classes;
		memcpy(e->tokens, what->tokens, 4ul * st->log.nr_tokens);
	}
	if (st->nr_fresh++ == 0) {
		TAILQ_INSERT_TAIL(&ev->news, st, link);
		uv_prepare_start(&ev->turn, on_turn);
	}
	if (st->nr_fresh >= STREAM_FRESH)
		stream_flush(st);
}

/* Its subscriptions end, each when it could be told. */
static void stream_gone(struct stream *st)
{
	struct subscription *sub;

	stream_flush(st);
	while ((sub = LIST_FIRST(&st->subs))) {
		LIST_REMOVE(sub, of_stream);
		sub->lost += st->log.next - sub->next;
		sub->next = st->log.next;
		sub->stream = NULL;
		sub_flush(sub);
	}
}

void events_on_change(void *ctx, void *watch, const struct mem_change *what)
{
	struct watch *w = watch;
	int i;

	for (i = 0; i < NR_STREAMS; i++) {
		if (LIST_EMPTY(&w->streams[i].subs))
			continue;
		if (what->kind == MEM_SPACE_GONE)
			stream_gone(&w->streams[i]);
		else
			stream_add(&w->streams[i], what);
	}
	if (what->kind == MEM_SPACE_GONE)
		watch_free(w);
}

/* ---- what clients want ---- */

int events_want_blocks(struct client *c, struct mem_space *s, bool tokens,
		       uint64_t *ret_next)
{
	struct subscription *sub;
	int r;

	events_drop_blocks(c, mem_space_id(s));
	if (c->events.nr_subscriptions >= EVENTS_MAX_SPACES ||
	    c->user->nr_subscriptions >=
	    c->server->cfg.max_subscriptions_per_user)
		return -EBUSY;
	sub = calloc(1, sizeof(*sub));
	if (!sub)
		return -ENOMEM;
	r = stream_get(c->server, s, tokens, &sub->stream);
	if (r < 0) {
		free(sub);
		return r;
	}
	sub->client = c;
	sub->id = mem_space_id(s);
	sub->serial = mem_space_serial(s);
	sub->next = *ret_next = sub->stream->log.next;
	LIST_INSERT_HEAD(&sub->stream->subs, sub, of_stream);
	sub->stream->watch->nr_readers++;
	LIST_INSERT_HEAD(&c->events.subscriptions, sub, of_client);
	c->events.nr_subscriptions++;
	c->user->nr_subscriptions++;
	return 0;
}

void events_drop_blocks(struct client *c, uint32_t id)
{
	struct subscription *sub, *next;

	for (sub = LIST_FIRST(&c->events.subscriptions); sub; sub = next) {
		next = LIST_NEXT(sub, of_client);
		if (sub->id == id)
			sub_free(sub);
	}
}

void events_want_levels(struct client *c, bool wants)
{
	struct listener_state *l = &c->events;

	if (l->wants_levels)
		LIST_REMOVE(c, events.link);
	l->wants_levels = wants;
	l->pool = c->server->events.level.now;
	l->tenant = c->tenant->level.now;
	if (wants)
		LIST_INSERT_HEAD(&c->server->events.listeners, c, events.link);
}

void events_forget(struct client *c)
{
	struct subscription *sub;

	while ((sub = LIST_FIRST(&c->events.subscriptions)))
		sub_free(sub);
	if (c->events.wants_levels)
		LIST_REMOVE(c, events.link);
	c->events.wants_levels = false;
}

/* ---- levels ---- */

/* Tells @c its levels, if they are others than it knows. */
static void tell_levels(struct client *c)
{
	enum level_value pool = c->server->events.level.now;
	enum level_value tenant = c->tenant->level.now;
	struct listener_state *l = &c->events;
	uint8_t *tx = c->server->tx;
	size_t size;

	if ((l->pool == pool && l->tenant == tenant) || conn_is_full(&c->conn))
		return;
	size = dispatch_pack_levels(pool, tenant, tx);
	if (conn_try(&c->conn, tx, size) == -EAGAIN)
		return;
	l->pool = pool;
	l->tenant = tenant;
}

static void tell_all(struct server *s)
{
	struct client *c;

	LIST_FOREACH(c, &s->events.listeners, events.link)
		tell_levels(c);
}

static bool update(struct level *l, const struct pressure *p, uint64_t now_us)
{
	struct pressure now = pressure_at(p, now_us);

	return level_update(l, &now, now_us);
}

void events_short(struct client *c, int err)
{
	struct server *s = c->server;
	uint64_t now_us = stall_now_us();
	bool changed = false;

	if (err != -ENOSPC && err != -EDQUOT)
		return;
	level_short(&c->tenant->level, now_us);
	changed |= update(&c->tenant->level, &c->tenant->pressure, now_us);
	if (err == -ENOSPC) {
		level_short(&s->events.level, now_us);
		changed |= update(&s->events.level, &s->pressure, now_us);
	}
	if (changed)
		tell_all(s);
}

void events_tick(struct server *s)
{
	uint64_t now_us = stall_now_us();
	struct tenant *t;

	update(&s->events.level, &s->pressure, now_us);
	TAILQ_FOREACH(t, &s->tenants.list, link)
		update(&t->level, &t->pressure, now_us);
	tell_all(s);
}

/* ---- life ---- */

void events_writable(struct client *c)
{
	struct subscription *sub, *next;

	if (c->events.wants_levels)
		tell_levels(c);
	for (sub = LIST_FIRST(&c->events.subscriptions); sub; sub = next) {
		next = LIST_NEXT(sub, of_client);
		sub_flush(sub);
	}
}

void events_init(struct server *s)
{
	uv_prepare_init(&s->loop, &s->events.turn);
	s->events.turn.data = s;
	TAILQ_INIT(&s->events.news);
	LIST_INIT(&s->events.listeners);
}
