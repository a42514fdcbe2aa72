// SPDX-License-Identifier: Apache-2.0
/*
 * demand.c - pages given up, and the index looked at, because an admin or a
 * tenant's user asks.
 *
 * A request is one bounded step: a connection has one frame handled in a turn
 * of the loop, so others are served between steps. Whoever asked keeps asking;
 * who stops has stopped it.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

/* Of a root, to know the prompt by. */
#define ROOT_TOKENS 8

static int in_grace(struct reply *r)
{
	return reply_fail(r, -EBUSY, "kvd was restarted, and pages wait for "
			  "their owners: nothing is given up until that is "
			  "over (kvctl status)");
}

/* ---- reclaim ---- */

static int may_reclaim(const struct client *c, const char *tenant,
		       struct reply *r)
{
	if (tenant[0] ? may_see(c, tenant) : c->admin)
		return 0;
	return reply_fail(r, -EACCES, "others' pages are given up for root, "
			  "the daemon's own user and the admin group: name "
			  "your own tenant, %s", c->tenant->name);
}

/* A tenant that has not come yet has nothing, but is one. */
static int reclaim(struct server *s, const char *tenant, uint64_t bytes,
		   Kvd__ReclaimReply *a, struct reply *r)
{
	struct mem_given given = { .bytes = 0 };
	bool more = false;
	int err;

	err = mem_reclaim(s->mem, tenant[0] ? tenant : NULL, bytes, &given,
			  &more);
	if (err == -EAGAIN)
		return in_grace(r);
	if (err == -ENOENT && !tenants_by_name(&s->tenants, tenant))
		return reply_fail(r, err, "there is no tenant %.31s (kvctl "
				  "tenants)", tenant);
	a->bytes = given.bytes;
	a->pages = given.pages;
	a->more = more;
	return 0;
}

int do_reclaim(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__ReclaimRequest *m = (const Kvd__ReclaimRequest *)req->msg;
	Kvd__ReclaimReply *a = arena_alloc(r->arena, sizeof(*a));
	struct log_about about;
	int err;

	if (!a)
		return -ENOMEM;
	kvd__reclaim_reply__init(a);
	err = may_reclaim(c, m->tenant, r);
	if (err == 0 && m->bytes == 0)
		err = reply_fail(r, -EINVAL, "how much is to be given up?");
	if (err == 0)
		err = reclaim(c->server, m->tenant, m->bytes, a, r);
	if (err < 0)
		return err;
	about = client_about(c);
	about.tenant = m->tenant[0] ? m->tenant : NULL;
	if (c->admin && a->pages && !a->more)
		log_about(LOG_INFO, &about, "cached pages of %s%s were given "
			  "up, by uid %u",
			  m->tenant[0] ? "tenant " : "all tenants", m->tenant,
			  (unsigned)c->peer.uid);
	r->msg = &a->base;
	return 0;
}

/* ---- spaces ---- */

/* One that @c may not see is none to it. */
struct mem_space *find_space(const struct client *c, uint32_t id,
			     struct reply *r)
{
	struct mem_space *s = mem_space_find(c->server->mem, id);
	struct mem_space_stat st;

	if (s) {
		mem_space_stat(s, &st);
		if (may_see(c, st.tenant))
			return s;
	}
	reply_fail(r, -ENOENT, "there is no space %u (kvctl spaces)",
		   (unsigned)id);
	return NULL;
}

static int space_changed(struct reply *r, uint32_t id)
{
	return reply_fail(r, -ENOENT, "space %u was recycled meanwhile",
			  (unsigned)id);
}

