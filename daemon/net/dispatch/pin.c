// SPDX-License-Identifier: Apache-2.0
/*
 * pin.c - prefixes pinned, unpinned and listed.
 *
 * A prefix is said by the block where it ends: its number or name, or tokens,
 * of which the last block that is in the index is meant.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

/* Entries of one reply; at their largest they fit in a frame. */
#define MAX_PINS 256

/* Of a pin, to know the prompt by. */
#define FIRST_TOKENS 8

static int get_name(const ProtobufCBinaryData *m, struct name *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (m->len != 0 && m->len != NAME_BYTES)
		return -EINVAL;
	if (m->len)
		memcpy(ret->b, m->data, NAME_BYTES);
	return 0;
}

/* ---- pin ---- */

static int find_end(const struct mem_space *s, const Kvd__PinRequest *m,
		    uint32_t *ret, struct reply *r)
{
	struct name name, extra;

	if (get_name(&m->name, &name) < 0 || get_name(&m->extra, &extra) < 0)
		return reply_fail(r, -EINVAL, "name and extra take 16 bytes, "
				  "or none");
	if (m->name.len && (m->block || m->n_tokens))
		return reply_fail(r, -EINVAL, "a name, or else a block or "
				  "tokens: not both");
	if (m->name.len)
		*ret = mem_pin_find(s, &name);
	else if (m->n_tokens)
		*ret = mem_pin_follow(s, m->block, &extra, m->tokens,
				      (uint32_t)m->n_tokens);
	else
		*ret = m->block;
	if (*ret && m->on)
		*ret = mem_pin_on(s, *ret);
	if (*ret)
		return 0;
	return reply_fail(r, -ENOENT, "space %u has no page of this prompt "
			  "cached", m->space);
}

static int check_ttl(const struct client *c, const Kvd__PinRequest *m,
		     struct reply *r)
{
	uint64_t max = c->server->cfg.pin_ttl_ms;

	if (m->look || (m->ttl_ms && m->ttl_ms <= max))
		return 0;
	return reply_fail(r, -EINVAL, "pages are pinned for 1 ms at least, "
			  "%" PRIu64 " s at most (pin-ttl-max)", max / 1000);
}

/* Who is at which limit. */
static int no_room(const struct client *c, const struct mem_pin_stat *st,
		   struct reply *r)
{
	char want[LIMITS_SIZE_TEXT], have[LIMITS_SIZE_TEXT];
	char max[LIMITS_SIZE_TEXT];
	struct mem_pin_room room;

	mem_pin_room(c->server->mem, st->tenant, &room);
	limits_size_text(st->new_bytes, want);
	if (room.bytes + st->new_bytes > room.max)
		return reply_fail(r, -EDQUOT, "tenant %s has pinned %s of the "
				  "%s that it may (pin-max), and this is %s "
				  "more: nothing was pinned", st->tenant,
				  limits_size_text(room.bytes, have),
				  limits_size_text(room.max, max), want);
	if (room.all_bytes + st->new_bytes > room.all_max)
		return reply_fail(r, -EDQUOT, "all tenants have pinned %s of "
				  "the %s that they may, and this is %s more: "
				  "nothing was pinned",
				  limits_size_text(room.all_bytes, have),
				  limits_size_text(room.all_max, max), want);
	return reply_fail(r, -EDQUOT, "tenant %s has %u pins, and may have no "
			  "more", st->tenant, room.nr_pins);
}

static int refused(const struct client *c, const Kvd__PinRequest *m,
		   uint32_t block, int err, const struct mem_pin_stat *st,
		   struct reply *r)
{
	switch (err) {
	case -EDQUOT:
		return no_room(c, st, r);
	case -ENOENT:
		return reply_fail(r, err, "space %u has no block %u, or not "
				  "what it begins with (kvctl index %u)",
				  m->space, block, m->space);
	case -E2BIG:
		return reply_fail(r, -EINVAL, "that is longer than one pin may "
				  "cover: pin less of it");
	default:
		return err;
	}
}

static void log_pin(const struct client *c, const struct mem_pin_stat *st)
{
	struct log_about about = client_about(c);

	about.tenant = st->tenant;
	about.space = st->space;
	about.bytes = st->bytes;
	log_about(LOG_INFO, &about, "%" PRIu64 " bytes up to block %u of space "
		  "%u (tenant %s) pinned for %" PRIu64 " s, by uid %u",
		  st->bytes, st->block, st->space, st->tenant,
		  st->left_ms / 1000, (unsigned)c->peer.uid);
}

static int pin(struct client *c, struct mem_space *s,
	       const Kvd__PinRequest *m, struct mem_pin_stat *st,
	       struct reply *r)
{
	uint32_t block;
	int err;

