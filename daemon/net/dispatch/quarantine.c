// SPDX-License-Identifier: Apache-2.0
/*
 * quarantine.c - pages that wait for the end of their writer: shown, and
 * released by an admin.
 *
 * Whoever releases them has to know what kvd does not, that nothing writes to
 * them any more. Of a process that has not been seen to end he has to say so
 * twice (force).
 */
#include <errno.h>
#include "daemon/mem/quarantine.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

/* Entries of one reply; at their largest they fit in a frame. */
#define MAX_WRITERS 512

_Static_assert((int)PROC_WAIT_MPS_SILENT ==
		       (int)KVD__QUARANTINE_STAT__WAIT__MPS_SILENT,
	       "enum proc_wait is the protocol's");

/* ---- shown ---- */

struct listing {
	const struct client *c;
	struct arena *arena;
	Kvd__QuarantineReply *reply;
	uint32_t skip;
	int err;
};

static Kvd__QuarantineStat *put_writer(const struct server *s,
				       const struct mem_writer *w,
				       struct arena *arena)
{
	Kvd__QuarantineStat *a = arena_alloc(arena, sizeof(*a));
	struct proc_info info;

	if (!a)
		return NULL;
	procs_look(&s->procs, w->pid, w->start_time, &info);
	kvd__quarantine_stat__init(a);
	a->tenant = (char *)(uintptr_t)w->tenant;
	a->pid = (uint32_t)w->pid;
	a->start_time = w->start_time;
	a->uid = info.user ? info.user->uid : 0;
	a->uid_known = info.user != NULL;
	a->pages = w->pages;
	a->wait = (Kvd__QuarantineStat__Wait)info.wait;
	if (info.left_ms)
		a->since_ms = uv_now(&s->loop) - info.left_ms;
	return a;
}

static void list_writer(void *ctx, const struct mem_writer *w)
{
	struct listing *l = ctx;
	Kvd__QuarantineReply *a = l->reply;

	if (a->more || !may_see(l->c, w->tenant))
		return;
	if (l->skip) {
		l->skip--;
		return;
	}
	a->more = a->n_writers == MAX_WRITERS;
	if (a->more || l->err)
		return;
	a->writers[a->n_writers] = put_writer(l->c->server, w, l->arena);
	if (a->writers[a->n_writers])
		a->n_writers++;
	else
		l->err = -ENOMEM;
}

int do_quarantine(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__QuarantineRequest *m =
		(const Kvd__QuarantineRequest *)req->msg;
	struct listing l = { .c = c, .arena = r->arena, .skip = m->skip };

	l.reply = arena_alloc(r->arena, sizeof(*l.reply));
	if (!l.reply)
		return -ENOMEM;
	kvd__quarantine_reply__init(l.reply);
	l.reply->writers = arena_array(r->arena, MAX_WRITERS,
				       sizeof(*l.reply->writers));
	if (!l.reply->writers)
		return -ENOMEM;
	mem_writers(c->server->mem, list_writer, &l);
	r->msg = &l.reply->base;
	return l.err;
}

/* ---- released ---- */

/* In one request, so that a step is bounded: ask again for the rest. */
struct picked {
	const struct server *s;
	const Kvd__QuarantineReleaseRequest *m;
	struct {
		pid_t pid;
		uint64_t start_time;
		const char *tenant;
		uint64_t pages;
	} of[MAX_WRITERS];
	unsigned nr;
	uint64_t left_pages;
	uint32_t left_writers;
};

static bool is_asked_for(const Kvd__QuarantineReleaseRequest *m,
			 const struct mem_writer *w)
{
	return m->all || ((uint32_t)w->pid == m->pid &&
			  (!m->start_time || w->start_time == m->start_time));
}

/* Is the process itself known to have ended? */
static bool has_ended(enum proc_wait wait)
{
	return wait == PROC_WAIT_SETTLING || wait == PROC_WAIT_MPS ||
	       wait == PROC_WAIT_MPS_SILENT;
}

static void pick_writer(void *ctx, const struct mem_writer *w)
{
	struct picked *p = ctx;
	struct proc_info info;

	if (!is_asked_for(p->m, w))
		return;
	procs_look(&p->s->procs, w->pid, w->start_time, &info);
	if (!p->m->force && !has_ended(info.wait)) {
		p->left_pages += w->pages;
		p->left_writers++;
		return;
	}
	if (p->nr == MAX_WRITERS)
		return;
	p->of[p->nr].pid = w->pid;
	p->of[p->nr].start_time = w->start_time;
	p->of[p->nr].tenant = w->tenant;
	p->of[p->nr++].pages = w->pages;
}

static int release_one(struct client *c, const struct picked *p, unsigned i)
{
	struct log_about about = client_about(c);
	uint64_t pages;
	int err;

	err = mem_writer_release(c->server->mem, p->of[i].pid,
				 p->of[i].start_time, &pages);
	if (err < 0)
		return err;
	about.tenant = p->of[i].tenant;
	about.pages = p->of[i].pages;
	log_about(LOG_NOTICE, &about, "quarantine: %llu pages that pid %d of "
		  "tenant %s has left were released by uid %u%s",
		  (unsigned long long)about.pages, (int)p->of[i].pid,
		  about.tenant, (unsigned)c->peer.uid,
		  p->m->force ? ", by force" : "");
	return 0;
}

static int refuse(const struct picked *p, struct reply *r)
{
	if (!p->left_writers)
		return reply_fail(r, -ENOENT, "no pages of process %u are in "
				  "quarantine: `kvctl quarantine` lists them",
				  p->m->pid);
	return reply_fail(r, -EBUSY, "kvd does not know that process %u has "
			  "ended: end it, and its pages become free. If it "
			  "cannot write to them any more: --force",
			  p->m->pid);
}

int do_quarantine_release(struct client *c, const struct request *req,
			  struct reply *r)
{
	Kvd__QuarantineReleaseReply *a = arena_alloc(r->arena, sizeof(*a));
	struct picked *p = arena_alloc(r->arena, sizeof(*p));
	int err;

	if (!c->admin)
		return reply_fail(r, -EACCES, "pages in quarantine are "
				  "released by root, the daemon's own user and "
				  "the admin group");
	if (!a || !p)
		return -ENOMEM;
	*p = (struct picked){
		.s = c->server,
		.m = (const Kvd__QuarantineReleaseRequest *)req->msg
	};
	kvd__quarantine_release_reply__init(a);
	mem_writers(c->server->mem, pick_writer, p);
	if (!p->nr && !p->m->all)
		return refuse(p, r);
	for (; a->writers < p->nr; a->writers++) {
		err = release_one(c, p, a->writers);
		if (err < 0)
			return err;
		a->pages += p->of[a->writers].pages;
	}
	a->left_pages = p->left_pages;
	a->left_writers = p->left_writers;
	r->msg = &a->base;
	return 0;
}
