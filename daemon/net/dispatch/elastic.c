// SPDX-License-Identifier: Apache-2.0
/*
 * elastic.c - the pool's size, and segments that clients have unmapped.
 */
#include <errno.h>
#include "daemon/mem/elastic.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

static int refuse(const struct mem_size *size, uint64_t bytes, int err,
		  struct reply *r)
{
	switch (err) {
	case -EAGAIN:
		return reply_fail(r, -EBUSY, "kvd was restarted, and pages wait "
				  "for their owners: the pool stays as it is "
				  "until that is over (kvctl status)");
	case -ERANGE:
		return reply_fail(r, err, "%llu bytes are less than tenants are "
				  "promised: lower a min (kvctl tenants)",
				  (unsigned long long)bytes);
	case -EINVAL:
		return reply_fail(r, err, "a pool of %llu bytes is not to be had: "
				  "from 2M to pool-max, which is %llu",
				  (unsigned long long)bytes,
				  (unsigned long long)size->max);
	default:
		return err;
	}
}

static int resize(struct client *c, uint64_t bytes, struct reply *r)
{
	struct server *s = c->server;
	struct mem_size was, is;
	struct log_about about;
	int err;

	if (!c->admin)
		return reply_fail(r, -EACCES, "the pool is resized by root, the "
				  "daemon's own user and the admin group");
	mem_size(s->mem, &was);
	err = elastic_resize(s, bytes);
	if (err < 0)
		return refuse(&was, bytes, err, r);
	mem_size(s->mem, &is);
	about = client_about(c);
	about.bytes = is.bytes;
	log_about(LOG_NOTICE, &about, "the pool was resized from %llu bytes to "
		  "%llu, by uid %u", (unsigned long long)was.bytes,
		  (unsigned long long)is.bytes, (unsigned)c->peer.uid);
	return 0;
}

int do_pool(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__PoolRequest *m = (const Kvd__PoolRequest *)req->msg;
	Kvd__PoolReply *a = arena_alloc(r->arena, sizeof(*a));
	struct mem_size size;
	int err = 0;

	if (!a)
		return -ENOMEM;
	if (m->resize)
		err = resize(c, m->resize, r);
	if (err < 0)
		return err;
	mem_size(c->server->mem, &size);
	kvd__pool_reply__init(a);
	a->bytes = size.bytes;
	a->max = size.max;
	a->segments = size.segments;
	a->draining = size.draining;
	a->revoked = size.revoked;
	a->moved = size.moved;
	r->msg = &a->base;
	return 0;
}

int do_unmapped(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__UnmappedRequest *m = (const Kvd__UnmappedRequest *)req->msg;

	if (m->n_segments > WIRE_MAX_PAGES)
		return reply_fail(r, -EINVAL, "at most %u segments at a time",
				  WIRE_MAX_PAGES);
	for (size_t i = 0; i < m->n_segments; i++)
		mem_unmapped(c->mem, m->segments[i]);
	return 0;
}