	err = find_end(s, m, &block, r);
	if (err < 0)
		return err;
	if (m->look)
		err = mem_pin_look(s, block, st);
	else
		err = mem_pin(s, block, uv_now(&c->server->loop), m->ttl_ms,
			      st);
	return err < 0 ? refused(c, m, block, err, st, r) : 0;
}

int do_pin(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__PinRequest *m = (const Kvd__PinRequest *)req->msg;
	Kvd__PinReply *a = arena_alloc(r->arena, sizeof(*a));
	struct mem_space *s = find_space(c, m->space, r);
	struct mem_pin_room room;
	struct mem_pin_stat st;
	int err;

	if (!a || !s)
		return a ? -ENOENT : -ENOMEM;
	err = check_ttl(c, m, r);
	if (err == 0)
		err = pin(c, s, m, &st, r);
	if (err < 0)
		return err;
	kvd__pin_reply__init(a);
	mem_pin_room(c->server->mem, st.tenant, &room);
	a->block = st.block;
	a->tokens = st.tokens;
	a->pages = st.pages;
	a->bytes = st.bytes;
	a->new_bytes = st.new_bytes;
	a->ttl_ms = st.left_ms;
	a->pinned = room.bytes;
	a->pin_max = room.max;
	if (c->admin && !m->look)
		log_pin(c, &st);
	r->msg = &a->base;
	return 0;
}

/* ---- unpin ---- */

int do_unpin(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__UnpinRequest *m = (const Kvd__UnpinRequest *)req->msg;
	struct mem_space *s = find_space(c, m->space, r);
	struct name name;
	uint32_t block;

	if (!s)
		return -ENOENT;
	if (get_name(&m->name, &name) < 0)
		return reply_fail(r, -EINVAL, "a name takes 16 bytes");
	block = m->name.len ? mem_pin_find(s, &name) : m->block;
	if (mem_unpin(s, block) < 0)
		return reply_fail(r, -ENOENT, "nothing is pinned there (kvctl "
				  "pins)");
	return 0;
}

/* ---- the list ---- */

struct listing {
	const struct client *c;
	struct arena *arena;
	Kvd__PinsReply *reply;
	uint32_t skip;
};

static int put_first(Kvd__PinStat *a, const struct mem_space *s,
		     uint32_t root, struct arena *arena)
{
	a->first = arena_array(arena, FIRST_TOKENS, sizeof(*a->first));
	if (!a->first)
		return -ENOMEM;
	memcpy(a->first, mem_survey_tokens(s, root),
	       FIRST_TOKENS * sizeof(*a->first));
	a->n_first = FIRST_TOKENS;
	return 0;
}

static Kvd__PinStat *put_pin(const struct listing *l,
			     const struct mem_pin *pin)
{
	const struct server *s = l->c->server;
	Kvd__PinStat *a = arena_alloc(l->arena, sizeof(*a));
	struct mem_pin_stat st;

	if (!a)
		return NULL;
	mem_pin_stat(pin, uv_now(&s->loop), &st);
	kvd__pin_stat__init(a);
	a->space = st.space;
	a->block = st.block;
	a->tenant = (char *)(uintptr_t)st.tenant;
	a->tokens = st.tokens;
	a->pages = st.pages;
	a->bytes = st.bytes;
	a->ttl_ms = st.left_ms;
	if (put_first(a, mem_space_find(s->mem, st.space), st.root,
		      l->arena) < 0)
		return NULL;
	return a;
}

/* Those of one tenant. Return: 0, or -ENOMEM; the list may be full then. */
static int list_pins(struct listing *l, const char *tenant)
{
	const struct mem *mem = l->c->server->mem;
	const struct mem_pin *pin = NULL;
	Kvd__PinsReply *a = l->reply;

	while (!a->more && (pin = mem_pin_next(mem, tenant, pin))) {
		if (l->skip) {
			l->skip--;
			continue;
		}
		a->more = a->n_pins == MAX_PINS;
		if (a->more)
			break;
		a->pins[a->n_pins] = put_pin(l, pin);
		if (!a->pins[a->n_pins++])
			return -ENOMEM;
	}
	return 0;
}

int do_pins(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__PinsRequest *m = (const Kvd__PinsRequest *)req->msg;
	struct listing l = { .c = c, .arena = r->arena, .skip = m->skip };
	const struct mem *mem = c->server->mem;
	const char *name = NULL;
	int err = 0;

	l.reply = arena_alloc(r->arena, sizeof(*l.reply));
	if (!l.reply)
		return -ENOMEM;
	kvd__pins_reply__init(l.reply);
	l.reply->pins = arena_array(r->arena, MAX_PINS,
				    sizeof(*l.reply->pins));
	if (!l.reply->pins)
		return -ENOMEM;
	while (err == 0 && (name = mem_tenant_next(mem, name)))
		if (may_see(c, name))
			err = list_pins(&l, name);
	if (err == 0)
		r->msg = &l.reply->base;
	return err;
}
