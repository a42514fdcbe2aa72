// SPDX-License-Identifier: Apache-2.0
/*
 * proc.c - client processes, and when their device work has provably ended.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "daemon/mem/mem.h"
#include "daemon/mem/quarantine.h"
#include "daemon/net/log.h"
#include "daemon/net/peer.h"
#include "daemon/net/proc.h"
#include "daemon/net/user.h"

static void proc_settle(struct proc *p);

static void proc_on_close(uv_handle_t *handle)
{
	free(handle->data);
}

static void proc_free(struct proc *p)
{
	if (p->user)
		p->user->nr_procs--;
	LIST_REMOVE(p, link);
	if (p->pidfd < 0) {
		free(p);
		return;
	}
	uv_close((uv_handle_t *)&p->poll, proc_on_close);
	close(p->pidfd);
}

/* ---- MPS ---- */

/* Where MPS need not be one that lists us, it has to have listed it before. */
static bool proc_can_be_unlisted(const struct proc *p)
{
	return p->pid > 0 && (p->procs->under_mps || p->was_listed);
}

static bool procs_ask(void *ctx)
{
	struct procs *ps = ctx;
	bool any = false;
	struct proc *p;

	LIST_FOREACH(p, &ps->list, link) {
		p->asked_ended = p->awaits_mps && proc_can_be_unlisted(p);
		p->asked = p->asked_ended || (p->look && !p->exited);
		any |= p->asked;
	}
	return any;
}

static void proc_is_unlisted(struct proc *p)
{
	struct peer peer = { .pid = p->pid, .uid = p->user ? p->user->uid : 0 };
	struct log_about about = {
		.peer = p->user ? &peer : NULL,
		.pages = mem_writer_pages(p->procs->mem, p->pid, p->start_time)
	};

	log_limited(&p->procs->mps_logged_ms, LOG_INFO, &about, "MPS has let "
		    "go of pid %d: its %llu pages are free", (int)p->pid,
		    (unsigned long long)about.pages);
	p->unlisted = true;
	p->awaits_mps = false;
	proc_settle(p);
}

static void proc_answer(struct proc *p, const struct mps_control *list,
			bool lists_us)
{
	p->asked = false;
	p->listed = mps_control_lists(list, p->pid) ||
		    mps_control_lists(list, p->inner_pid);
	p->was_listed |= p->listed;
	p->look = false;
	if (p->asked_ended && !p->listed && (lists_us || p->was_listed))
		proc_is_unlisted(p);
}

/* Says so once, and again when it has told in between. */
static void procs_note_silent(struct procs *ps, const char *why)
{
	if (why && !ps->mps_silent)
		log_line(LOG_WARNING, "%s; pages of writers that have died "
			 "under MPS stay in quarantine until it tells, or "
			 "`kvctl quarantine release`", why);
	if (!why && ps->mps_silent)
		log_line(LOG_NOTICE, MPS_CONTROL " tells its clients again");
	ps->mps_silent = why;
}

static void procs_answer(void *ctx, const struct mps_control *list,
			 const char *why)
{
	struct procs *ps = ctx;
	bool lists_us = list && mps_control_lists(list, getpid());
	struct proc *p, *next;

	if (list && (lists_us || !ps->under_mps))
		why = NULL;
	else if (list)
		why = MPS_CONTROL " does not list kvd itself: it is another "
		      "one's (CUDA_MPS_PIPE_DIRECTORY), or in another PID "
		      "namespace";
	procs_note_silent(ps, why);
	for (p = LIST_FIRST(&ps->list); list && p; p = next) {
		next = LIST_NEXT(p, link);
		if (p->asked)
			proc_answer(p, list, lists_us);
	}
}

static const struct mps_ops procs_mps_ops = {
	.begin = procs_ask,
	.answer = procs_answer,
};

static bool proc_awaits_mps(const struct proc *p)
{
	return p->mps && !p->unlisted &&
	       mem_writer_pages(p->procs->mem, p->pid, p->start_time) > 0;
}

/* ---- life ---- */

void procs_init(struct procs *ps, uv_loop_t *loop, struct mem *mem,
		bool under_mps)
{
	ps->loop = loop;
	ps->mem = mem;
	ps->under_mps = under_mps;
	LIST_INIT(&ps->list);
	mps_init(&ps->mps, loop, &procs_mps_ops, ps);
}

/**
 * procs_fini() - stop watching; their memory is freed by the loop
 */
void procs_fini(struct procs *ps)
{
	struct proc *p;

	mps_stop(&ps->mps);
	while ((p = LIST_FIRST(&ps->list)))
		proc_free(p);
}

