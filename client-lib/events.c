// SPDX-License-Identifier: Apache-2.0
/*
 * events.c - what a connection has subscribed to, and what has come of it.
 */
#include <errno.h>
#include <stdlib.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/events.h"
#include "client-lib/request.h"
#include "client-lib/space.h"

_Static_assert(KVD_SUBSCRIBE_PRESSURE == WIRE_SUBSCRIBE_PRESSURE &&
	       KVD_SUBSCRIBE_BLOCKS == WIRE_SUBSCRIBE_BLOCKS &&
	       KVD_SUBSCRIBE_TOKENS == WIRE_SUBSCRIBE_TOKENS, "masks");
_Static_assert((int)KVD_LEVEL_LOW == (int)WIRE_LEVEL_LOW &&
	       (int)KVD_LEVEL_CRITICAL == (int)WIRE_LEVEL_CRITICAL, "levels");

/* To pressure, when neither space nor id is set. */
struct subscription {
	LIST_ENTRY(subscription) link;
	struct kvd_space *space;
	uint32_t id;		/* of one that is not open here */
	uint32_t mask;
	uint64_t next;		/* number of the next event; 0: any */
	bool cleared;		/* not told yet */
	kvd_event_fn fn;
	void *ctx;
};

struct event_kept {
	STAILQ_ENTRY(event_kept) link;
	struct Kvd__Event *e;
	size_t bytes;
};

static uint32_t sub_space(const struct subscription *s)
{
	return s->space ? s->space->id : s->id;
}

/* @id 0: pressure. */
static struct subscription *sub_find(const struct kvd *k, uint32_t id)
{
	struct subscription *s;

	LIST_FOREACH(s, &k->events.subscriptions, link)
		if (sub_space(s) == id)
			return s;
	return NULL;
}

static void sub_free(struct subscription *s)
{
	if (!s)
		return;
	LIST_REMOVE(s, link);
	free(s);
}

static void kept_free(struct kvd *k, struct event_kept *kept)
{
	STAILQ_REMOVE_HEAD(&k->events.kept, link);
	k->events.kept_bytes -= kept->bytes;
	call_event_free(kept->e);
	free(kept);
}

static void kept_drop(struct kvd *k)
{
	while (!STAILQ_EMPTY(&k->events.kept))
		kept_free(k, STAILQ_FIRST(&k->events.kept));
	k->events.missed = false;
}

void events_init(struct kvd *k)
{
	LIST_INIT(&k->events.subscriptions);
	STAILQ_INIT(&k->events.kept);
}

void events_fini(struct kvd *k)
{
	while (!LIST_EMPTY(&k->events.subscriptions))
		sub_free(LIST_FIRST(&k->events.subscriptions));
	kept_drop(k);
}

/* ---- as frames come ---- */

bool events_full(const struct kvd *k)
{
	return k->events.kept_bytes >= EVENTS_MAX_BYTES;
}

void events_missed(struct kvd *k)
{
	k->events.missed = true;
}

bool events_keep(struct kvd *k, struct Kvd__Event *e, size_t bytes)
{
	struct event_kept *kept = NULL;

	if (!events_full(k))
		kept = malloc(sizeof(*kept));
	if (!kept) {
		events_missed(k);
		return false;
	}
	kept->e = e;
	kept->bytes = bytes;
	STAILQ_INSERT_TAIL(&k->events.kept, kept, link);
	k->events.kept_bytes += bytes;
	return true;
}

void events_levels(struct kvd *k, uint32_t pool, uint32_t tenant)
{
	k->events.levels_new = true;
	k->events.pool = pool;
	k->events.tenant = tenant;
}

/* ---- telling ---- */

static void tell(const struct subscription *s, struct kvd_event *e,
		 uint32_t kind)
{
	e->size = sizeof(*e);
	e->kind = kind;
	e->space = s->space;
	s->fn(e, s->ctx);
}

static void tell_lost(const struct subscription *s, uint64_t lost)
{
	struct kvd_event e = { .lost = lost };

	tell(s, &e, KVD_EVENT_LOST);
}

static void tell_levels(struct kvd *k)
{
	const struct subscription *s = sub_find(k, 0);
	struct kvd_event e = {
		.pool = k->events.pool,
		.tenant = k->events.tenant,
	};

	if (!k->events.levels_new)
		return;
	k->events.levels_new = false;
	if (s)
		tell(s, &e, KVD_EVENT_PRESSURE);
}

