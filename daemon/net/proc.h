/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h - client processes, and when their device work has provably ended.
 *
 * A dead worker's pages may be reused only when its sockets have hung up AND
 * its pidfd is readable: either alone can come hundreds of milliseconds
 * before the kernel has let go of its memory. One struct proc per process
 * counts its connections; pages of a connection that ended without a bye are
 * quarantined until the process is gone and its last connection too, and so
 * long its tenant keeps its segments, bye or not. A hangup that nobody can see
 * (we closed our end first, or a predecessor did) is made up for by time: such
 * a process is settled PROC_UNSEEN_MS after its end.
 *
 * Under MPS neither proves anything: a server runs the kernels of its clients.
 * There, pages of a process that has ended stay in quarantine until MPS, asked
 * since, does not list it. That counts only from an MPS that is known to list
 * processes as we know them: it lists this daemon, or has listed that process
 * while it lived. One in a PID namespace below ours may be listed by its number
 * there; one whose pid is not ours to see is never found not to be listed. All
 * are under MPS where this daemon is; else those that say so, and after a
 * restart those that have not come back if any had.
 */
#ifndef DAEMON_NET_PROC_H
#define DAEMON_NET_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>
#include "daemon/net/mps.h"

#define PROC_UNSEEN_MS 1000

struct mem;
struct procs;
struct user;

struct proc {
	uv_poll_t poll;
	LIST_ENTRY(proc) link;
	struct procs *procs;
	struct user *user;	/* whose it is; NULL: nobody has come yet */
	int pidfd;		/* -1: it had ended before it was watched */
	pid_t pid;
	pid_t inner_pid;	/* in its own PID namespace; under MPS */
	uint64_t start_time;
	unsigned nr_conns;	/* those that are waited for too */
	unsigned nr_away;	/* of them: away.h */
	bool exited;
	bool unseen;		/* a hangup of it was not, or cannot be, seen */
	uint64_t exited_ms;	/* uv_now() */
	bool quarantined;	/* left what waits for its end in mem */
	uint64_t left_ms;	/* when it first did; uv_now() */
	bool mps;		/* its kernels may be a server's */
	bool look;		/* does MPS list it, while it lives? */
	bool awaits_mps;	/* all else says that it has ended */
	bool asked;		/* the question that is out is about it */
	bool asked_ended;	/* and has been put since */
	bool listed;		/* in the last answer about it */
	bool was_listed;	/* in one of them */
	bool unlisted;		/* not any more: its kernels have ended */
};

/* What pages in quarantine wait for. */
enum proc_wait {
	PROC_WAIT_UNCLAIMED,	/* the end of the grace time */
	PROC_WAIT_LIVES,	/* the process */
	PROC_WAIT_HIDDEN,	/* the process, whose end cannot be seen */
	PROC_WAIT_SETTLING,	/* PROC_UNSEEN_MS, or its connections */
	PROC_WAIT_MPS,		/* MPS, which lists it, or is about to tell */
	PROC_WAIT_MPS_SILENT	/* MPS, which cannot tell */
};

struct proc_info {
	enum proc_wait wait;
	const struct user *user; /* NULL: not known since a restart */
	uint64_t left_ms;	/* as above; 0: before this daemon */
};

struct procs {
	uv_loop_t *loop;
	struct mem *mem;
	LIST_HEAD(proc_list, proc) list;
	bool under_mps;		/* this daemon, and so probably all */
	bool were_mps;		/* some were: those that a predecessor has left
				 * are taken to be */
	/* One has exited, its connections perhaps not yet. May put some. */
	void (*on_exit)(void *ctx, struct proc *p);
	void *ctx;
	bool mps_silent;	/* could not tell, the last time */
	uint64_t mps_logged_ms;
	struct mps mps;
};

void procs_init(struct procs *ps, uv_loop_t *loop, struct mem *mem,
		bool under_mps);
/* Then the loop has to run once more, and after that mps_fini(). */
void procs_fini(struct procs *ps);

/**
 * proc_get() - the process of one more connection
 * @u:		whose; charged with the process until that is forgotten
 * @max:	processes it may have
 * @pidfd:	owned by the proc from here on, also on failure
 * Return: 0; -EUSERS it has so many; another negative errno.
 */
int proc_get(struct procs *ps, struct user *u, unsigned max, int pidfd,
	     pid_t pid, uint64_t start_time, struct proc **ret);

/* It says that an MPS server runs its kernels; this daemon's own may not be. */
void proc_says_mps(struct proc *p);

/* Has all work of @p ended, apart from one connection that has hung up? */
bool proc_quiesced(const struct proc *p);

/* A connection less; @quarantined: mem waits for the end of the process. */
void proc_put(struct proc *p, bool quarantined);

/* Before proc_put(): the connection has not hung up, we have ended it. */
void proc_unseen(struct proc *p);

/* Of a process that mem knows as a writer. */
void procs_look(const struct procs *ps, pid_t pid, uint64_t start_time,
		struct proc_info *ret);

/* About once a second: settles those that time had to pass for. */
void procs_tick(struct procs *ps);

/**
 * procs_watch() - watch a writer that has no connection, for its quarantine
 * Return: true while it lives; false when it is gone.
 */
bool procs_watch(struct procs *ps, pid_t pid, uint64_t start_time);

#endif
