// SPDX-License-Identifier: Apache-2.0
/* thread.c - the thread that waits for a tier. */
#include "daemon/tier/thread.h"

#include <signal.h>
#include "daemon/util/clock.h"

static void jobs_init(struct tier_jobs *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void jobs_push(struct tier_jobs *q, struct tier_job *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static struct tier_job *jobs_pop(struct tier_jobs *q)
{
	struct tier_job *job = q->first;

	if (!job)
		return NULL;
	q->first = job->next;
	if (!q->first)
		q->last = &q->first;
	return job;
}

/* Locked on entry and exit, unlocked while the job runs. */
static void thread_run(struct tier_thread *t, struct tier_job *job)
{
	t->running = true;
	pthread_mutex_unlock(&t->lock);
	atomic_store(&t->since_ns, clock_ns());
	job->run(job);
	atomic_store(&t->since_ns, 0);
	pthread_mutex_lock(&t->lock);
	t->running = false;
	jobs_push(&t->finished, job);
	pthread_cond_broadcast(&t->idle);
	pthread_mutex_unlock(&t->lock);
	t->wake(t->wake_ctx);
	pthread_mutex_lock(&t->lock);
}

static void *thread_main(void *arg)
{
	struct tier_thread *t = arg;

	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		struct tier_job *job = jobs_pop(&t->todo);

		if (job)
			thread_run(t, job);
		else
			pthread_cond_wait(&t->work, &t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int tier_thread_init(struct tier_thread *t, void (*wake)(void *ctx), void *ctx)
{
	sigset_t all, old;
	int r;

	jobs_init(&t->todo);
	jobs_init(&t->finished);
	t->running = t->stop = false;
	t->wake = wake;
	t->wake_ctx = ctx;
	atomic_init(&t->since_ns, 0);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->idle, NULL);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->id, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	pthread_setname_np(t->id, "kvd-tier");
	return 0;
}

void tier_thread_fini(struct tier_thread *t)
{
	struct tier_job *job;

	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->id, NULL);
	tier_thread_reap(t);
	while ((job = jobs_pop(&t->todo))) {
		job->dropped = true;
		job->done(job);
	}
	pthread_cond_destroy(&t->idle);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
}

void tier_thread_submit(struct tier_thread *t, struct tier_job *job)
{
	job->dropped = false;
	pthread_mutex_lock(&t->lock);
	jobs_push(&t->todo, job);
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

void tier_thread_reap(struct tier_thread *t)
{
	struct tier_jobs finished;
	struct tier_job *job;

	pthread_mutex_lock(&t->lock);
	finished = t->finished;
	if (!finished.first)
		jobs_init(&finished);
	jobs_init(&t->finished);
	pthread_mutex_unlock(&t->lock);
	while ((job = jobs_pop(&finished)))
		job->done(job);
}

void tier_thread_drain(struct tier_thread *t)
{
	bool more = true;

	while (more) {
		pthread_mutex_lock(&t->lock);
		while (!t->finished.first && (t->todo.first || t->running))
			pthread_cond_wait(&t->idle, &t->lock);
		more = t->finished.first != NULL;
		pthread_mutex_unlock(&t->lock);
		tier_thread_reap(t);
	}
}
