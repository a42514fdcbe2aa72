/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - a thread that waits for something, so that the loop does not.
 *
 * A job moves todo -> (runs, unlocked) -> finished -> done(). The first two
 * steps are the worker's, the last the loop thread's, by worker_reap(); the
 * lock is held for the moves alone. Jobs run and are done in the order they
 * were submitted. All calls are the loop thread's.
 */
#ifndef DAEMON_UTIL_WORKER_H
#define DAEMON_UTIL_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A piece of work. Embed it. */
struct worker_job {
	void (*run)(struct worker_job *job);  /* the worker's thread */
	void (*done)(struct worker_job *job); /* the loop's thread */
	struct worker_job *next;
	bool dropped;		/* it has not run: the end has come first */
};

struct worker_queue {
	struct worker_job *first;
	struct worker_job **last;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;	/* guards what is below but the figures */
	pthread_cond_t work;	/* todo or stop has changed */
	pthread_cond_t idle;	/* a job has finished */
	struct worker_queue todo, finished;
	struct worker_job *last; /* runs at the end */
	bool running, stop;
	void (*wake)(void *ctx);
	void *wake_ctx;
	_Atomic uint64_t nr_jobs;
	_Atomic uint64_t since_ns;
};

/* @name: of the thread, 15 bytes at most. Return: 0, -EAGAIN. */
int worker_init(struct worker *w, const char *name);

/* From now on @wake is called on the thread after each job: it must only
 * arrange that worker_reap() is soon called on the loop's. */
void worker_wakes(struct worker *w, void (*wake)(void *ctx), void *ctx);

/* Waits for the job that runs. @last, or NULL, runs after it; what waited is
 * done() too, dropped. */
void worker_fini(struct worker *w, struct worker_job *last);

void worker_submit(struct worker *w, struct worker_job *job);

/* Runs done() of the jobs that have finished. */
void worker_reap(struct worker *w);

/*
 * Waits until everything submitted has finished and its done() has run, what
 * done() submits included. Blocks: start-up, shutdown, tests.
 */
void worker_drain(struct worker *w);

/* Jobs finished so far, and since when the same one runs, or is the next to
 * (ns, 0: there is none). */
void worker_progress(const struct worker *w, uint64_t *ret_jobs,
		     uint64_t *ret_since_ns);

#endif
