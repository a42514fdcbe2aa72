// SPDX-License-Identifier: Apache-2.0
/*
 * subscribe.c - which events a connection wants; and those events as frames.
 *
 * Blocks are for who may see their space: its tenant's users, who can map the
 * index anyway, and admins. Levels are the pool's and the asker's own.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/events.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

_Static_assert((int)LEVEL_LOW == (int)WIRE_LEVEL_LOW &&
	       (int)LEVEL_CRITICAL == (int)WIRE_LEVEL_CRITICAL, "levels");

#define BLOCKS_MASK (WIRE_SUBSCRIBE_BLOCKS | WIRE_SUBSCRIBE_TOKENS)

/* ---- the request ---- */

static int check_mask(const Kvd__SubscribeRequest *m, struct reply *r)
{
	uint32_t may = m->space ? BLOCKS_MASK : WIRE_SUBSCRIBE_PRESSURE;

	if (m->mask & ~may)
		return reply_fail(r, -EINVAL, "mask %u: with a space it takes "
				  "its blocks (2) and their tokens (4), "
				  "without one pressure (1)", m->mask);
	if (m->mask == WIRE_SUBSCRIBE_TOKENS)
		return reply_fail(r, -EINVAL, "tokens come with blocks: mask "
				  "6");
	return 0;
}

static int want_blocks(struct client *c, const Kvd__SubscribeRequest *m,
		       Kvd__SubscribeReply *a, struct reply *r)
{
	struct mem_space *s = find_space(c, m->space, r);
	int err;

	if (!s)
		return -ENOENT;
	a->serial = mem_space_serial(s);
	err = events_want_blocks(c, s, m->mask & WIRE_SUBSCRIBE_TOKENS,
				 &a->next);
	if (err == -EBUSY)
		return reply_fail(r, err, "a connection subscribes to %d "
				  "spaces at most, a user's connections to %u "
				  "(max-subscriptions-per-user), and to a "
				  "space %d connections", EVENTS_MAX_SPACES,
				  c->server->cfg.max_subscriptions_per_user,
				  EVENTS_MAX_READERS);
	return err;
}

int do_subscribe(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__SubscribeRequest *m =
		(const Kvd__SubscribeRequest *)req->msg;
	Kvd__SubscribeReply *a = arena_alloc(r->arena, sizeof(*a));
	int err;

	if (!a)
		return -ENOMEM;
	kvd__subscribe_reply__init(a);
	err = check_mask(m, r);
	if (err < 0)
		return err;
	if (m->space && m->mask)
		err = want_blocks(c, m, a, r);
	else if (m->space)
		events_drop_blocks(c, m->space);
	else
		events_want_levels(c, m->mask);
	if (err < 0)
		return err;
	a->pool = c->server->events.level.now;
	a->tenant = c->tenant->level.now;
	r->msg = &a->base;
	return 0;
}

/* ---- events ---- */

static size_t pack_event(const Kvd__Event *msg, uint8_t *tx)
{
	struct wire_header h = { .type = WIRE_EVENT };

	h.length = (uint32_t)kvd__event__pack(msg, tx + WIRE_HEADER_BYTES);
	wire_put(tx, &h);
	return WIRE_HEADER_BYTES + h.length;
}

size_t dispatch_pack_levels(unsigned pool, unsigned tenant, uint8_t *tx)
{
	Kvd__PressureEvent p = KVD__PRESSURE_EVENT__INIT;
	Kvd__Event msg = KVD__EVENT__INIT;

	p.pool = pool;
	p.tenant = tenant;
	msg.kind = KVD__EVENT__KIND__PRESSURE;
	msg.pressure = &p;
	return pack_event(&msg, tx);
}

/* Events of a frame at most; and what an event, and its token, takes. */
#define MAX_EVENTS  1024u
#define EVENT_BYTES (1u + 2u * NAME_BYTES + 5u + 5u)
#define TOKEN_BYTES 5u
#define FRAME_ROOM  (WIRE_MAX_FRAME - WIRE_HEADER_BYTES - 256u)
#define MAX_TOKENS  (FRAME_ROOM / TOKEN_BYTES)

_Static_assert(MAX_EVENTS * EVENT_BYTES <= FRAME_ROOM, "they fit a frame");

/* The frame being made: on the loop's thread, and never two at once. */
static struct {
	uint8_t kinds[MAX_EVENTS];
	struct name names[MAX_EVENTS];
	struct name parents[MAX_EVENTS];
	struct name extras[MAX_EVENTS];
	uint32_t depths[MAX_EVENTS];
	uint32_t classes[MAX_EVENTS];
	uint32_t tokens[MAX_TOKENS];
	uint32_t nr;
	uint32_t nr_stored;
	uint32_t nr_tokens;
} frame;

static void put_event(const struct block_event *e, uint32_t nr_tokens)
{
	uint32_t i = frame.nr++, j = frame.nr_stored;

	frame.kinds[i] = e->stored ? WIRE_BLOCK_STORED : WIRE_BLOCK_REMOVED;
	frame.names[i] = e->name;
	if (!e->stored)
		return;
	frame.parents[j] = e->parent;
	frame.extras[j] = e->extra;
	frame.depths[j] = e->depth;
	frame.classes[j] = e->classes;
	frame.nr_stored++;
	memcpy(frame.tokens + frame.nr_tokens, e->tokens, 4ul * nr_tokens);
	frame.nr_tokens += nr_tokens;
}

/* As many from @first on as fit. */
static void put_events(const struct blocklog *log, uint64_t first)
{
	uint32_t each = EVENT_BYTES, room = FRAME_ROOM;

	frame.nr = frame.nr_stored = frame.nr_tokens = 0;
	if (!log)
		return;
	if (log->nr_tokens)
		each += NAME_BYTES + TOKEN_BYTES * log->nr_tokens;
	for (; first < log->next && frame.nr < MAX_EVENTS && room >= each;
	     room -= each)
		put_event(blocklog_get(log, first++), log->nr_tokens);
}

static ProtobufCBinaryData put_names(struct name *names, uint32_t nr)
{
	return (ProtobufCBinaryData){ .data = names->b,
				      .len = (size_t)nr * NAME_BYTES };
}

size_t dispatch_pack_blocks(const struct block_batch *b, uint8_t *tx,
			    uint32_t *ret_nr)
{
	Kvd__BlocksEvent m = KVD__BLOCKS_EVENT__INIT;
	Kvd__Event msg = KVD__EVENT__INIT;

	put_events(b->log, b->first);
	m.space = b->space;
	m.serial = b->serial;
	m.first = b->first;
	m.lost = b->lost;
	m.gone = !b->log;
	m.kinds.data = frame.kinds;
	m.kinds.len = frame.nr;
	m.names = put_names(frame.names, frame.nr);
	m.parents = put_names(frame.parents, frame.nr_stored);
	m.n_depths = m.n_classes = frame.nr_stored;
	m.depths = frame.depths;
	m.classes = frame.classes;
	if (b->log && b->log->nr_tokens)
		m.extras = put_names(frame.extras, frame.nr_stored);
	m.n_tokens = frame.nr_tokens;
	m.tokens = frame.tokens;
	msg.kind = KVD__EVENT__KIND__BLOCKS;
	msg.blocks = &m;
	*ret_nr = frame.nr;
	return pack_event(&msg, tx);
}
