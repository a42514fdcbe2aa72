// SPDX-License-Identifier: Apache-2.0
/*
 * proc.c - client processes, and when their device work has provably ended.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "daemon/mem/mem.h"
#include "daemon/net/log.h"
#include "daemon/net/peer.h"
#include "daemon/net/proc.h"
#include "daemon/net/user.h"

void procs_init(struct procs *ps, uv_loop_t *loop, struct mem *mem)
{
	ps->loop = loop;
	ps->mem = mem;
	LIST_INIT(&ps->list);
}

static void proc_on_close(uv_handle_t *handle)
{
	free(handle->data);
}

static void proc_free(struct proc *p)
{
	if (p->user)
		p->user->nr_procs--;
	LIST_REMOVE(p, link);
	uv_close((uv_handle_t *)&p->poll, proc_on_close);
	close(p->pidfd);
}

/**
 * procs_fini() - stop watching; their memory is freed by the loop
 */
void procs_fini(struct procs *ps)
{
	struct proc *p;

	while ((p = LIST_FIRST(&ps->list)))
		proc_free(p);
}

/* Has all that @p did ended? */
static bool proc_ended(const struct proc *p)
{
	if (!p->exited)
		return false;
	return !p->unseen ||
	       uv_now(p->procs->loop) - p->exited_ms >= PROC_UNSEEN_MS;
}

/* Frees @p when nothing can come of it any more. */
static void proc_settle(struct proc *p)
{
	if (p->nr_conns > 0 || (p->quarantined && !proc_ended(p)))
		return;
	if (p->quarantined)
		mem_reap_writer(p->procs->mem, p->pid, p->start_time);
	proc_free(p);
}

static void proc_on_exit(uv_poll_t *poll, int status, int events)
{
	struct proc *p = poll->data;

	uv_poll_stop(poll);
	p->exited = true;
	p->exited_ms = uv_now(p->procs->loop);
	proc_settle(p);
}

static struct proc *proc_find(struct procs *ps, pid_t pid, uint64_t start_time)
{
	struct proc *p;

	LIST_FOREACH(p, &ps->list, link)
		if (p->pid == pid && p->start_time == start_time)
			return p;
	return NULL;
}

static int proc_new(struct procs *ps, int pidfd, pid_t pid,
		    uint64_t start_time, struct proc **ret)
{
	struct proc *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	r = uv_poll_init(ps->loop, &p->poll, pidfd);
	if (r < 0) {
		free(p);
		return r;
	}
	p->poll.data = p;
	p->procs = ps;
	p->pidfd = pidfd;
	p->pid = pid;
	p->start_time = start_time;
	LIST_INSERT_HEAD(&ps->list, p, link);
	uv_poll_start(&p->poll, UV_READABLE, proc_on_exit);
	*ret = p;
	return 0;
}

int proc_get(struct procs *ps, struct user *u, unsigned max, int pidfd,
	     pid_t pid, uint64_t start_time, struct proc **ret)
{
	struct proc *p = proc_find(ps, pid, start_time);
	int r = 0;

	if (p)
		close(pidfd);
	else if (u->nr_procs >= max)
		r = -EUSERS;
	else
		r = proc_new(ps, pidfd, pid, start_time, &p);
	if (r < 0) {
		close(pidfd);
		return r;
	}
	if (!p->user) {
		p->user = u;
		u->nr_procs++;
	}
	p->nr_conns++;
	*ret = p;
	return 0;
}

bool proc_quiesced(const struct proc *p)
{
	return p->nr_conns == 1 && !p->unseen && peer_exited(p->pidfd);
}

void proc_put(struct proc *p, bool quarantined)
{
	p->nr_conns--;
	p->quarantined |= quarantined;
	proc_settle(p);
}

void proc_unseen(struct proc *p)
{
	p->unseen = true;
}

void procs_tick(struct procs *ps)
{
	struct proc *p, *next;

	for (p = LIST_FIRST(&ps->list); p; p = next) {
		next = LIST_NEXT(p, link);
		proc_settle(p);
	}
}

bool procs_watch(struct procs *ps, pid_t pid, uint64_t start_time)
{
	struct proc *p = proc_find(ps, pid, start_time);
	int pidfd;

	if (!p) {
		if (pid == 0) /* not ours to see: never provably gone */
			return true;
		pidfd = peer_open(pid, start_time);
		if (pidfd < 0)
			return pidfd != -ESRCH;
		if (proc_new(ps, pidfd, pid, start_time, &p) < 0) {
			close(pidfd);
			return true;
		}
	}
	p->quarantined = true;
	p->unseen = true;
	return true;
}