int do_drop(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__DropRequest *m = (const Kvd__DropRequest *)req->msg;
	struct mem_cursor at = { m->serial, m->from };
	Kvd__DropReply *a = arena_alloc(r->arena, sizeof(*a));
	struct mem_space *s = find_space(c, m->space, r);
	struct mem_given given;
	struct log_about about;
	int err;

	if (!a || !s)
		return a ? -ENOENT : -ENOMEM;
	err = mem_drop(s, &at, &given);
	if (err == -EAGAIN)
		return in_grace(r);
	if (err < 0)
		return space_changed(r, m->space);
	kvd__drop_reply__init(a);
	a->bytes = given.bytes;
	a->pages = given.pages;
	a->pins = given.pins;
	a->tier_bytes = given.tier_bytes;
	a->tier_pages = given.tier_pages;
	a->tier_owed = given.tier_owed;
	a->serial = at.serial;
	a->next = at.block;
	about = client_about(c);
	about.space = m->space;
	if (c->admin && at.block == 0)
		log_about(LOG_INFO, &about, "cached pages of space %u were "
			  "given up, by uid %u", (unsigned)m->space,
			  (unsigned)c->peer.uid);
	r->msg = &a->base;
	return 0;
}

/* ---- index ---- */

static Kvd__IndexRoot *put_root(const struct mem_space *s, uint32_t block,
				uint32_t uses, uint32_t nr_tokens,
				struct arena *arena)
{
	Kvd__IndexRoot *a = arena_alloc(arena, sizeof(*a));
	uint32_t *tokens = arena_array(arena, nr_tokens, sizeof(*tokens));

	if (!a || !tokens)
		return NULL;
	memcpy(tokens, mem_survey_tokens(s, block),
	       nr_tokens * sizeof(*tokens));
	kvd__index_root__init(a);
	a->block = block;
	a->uses = uses;
	a->n_tokens = nr_tokens;
	a->tokens = tokens;
	return a;
}

static int put_roots(const struct mem_space *s, const struct mem_survey *v,
		     Kvd__IndexReply *a, struct arena *arena)
{
	struct mem_space_stat st;
	uint32_t i, nr;

	mem_space_stat(s, &st);
	nr = st.key->geometry.page_tokens;
	a->roots = arena_array(arena, v->nr_roots + 1, sizeof(*a->roots));
	if (!a->roots)
		return -ENOMEM;
	for (i = 0; i < v->nr_roots; i++) {
		a->roots[i] = put_root(s, v->roots[i].block, v->roots[i].uses,
				       nr < ROOT_TOKENS ? nr : ROOT_TOKENS,
				       arena);
		if (!a->roots[i])
			return -ENOMEM;
	}
	a->n_roots = v->nr_roots;
	return 0;
}

static int put_survey(const struct mem_space *s, const Kvd__IndexRequest *m,
		      Kvd__IndexReply *a, struct reply *r)
{
	struct mem_cursor at = { m->serial, m->from };
	struct mem_survey v;

	if (mem_survey(s, &at, m->top, &v) < 0)
		return space_changed(r, m->space);
	a->serial = at.serial;
	a->next = at.block;
	a->blocks = v.blocks;
	a->pages = v.pages;
	a->depth_max = v.depth_max;
	a->depth_sum = v.depth_sum;
	a->shared = v.shared;
	a->uses = v.uses;
	return put_roots(s, &v, a, r->arena);
}

int do_index(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__IndexRequest *m = (const Kvd__IndexRequest *)req->msg;
	Kvd__IndexReply *a = arena_alloc(r->arena, sizeof(*a));
	const struct mem_space *s = find_space(c, m->space, r);
	int err = 0;

	if (!a || !s)
		return a ? -ENOENT : -ENOMEM;
	kvd__index_reply__init(a);
	if (m->top > MEM_MAX_ROOTS)
		return reply_fail(r, -EINVAL, "at most %d roots at a time",
				  MEM_MAX_ROOTS);
	if (m->below) {
		a->below = mem_survey_below(s, m->below);
		a->below_more = a->below == MEM_MAX_BELOW;
	} else {
		err = put_survey(s, m, a, r);
	}
	if (err == 0)
		r->msg = &a->base;
	return err;
}
