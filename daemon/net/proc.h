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
 */
#ifndef DAEMON_NET_PROC_H
#define DAEMON_NET_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

#define PROC_UNSEEN_MS 1000

struct mem;
struct procs;
struct user;

struct proc {
	uv_poll_t poll;
	LIST_ENTRY(proc) link;
	struct procs *procs;
	struct user *user;	/* whose it is; NULL: nobody has come yet */
	int pidfd;
	pid_t pid;
	uint64_t start_time;
	unsigned nr_conns;
	bool exited;
	bool unseen;		/* a hangup of it was not, or cannot be, seen */
	uint64_t exited_ms;	/* uv_now() */
	bool quarantined;	/* left what waits for its end in mem */
};

struct procs {
	uv_loop_t *loop;
	struct mem *mem;
	LIST_HEAD(proc_list, proc) list;
};

void procs_init(struct procs *ps, uv_loop_t *loop, struct mem *mem);
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

/* Has all work of @p ended, apart from one connection that has hung up? */
bool proc_quiesced(const struct proc *p);

/* A connection less; @quarantined: mem waits for the end of the process. */
void proc_put(struct proc *p, bool quarantined);

/* Before proc_put(): the connection has not hung up, we have ended it. */
void proc_unseen(struct proc *p);

/* About once a second: settles those that time had to pass for. */
void procs_tick(struct procs *ps);

/**
 * procs_watch() - watch a writer that has no connection, for its quarantine
 * Return: true while it lives; false when it is gone.
 */
bool procs_watch(struct procs *ps, pid_t pid, uint64_t start_time);

#endif
