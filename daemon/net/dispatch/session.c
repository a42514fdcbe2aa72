// SPDX-License-Identifier: Apache-2.0
/*
 * session.c - hello, bye, ping.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

static int check_version(const Kvd__HelloRequest *m, struct reply *r)
{
	if (m->version == WIRE_VERSION)
		return 0;
	return reply_fail(r, -EPROTO,
			  "this kvd speaks protocol version %u, the client "
			  "version %u: %s", WIRE_VERSION, m->version,
			  m->version < WIRE_VERSION ? "update the client" :
						      "update kvd");
}

/* What admins see of a program's name has no control characters. */
static void set_program(struct client *c, const char *name)
{
	char *p;

	snprintf(c->program, sizeof(c->program), "%s", name);
	for (p = c->program; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
}

static int identify(struct client *c, const struct request *req,
		    struct reply *r)
{
	int own = req->nr_fds > 0 ? req->fds[0] : -1;
	uint64_t start;
	int pidfd, err;

	err = peer_pidfd(&c->peer, own, &pidfd, &start);
	if (err == -EBADF)
		return reply_fail(r, err, "the descriptor sent with hello is "
				  "not a pidfd of the process that connected");
	if (err == -ESRCH)
		return reply_fail(r, -EACCES, "the process that connected has "
				  "exited: connect from the one that uses the "
				  "pages");
	if (err == -EACCES) /* it may ask, but will be given no pages */
		return 0;
	if (err < 0)
		return err;
	err = proc_get(&c->server->procs, c->user,
		       c->server->cfg.max_clients_per_user, pidfd, c->peer.pid,
		       start, &c->proc);
	if (err == -EUSERS)
		return reply_fail(r, err, "%u processes of this user are "
				  "connected, or were and live still "
				  "(max-clients-per-user): end some",
				  c->user->nr_procs);
	return err;
}

static int find_tenant(struct client *c, struct reply *r)
{
	int err = tenants_find(&c->server->tenants, &c->peer, &c->tenant);

	if (err == 0 || err == -ENOMEM)
		return err;
	log_limited(&c->server->logged_ms, LOG_ERR,
		    &(struct log_about){ .peer = &c->peer },
		    "key of the tenant of uid %u: %s", (unsigned)c->peer.uid,
		    strerror(-err));
	return reply_fail(r, -EIO, "kvd cannot read or write the name key of "
			  "this user's tenant in %s: %s",
			  c->server->tenants.state_dir, strerror(-err));
}

static int make_mem_client(struct client *c, const struct request *req,
			   struct reply *r)
{
	const Kvd__HelloRequest *m = (const Kvd__HelloRequest *)req->msg;
	struct mem_client_id id = { .uid = c->peer.uid,
				    .series = m->series };
	int err;

	c->series = m->series;

	if (c->proc) {
		id.pid = c->proc->pid;
		id.start_time = c->proc->start_time;
	}
	err = limits_tell(c->server, c->tenant);
	if (err < 0)
		return err;
	err = mem_client_new(c->server->mem, &id, c->tenant->name,
			     c->tenant->key, c, &c->mem);
	if (err == -ENOSPC)
		return reply_fail(r, err, "kvd has too many tenants: map users "
				  "to shared ones in kvd.conf");
	return err;
}

static int join(struct client *c, const struct request *req, struct reply *r)
{
	int err;

	err = find_tenant(c, r);
	if (err < 0)
		return err;
	err = identify(c, req, r);
	if (err < 0)
		return err;
	err = make_mem_client(c, req, r);
	if (err < 0 && c->proc) {
		proc_put(c->proc, false);
		c->proc = NULL;
	}
	return err;
}

static uint64_t grace_left_ms(const struct server *s)
{
	uint64_t now = uv_now(&s->loop);

	return s->grace_end_ms > now ? s->grace_end_ms - now : 0;
}

int do_hello(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__HelloRequest *m = (const Kvd__HelloRequest *)req->msg;
	struct server *s = c->server;
	Kvd__HelloReply *a;
	int err;

	a = arena_alloc(r->arena, sizeof(*a));
	if (!a)
		return -ENOMEM;
	err = c->refused ? c->refused : check_version(m, r);
	if (err == 0)
		err = join(c, req, r);
	if (err < 0) {
		r->drop = true;
		return err;
	}
	set_program(c, m->program);
	TAILQ_REMOVE(&s->greeting, c, link);
	TAILQ_INSERT_TAIL(&s->clients, c, link);
	c->state = CLIENT_READY;

	kvd__hello_reply__init(a);
	a->version = WIRE_VERSION;
	a->features = m->features & WIRE_FEATURES;
	a->epoch = mem_epoch(s->mem);
	a->instance = s->instance;
	a->tenant = c->tenant->name;
	a->device = (char *)(uintptr_t)dev_spec(s->dev);
	a->grace_ms = grace_left_ms(s);
	r->msg = &a->base;
	return 0;
}

/* All is given back before the answer: the client's word that its device
 * work has ended is what pidfd and hangup prove of a dead one. */
int do_bye(struct client *c, const struct request *req, struct reply *r)
{
	if (c->state == CLIENT_READY)
		client_release(c, MEM_END_BYE);
	c->state = CLIENT_BYE;
	return 0;
}

int do_ping(struct client *c, const struct request *req, struct reply *r)
{
	return 0;
}
