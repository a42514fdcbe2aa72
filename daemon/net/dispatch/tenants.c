// SPDX-License-Identifier: Apache-2.0
/*
 * tenants.c - tenants and their limits: shown, and set.
 *
 * There are those that are configured or have come, and in the pool perhaps
 * some that a predecessor knew and nobody is any more: they have pages still.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/limits.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

/* Entries of one reply; at their largest they fit in a frame. */
#define MAX_TENANTS 48

#define ALL_KEYS ((1u << NR_LIMITS) - 1)

/* ---- shown ---- */

struct listing {
	const struct client *c;
	struct arena *arena;
	Kvd__TenantsReply *reply;
	uint32_t skip;
};

static int put_ids(Kvd__TenantStat *a, const struct tenant *t,
		   struct arena *arena)
{
	a->uids = arena_array(arena, t->nr_uids + 1, sizeof(*a->uids));
	a->gids = arena_array(arena, t->nr_gids + 1, sizeof(*a->gids));
	if (!a->uids || !a->gids)
		return -ENOMEM;
	a->n_uids = t->nr_uids;
	a->n_gids = t->nr_gids;
	memcpy(a->uids, t->uids, t->nr_uids * sizeof(*a->uids));
	memcpy(a->gids, t->gids, t->nr_gids * sizeof(*a->gids));
	return 0;
}

static Kvd__Pressure *put_pressure(const struct pressure *p,
				   struct arena *arena)
{
	struct pressure now = pressure_at(p, stall_now_us());
	Kvd__Pressure *a = arena_alloc(arena, sizeof(*a));

	if (!a)
		return NULL;
	kvd__pressure__init(a);
	a->avg10 = pressure_hundredths(&now, PRESSURE_10S);
	a->avg60 = pressure_hundredths(&now, PRESSURE_60S);
	a->avg300 = pressure_hundredths(&now, PRESSURE_300S);
	a->total_us = now.total_us;
	return a;
}

/* @t is NULL where there is but a name: nobody is left who could wait. */
static Kvd__TenantStat *put_tenant(const struct server *s, const char *name,
				   const struct tenant *t, struct arena *arena)
{
	static const struct pressure none;
	Kvd__TenantStat *a = arena_alloc(arena, sizeof(*a));
	struct mem_tenant_stat st;
	struct mem_pin_room room;

	if (!a)
		return NULL;
	mem_tenant_stat(s->mem, name, &st);
	mem_pin_room(s->mem, name, &room);
	kvd__tenant_stat__init(a);
	a->name = (char *)(uintptr_t)name;
	a->clients = st.clients;
	a->min = st.limits.min_bytes;
	a->high = st.limits.high_bytes;
	a->max = st.limits.max_bytes;
	a->charged = st.charged;
	a->pinned = room.bytes;
	a->pin_max = room.max;
	a->bytes = put_counts(&st.bytes, arena);
	a->pressure = put_pressure(t ? &t->pressure : &none, arena);
	if (t && put_ids(a, t, arena) < 0)
		return NULL;
	if (t) {
		a->waiting = t->nr_waiting;
		a->throttled = t->nr_throttled;
		a->throttled_ms = t->throttled_ms;
	}
	return a->bytes && a->pressure ? a : NULL;
}

/* Return: 0, or a negative errno; the list may be full then. */
static int list_tenant(struct listing *l, const char *name,
		       const struct tenant *t)
{
	Kvd__TenantsReply *a = l->reply;

	if (a->more || !may_see(l->c, name))
		return 0;
	if (l->skip) {
		l->skip--;
		return 0;
	}
	a->more = a->n_tenants == MAX_TENANTS;
	if (a->more)
		return 0;
	a->tenants[a->n_tenants] = put_tenant(l->c->server, name, t, l->arena);
	return a->tenants[a->n_tenants++] ? 0 : -ENOMEM;
}

static int list_all(struct listing *l)
{
	struct server *s = l->c->server;
	const struct tenant *t;
	const char *name = NULL;
	int r = 0;

	TAILQ_FOREACH(t, &s->tenants.list, link)
		if (r == 0)
			r = list_tenant(l, t->name, t);
	while (r == 0 && (name = mem_tenant_next(s->mem, name)))
		if (!tenants_by_name(&s->tenants, name))
			r = list_tenant(l, name, NULL);
	return r;
}

