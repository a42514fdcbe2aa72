// SPDX-License-Identifier: Apache-2.0
/* worker.c - a thread that waits for something, so that the loop does not. */
#include "daemon/util/worker.h"

#include <signal.h>
#include "daemon/util/clock.h"

static void queue_init(struct worker_queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void queue_push(struct worker_queue *q, struct worker_job *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static struct worker_job *queue_pop(struct worker_queue *q)
{
	struct worker_job *job = q->first;

	if (!job)
		return NULL;
	q->first = job->next;
	if (!q->first)
		q->last = &q->first;
	return job;
}

/* Locked on entry and exit, unlocked while the job runs, and for the wake. */
static void worker_run(struct worker *w, struct worker_job *job)
{
	void (*wake)(void *ctx);
	void *ctx;

	w->running = true;
	atomic_store(&w->since_ns, clock_ns());
	pthread_mutex_unlock(&w->lock);
	job->run(job);
	pthread_mutex_lock(&w->lock);
	w->running = false;
	atomic_fetch_add(&w->nr_jobs, 1);
	atomic_store(&w->since_ns, w->todo.first ? clock_ns() : 0);
	queue_push(&w->finished, job);
	pthread_cond_broadcast(&w->idle);
	wake = w->wake;
	ctx = w->wake_ctx;
	if (!wake)
		return;
	pthread_mutex_unlock(&w->lock);
	wake(ctx);
	pthread_mutex_lock(&w->lock);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct worker_job *job = queue_pop(&w->todo);

		if (job)
			worker_run(w, job);
		else
			pthread_cond_wait(&w->work, &w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	if (w->last)
		w->last->run(w->last);
	return NULL;
}

static void worker_destroy(struct worker *w)
{
	pthread_cond_destroy(&w->idle);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
}

int worker_init(struct worker *w, const char *name)
{
	sigset_t all, old;
	int r;

	queue_init(&w->todo);
	queue_init(&w->finished);
	w->last = NULL;
	w->running = w->stop = false;
	w->wake = NULL;
	w->wake_ctx = NULL;
	atomic_init(&w->nr_jobs, 0);
	atomic_init(&w->since_ns, 0);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->idle, NULL);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		worker_destroy(w);
		return -r;
	}
	pthread_setname_np(w->thread, name);
	return 0;
}

void worker_wakes(struct worker *w, void (*wake)(void *ctx), void *ctx)
{
	pthread_mutex_lock(&w->lock);
	w->wake = wake;
	w->wake_ctx = ctx;
	pthread_mutex_unlock(&w->lock);
}

void worker_fini(struct worker *w, struct worker_job *last)
{
	struct worker_job *job;

	pthread_mutex_lock(&w->lock);
	w->last = last;
	w->stop = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	worker_reap(w);
	while ((job = queue_pop(&w->todo))) {
		job->dropped = true;
		job->done(job);
	}
	worker_destroy(w);
}

void worker_submit(struct worker *w, struct worker_job *job)
{
	job->dropped = false;
	pthread_mutex_lock(&w->lock);
	queue_push(&w->todo, job);
	if (!w->running && w->todo.first == job)
		atomic_store(&w->since_ns, clock_ns());
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

void worker_reap(struct worker *w)
{
	struct worker_queue finished;
	struct worker_job *job;

	pthread_mutex_lock(&w->lock);
	finished = w->finished;
	if (!finished.first)
		queue_init(&finished);
	queue_init(&w->finished);
	pthread_mutex_unlock(&w->lock);
	while ((job = queue_pop(&finished)))
		job->done(job);
}

void worker_drain(struct worker *w)
{
	bool more = true;

	while (more) {
		pthread_mutex_lock(&w->lock);
		while (!w->finished.first && (w->todo.first || w->running))
			pthread_cond_wait(&w->idle, &w->lock);
		more = w->finished.first != NULL;
		pthread_mutex_unlock(&w->lock);
		worker_reap(w);
	}
}

void worker_progress(const struct worker *w, uint64_t *ret_jobs,
		     uint64_t *ret_since_ns)
{
	*ret_jobs = atomic_load(&w->nr_jobs);
	*ret_since_ns = atomic_load(&w->since_ns);
}
