/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - the thread that waits for a tier, so that the loop does not.
 *
 * Jobs run in the order they were submitted; done() is called on the loop's
 * thread, by tier_thread_reap(), in that order too.
 */
#ifndef DAEMON_TIER_THREAD_H
#define DAEMON_TIER_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct tier_job {
	void (*run)(struct tier_job *job);
	void (*done)(struct tier_job *job);
	struct tier_job *next;
	bool dropped;		/* it has not run: the end has come first */
};

struct tier_jobs {
	struct tier_job *first;
	struct tier_job **last;
};

struct tier_thread {
	pthread_t id;
	pthread_mutex_t lock;	/* guards what is below but since_ns */
	pthread_cond_t work;
	pthread_cond_t idle;
	struct tier_jobs todo, finished;
	bool running, stop;
	void (*wake)(void *ctx);
	void *wake_ctx;
	_Atomic uint64_t since_ns; /* the same job runs; 0: none does */
};

/* @wake is called on the thread after each job. Return: 0, -EAGAIN. */
int tier_thread_init(struct tier_thread *t, void (*wake)(void *ctx), void *ctx);

/* Waits for the job that runs; the others are done() too, dropped. */
void tier_thread_fini(struct tier_thread *t);
void tier_thread_submit(struct tier_thread *t, struct tier_job *job);
void tier_thread_reap(struct tier_thread *t);

/* Waits until all has run and is done. */
void tier_thread_drain(struct tier_thread *t);

#endif