int do_tenants(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__TenantsRequest *m = (const Kvd__TenantsRequest *)req->msg;
	struct listing l = { .c = c, .arena = r->arena, .skip = m->skip };
	int err;

	l.reply = arena_alloc(r->arena, sizeof(*l.reply));
	if (!l.reply)
		return -ENOMEM;
	kvd__tenants_reply__init(l.reply);
	l.reply->tenants = arena_array(r->arena, MAX_TENANTS,
				       sizeof(*l.reply->tenants));
	l.reply->pressure = put_pressure(&c->server->pressure, r->arena);
	if (!l.reply->tenants || !l.reply->pressure)
		return -ENOMEM;
	err = list_all(&l);
	if (err == 0)
		r->msg = &l.reply->base;
	return err;
}

/* ---- set ---- */

static int put_limits(const struct tenant *t, const char *path,
		      struct reply *r)
{
	Kvd__TenantSetReply *a = arena_alloc(r->arena, sizeof(*a));

	if (!a)
		return -ENOMEM;
	kvd__tenant_set_reply__init(a);
	a->min = t->limits.of[LIMIT_MIN];
	a->high = t->limits.of[LIMIT_HIGH];
	a->max = t->limits.of[LIMIT_MAX];
	a->path = (char *)(uintptr_t)path;
	r->msg = &a->base;
	return 0;
}

static int find(struct server *s, const char *name, struct tenant **ret,
		struct reply *r)
{
	int err;

	if (tenant_name_check(name) < 0)
		return reply_fail(r, -EINVAL, "a tenant's name is at most 31 "
				  "letters, digits, '-', '_', '.'");
	err = tenants_by_user_name(&s->tenants, name, ret);
	if (err == -ENOENT)
		return reply_fail(r, err, "there is no tenant %s: it needs a "
				  "section [tenant %s] in kvd.conf; a user's "
				  "own is called uid-N", name, name);
	return err;
}

static struct client *find_client(struct server *s, uint32_t id)
{
	struct client *c;

	TAILQ_FOREACH(c, &s->clients, link)
		if (c->id == id)
			return c;
	return NULL;
}

/* Whoever asked may be gone. */
static void on_kept(struct server *s, struct limits_change *ch)
{
	struct client *c = find_client(s, ch->client);
	struct reply r;
	int err;

	if (ch->err < 0)
		log_about(LOG_WARNING,
			  &(struct log_about){ .tenant = ch->tenant->name },
			  "limits of tenant %s are not kept: %s: %s",
			  ch->tenant->name, ch->path, strerror(-ch->err));
	if (!c)
		return;
	reply_init(&r, &s->arena);
	if (ch->err < 0)
		err = reply_fail(&r, -EIO, "in force now, but not after a "
				 "restart: %s: %s", ch->path,
				 strerror(-ch->err));
	else
		err = put_limits(ch->tenant, ch->path, &r);
	reply_send(c, WIRE_TENANT_SET, ch->frame_id, err, &r);
}

static void log_change(const struct client *c, const struct tenant *t,
		       bool runtime)
{
	struct log_about about = client_about(c);
	char size[NR_LIMITS][LIMITS_SIZE_TEXT];
	int i;

	about.tenant = t->name;
	for (i = 0; i < NR_LIMITS; i++)
		limits_size_text(t->limits.of[i], size[i]);
	log_about(LOG_INFO, &about, "tenant %s: min %s, high %s, max %s%s, by "
		  "uid %u", t->name, size[LIMIT_MIN], size[LIMIT_HIGH],
		  size[LIMIT_MAX], runtime ? " for now" : "",
		  (unsigned)c->peer.uid);
}

int do_tenant_set(struct client *c, const struct request *req,
		  struct reply *r)
{
	const Kvd__TenantSetRequest *m =
		(const Kvd__TenantSetRequest *)req->msg;
	struct limits_change ch = { .keys = m->keys,
				    .to = { { m->min, m->high, m->max } },
				    .done = on_kept,
				    .client = c->id,
				    .frame_id = req->id };
	int err;

	if (!c->admin)
		return reply_fail(r, -EACCES, "limits of tenants are set by "
				  "root, the daemon's own user and the admin "
				  "group");
	if (m->keys == 0 || m->keys & ~ALL_KEYS)
		return reply_fail(r, -EINVAL, "nothing to set: min, high, "
				  "max, or some of them");
	err = find(c->server, m->name, &ch.tenant, r);
	if (err == 0)
		err = limits_set(c->server, ch.tenant, ch.keys, &ch.to,
				 m->runtime, r->why, sizeof(r->why));
	if (err < 0)
		return err;
	log_change(c, ch.tenant, m->runtime);
	if (m->runtime)
		return put_limits(ch.tenant, "", r);
	err = limits_keep(c->server, &ch);
	return err < 0 ? err : REPLY_LATER;
}