/* Event @i of a frame, of which @stored were stored before it. */
static void tell_block(const struct subscription *s,
		       const struct event_frame *f, uint32_t i, uint32_t stored)
{
	struct kvd_event e = {
		.sequence = s->next,
		.block.name = f->names + (size_t)i * NAME_BYTES,
	};
	size_t at = (size_t)stored * NAME_BYTES;
	uint32_t n = s->space ? space_page_tokens(s->space) : f->nr_tokens;

	if (f->kinds[i] != WIRE_BLOCK_STORED) {
		tell(s, &e, KVD_EVENT_REMOVED);
		return;
	}
	e.block.parent = f->parents + at;
	e.block.extra = f->extras ? f->extras + at : NULL;
	e.block.nr_tokens = n;
	if (f->tokens && f->nr_tokens == n)
		e.block.tokens = f->tokens + (size_t)stored * n;
	e.block.depth = f->depths[stored];
	e.block.classes = f->classes[stored];
	tell(s, &e, KVD_EVENT_STORED);
}

static void tell_frame(struct subscription *s, const struct event_frame *f)
{
	struct kvd_event e = { .sequence = 0 };
	uint32_t stored = 0;

	if (s->next && f->first > s->next)
		tell_lost(s, f->first - s->next);
	s->next = f->first;
	for (uint32_t i = 0; i < f->nr; i++, s->next++) {
		tell_block(s, f, i, stored);
		stored += f->kinds[i] == WIRE_BLOCK_STORED;
	}
	if (!f->gone)
		return;
	tell(s, &e, EVENT_GONE);
	sub_free(s);
}

/* The next frame. Return: false: there is none. */
static bool tell_next(struct kvd *k)
{
	struct event_kept *kept = STAILQ_FIRST(&k->events.kept);
	struct subscription *s;
	struct event_frame f;

	if (!kept)
		return false;
	STAILQ_REMOVE_HEAD(&k->events.kept, link);
	k->events.kept_bytes -= kept->bytes;
	call_event_read(kept->e, &f);
	s = sub_find(k, f.space);
	if (s && f.space)
		tell_frame(s, &f);
	call_event_free(kept->e);
	free(kept);
	return true;
}

static void tell_cleared(struct kvd *k)
{
	struct kvd_event e = { .sequence = 0 };
	struct subscription *s;

	LIST_FOREACH(s, &k->events.subscriptions, link) {
		if (!s->cleared)
			continue;
		s->cleared = false;
		tell(s, &e, KVD_EVENT_CLEARED);
	}
}

/* What was dropped is of nobody knows whom. */
static void tell_missed(struct kvd *k)
{
	struct subscription *s;

	if (!k->events.missed)
		return;
	k->events.missed = false;
	LIST_FOREACH(s, &k->events.subscriptions, link) {
		if (!sub_space(s))
			continue;
		s->next = 0;
		tell_lost(s, 0);
	}
}

void events_deliver(struct kvd *k)
{
	if (k->events.delivering)
		return;
	k->events.delivering = true;
	do {
		tell_levels(k);
		tell_cleared(k);
	} while (tell_next(k));
	tell_missed(k);
	k->events.delivering = false;
}

/* ---- subscribing ---- */

static int sub_ask(struct kvd *k, struct subscription *s)
{
	struct subscribe_grant g;
	uint32_t id = sub_space(s);
	int r;

	r = request_subscribe(k, id, s->mask, &g);
	if (r)
		return r;
	s->next = g.next;
	if (!id)
		events_levels(k, g.pool, g.tenant);
	return 0;
}

int events_resume(struct kvd *k)
{
	struct subscription *s;
	int r = 0;

	kept_drop(k);
	LIST_FOREACH(s, &k->events.subscriptions, link) {
		r = sub_ask(k, s);
		if (r)
			break;
		s->cleared = sub_space(s) != 0;
	}
	return r;
}