/* Has @p ended, and let go of all it had? */
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
	if (p->quarantined && proc_awaits_mps(p)) {
		if (!p->awaits_mps)
			mps_want(&p->procs->mps);
		p->awaits_mps = true;
		return;
	}
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
	p->nr_conns++; /* it stays until it is looked at */
	if (p->procs->on_exit)
		p->procs->on_exit(p->procs->ctx, p);
	proc_put(p, false);
}

static struct proc *proc_find(const struct procs *ps, pid_t pid,
			      uint64_t start_time)
{
	struct proc *p;

	LIST_FOREACH(p, &ps->list, link)
		if (p->pid == pid && p->start_time == start_time)
			return p;
	return NULL;
}

/* @pidfd is -1 where it has ended. */
static int proc_new(struct procs *ps, int pidfd, pid_t pid,
		    uint64_t start_time, struct proc **ret)
{
	struct proc *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	r = pidfd < 0 ? 0 : uv_poll_init(ps->loop, &p->poll, pidfd);
	if (r < 0) {
		free(p);
		return r;
	}
	p->poll.data = p;
	p->procs = ps;
	p->pidfd = pidfd;
	p->pid = p->inner_pid = pid;
	p->start_time = start_time;
	p->mps = ps->under_mps;
	LIST_INSERT_HEAD(&ps->list, p, link);
	if (pidfd >= 0)
		uv_poll_start(&p->poll, UV_READABLE, proc_on_exit);
	if (pidfd >= 0 && p->mps && pid > 0)
		p->inner_pid = peer_inner_pid(pid);
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

void proc_says_mps(struct proc *p)
{
	if (p->mps)
		return;
	p->mps = true;
	if (p->pid <= 0)
		return;
	p->inner_pid = peer_inner_pid(p->pid);
	p->look = true;
	mps_want(&p->procs->mps);
}

bool proc_quiesced(const struct proc *p)
{
	return p->nr_conns == 1 && !p->unseen && !p->mps &&
	       peer_exited(p->pidfd);
}

static void proc_is_quarantined(struct proc *p)
{
	if (!p->quarantined)
		p->left_ms = uv_now(p->procs->loop);
	p->quarantined = true;
}

void proc_put(struct proc *p, bool quarantined)
{
	p->nr_conns--;
	if (quarantined)
		proc_is_quarantined(p);
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

static enum proc_wait proc_waits_for(const struct proc *p)
{
	if (!p->exited)
		return PROC_WAIT_LIVES;
	if (!p->awaits_mps)
		return PROC_WAIT_SETTLING;
	if (p->listed || (proc_can_be_unlisted(p) && !p->procs->mps_silent))
		return PROC_WAIT_MPS;
	return PROC_WAIT_MPS_SILENT;
}

void procs_look(const struct procs *ps, pid_t pid, uint64_t start_time,
		struct proc_info *ret)
{
	const struct proc *p = proc_find(ps, pid, start_time);

	*ret = (struct proc_info){ .wait = mem_in_grace(ps->mem) ?
						   PROC_WAIT_UNCLAIMED :
						   PROC_WAIT_HIDDEN };
	if (!p)
		return;
	ret->wait = proc_waits_for(p);
	ret->user = p->user;
	ret->left_ms = p->left_ms;
}

/* One without connection, and perhaps without life: under MPS it is waited for
 * all the same. Return: as procs_watch(). */
static bool procs_watch_new(struct procs *ps, pid_t pid, uint64_t start_time,
			    struct proc **ret)
{
	int pidfd;

	if (pid == 0) /* not ours to see: never provably gone */
		return true;
	pidfd = peer_open(pid, start_time);
	if (pidfd == -ESRCH && !ps->under_mps && !ps->were_mps)
		return false;
	if (pidfd < 0 && pidfd != -ESRCH)
		return true;
	if (proc_new(ps, pidfd < 0 ? -1 : pidfd, pid, start_time, ret) < 0) {
		if (pidfd >= 0)
			close(pidfd);
		return true;
	}
	if (pidfd < 0) {
		(*ret)->exited = true;
		(*ret)->exited_ms = uv_now(ps->loop);
	}
	if (ps->were_mps)
		proc_says_mps(*ret);
	return true;
}

bool procs_watch(struct procs *ps, pid_t pid, uint64_t start_time)
{
	struct proc *p = proc_find(ps, pid, start_time);

	if (!p && !procs_watch_new(ps, pid, start_time, &p))
		return false;
	if (!p)
		return true;
	proc_is_quarantined(p);
	p->unseen = true;
	return true;
}