/* What was kept of a former subscription is not for the new one. */
static void kept_forget(struct kvd *k, uint32_t id)
{
	STAILQ_HEAD(, event_kept) all = STAILQ_HEAD_INITIALIZER(all);
	struct event_kept *kept;
	struct event_frame f;

	STAILQ_CONCAT(&all, &k->events.kept);
	while ((kept = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		STAILQ_INSERT_TAIL(&k->events.kept, kept, link);
		call_event_read(kept->e, &f);
		if (f.space != id)
			continue;
		STAILQ_REMOVE(&k->events.kept, kept, event_kept, link);
		k->events.kept_bytes -= kept->bytes;
		call_event_free(kept->e);
		free(kept);
	}
}

/* Asks for it, on a new connection if need be. */
static int sub_connect(struct kvd *k, struct subscription *s)
{
	uint64_t end_ns = conn_deadline_ns(k);
	int r;

	do {
		r = conn_ready(k, k->timeout_ms);
		if (!r)
			r = sub_ask(k, s);
	} while (conn_retry(k, r, end_ns));
	return r;
}

int events_subscribe(struct kvd *k, struct kvd_space *space, uint32_t id,
		     uint32_t mask, kvd_event_fn fn, void *ctx)
{
	struct subscription *s;
	int r;

	if (k->events.delivering)
		return fail(k, -EINVAL, "not from a function that is told of "
			    "events");
	s = calloc(1, sizeof(*s));
	if (!s)
		return fail(k, -ENOMEM, "out of memory");
	*s = (struct subscription){
		.space = space,
		.id = id,
		.mask = mask,
		.fn = fn,
		.ctx = ctx,
	};
	r = sub_connect(k, s);
	if (r) {
		free(s);
		return r;
	}
	sub_free(sub_find(k, sub_space(s)));
	if (sub_space(s))
		kept_forget(k, sub_space(s));
	if (mask)
		LIST_INSERT_HEAD(&k->events.subscriptions, s, link);
	else
		free(s);
	return 0;
}

static int opts_check(struct kvd *k, const struct kvd_subscribe_opts *o,
		      kvd_event_fn fn)
{
	uint32_t may = o->space ? KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS :
				  KVD_SUBSCRIBE_PRESSURE;

	if (o->events & ~may)
		return fail(k, -EINVAL, "events: a space has blocks and their "
			    "tokens, without one there is pressure");
	if (o->events == KVD_SUBSCRIBE_TOKENS)
		return fail(k, -EINVAL, "events: tokens come with blocks");
	if (o->events && !fn)
		return fail(k, -EINVAL, "fn: who is told?");
	if (o->space && o->space->k != k)
		return fail(k, -EINVAL, "space: of another connection");
	return 0;
}

int kvd_subscribe(struct kvd *k, const struct kvd_subscribe_opts *opts,
		  kvd_event_fn fn, void *ctx)
{
	int r;

	if (!opts)
		return fail(k, -EINVAL, "opts must be given");
	r = fail_size(k, opts, sizeof(*opts));
	if (!r)
		r = opts_check(k, opts, fn);
	if (r)
		return r;
	return events_subscribe(k, opts->space, 0, opts->events, fn, ctx);
}

void events_forget(struct kvd_space *sp)
{
	struct subscribe_grant g;
	struct kvd *k = sp->k;

	if (!sub_find(k, sp->id))
		return;
	sub_free(sub_find(k, sp->id));
	if (k->fd >= 0)
		request_subscribe(k, sp->id, 0, &g);
	kept_forget(k, sp->id);
}

/* ---- the index, for who begins or has missed something ---- */

static int tell_copy(const struct index_copy *c, uint32_t nr_tokens,
		     int (*fn)(const struct kvd_block *block, void *ctx),
		     void *ctx)
{
	struct kvd_block b = {
		.name = c->name.b,
		.parent = c->parent.b,
		.extra = c->extra.b,
		.tokens = c->tokens,
		.nr_tokens = nr_tokens,
		.depth = c->depth,
		.classes = c->classes,
	};

	return fn(&b, ctx);
}

int kvd_space_blocks(struct kvd_space *sp,
		     int (*fn)(const struct kvd_block *block, void *ctx),
		     void *ctx)
{
	uint32_t nr = index_touched(&sp->index), n = space_page_tokens(sp);
	struct index_copy *copy;
	int r = 0;

	if (!nr && index_used(&sp->index))
		return fail(sp->k, -EOPNOTSUPP, "the daemon is older than this "
			    "library: its index cannot be listed");
	copy = malloc(sizeof(*copy) + 4ul * n);
	if (!copy)
		return fail(sp->k, -ENOMEM, "out of memory");
	for (uint32_t i = 1; i <= nr && !r; i++)
		if (index_copy(&sp->index, i, copy))
			r = tell_copy(copy, n, fn, ctx);
	free(copy);
	return r;
}

void kvd_space_name(const struct kvd_space *sp, const uint8_t *parent,
		    const uint8_t *extra, const uint32_t *tokens,
		    uint8_t *name)
{
	struct name up = { { 0 } }, more = { { 0 } }, n;

	if (parent)
		memcpy(up.b, parent, NAME_BYTES);
	if (extra)
		memcpy(more.b, extra, NAME_BYTES);
	n = name_block(&sp->key, &up, &more, tokens, space_page_tokens(sp));
	memcpy(name, n.b, NAME_BYTES);
}
