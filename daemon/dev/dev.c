/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev.c - what all devices have in common: choice, thread, export.
 *
 * A job moves todo -> (runs, unlocked) -> finished -> done(). The first two
 * steps are the device thread's, the last the loop thread's; the lock is held
 * for the moves alone. Jobs run and finish in the order they were submitted.
 */
#include "daemon/dev/dev.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/dev/device.h"
#include "daemon/dev/ops.h"
#include "daemon/util/clock.h"
#include "daemon/util/fault.h"
#include "daemon/util/memfd.h"

#define DEV_MAX_ORDINAL 255

/* auto tries them in this order. */
static const struct dev_ops *const dev_table[] = {
	&dev_cuda_vmm_ops,
	&dev_cuda_ipc_ops,
	&dev_host_ops,
};

#define DEV_NR (sizeof(dev_table) / sizeof(dev_table[0]))

/* ---- the thread ---- */

static void queue_init(struct dev_queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void queue_push(struct dev_queue *q, struct dev_job *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static struct dev_job *queue_pop(struct dev_queue *q)
{
	struct dev_job *job = q->first;

	if (!job)
		return NULL;
	q->first = job->next;
	if (!q->first)
		q->last = &q->first;
	return job;
}

/* Locked on entry and exit, unlocked while the job runs. */
static void dev_run(struct dev *d, struct dev_job *job)
{
	d->running = true;
	atomic_store(&d->since_ns, clock_ns());
	pthread_mutex_unlock(&d->lock);
	fault_at(FAULT_DEV_JOB); /* it sleeps, or ends the process */
	job->run(d, job);
	pthread_mutex_lock(&d->lock);
	d->running = false;
	atomic_fetch_add(&d->nr_jobs, 1);
	atomic_store(&d->since_ns, d->todo.first ? clock_ns() : 0);
	queue_push(&d->finished, job);
	pthread_cond_broadcast(&d->idle);
}

static void *dev_thread(void *arg)
{
	struct dev *d = arg;
	int r = d->ops->open(d);

	pthread_mutex_lock(&d->lock);
	d->open_err = r;
	d->opened = true;
	pthread_cond_broadcast(&d->idle);
	while (r == 0 && !d->stop) {
		struct dev_job *job = queue_pop(&d->todo);

		if (!job) {
			pthread_cond_wait(&d->work, &d->lock);
			continue;
		}
		dev_run(d, job);
		pthread_mutex_unlock(&d->lock);
		d->wake(d->wake_ctx);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	if (r == 0)
		d->ops->close(d);
	return NULL;
}

/* Signals are the loop's: the thread starts with all of them blocked. */
static int dev_start(struct dev *d)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&d->thread, NULL, dev_thread, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	pthread_setname_np(d->thread, "kvd-dev");
	return 0;
}

/* ---- birth and choice ---- */

static void dev_destroy(struct dev *d)
{
	pthread_cond_destroy(&d->idle);
	pthread_cond_destroy(&d->work);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static struct dev *dev_alloc(const struct dev_ops *ops, int ordinal,
			     void (*wake)(void *ctx), void *wake_ctx)
{
	struct dev *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->ops = ops;
	d->ordinal = ordinal;
	d->wake = wake;
	d->wake_ctx = wake_ctx;
	queue_init(&d->todo);
	queue_init(&d->finished);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->work, NULL);
	pthread_cond_init(&d->idle, NULL);
	if (ops == &dev_host_ops)
		snprintf(d->spec, sizeof(d->spec), "%s", ops->name);
	else
		snprintf(d->spec, sizeof(d->spec), "%s:%d", ops->name, ordinal);
	return d;
}

/* One device, opened; @why gets its line whether or not it is there. */
static int dev_try(const struct dev_ops *ops, int ordinal,
		   void (*wake)(void *ctx), void *wake_ctx, struct dev **ret,
		   char *why, size_t why_bytes)
{
	struct dev *d = dev_alloc(ops, ordinal, wake, wake_ctx);
	int r;

	if (!d)
		return -ENOMEM;
	r = dev_start(d);
	if (r < 0) {
		dev_destroy(d);
		return r;
	}
	pthread_mutex_lock(&d->lock);
	while (!d->opened)
		pthread_cond_wait(&d->idle, &d->lock);
	pthread_mutex_unlock(&d->lock);
	snprintf(why, why_bytes, "%s: %s", d->spec, d->why);
	if (d->open_err == 0) {
		*ret = d;
		return 0;
	}
	r = d->open_err;
	pthread_join(d->thread, NULL);
	dev_destroy(d);
	return r;
}

/* "host", "cuda-ipc:1"; a GPU's number may be left out and is 0 then. */
static int dev_parse(const char *spec, const struct dev_ops **ret_ops,
		     int *ret_ordinal)
{
	for (size_t i = 0; i < DEV_NR; i++) {
		size_t n = strlen(dev_table[i]->name);
		const char *nr = spec + n;
		char *end;
		long ordinal = 0;

		if (strncmp(spec, dev_table[i]->name, n) != 0)
			continue;
		if (*nr == ':' && dev_table[i] != &dev_host_ops) {
			if (nr[1] < '0' || nr[1] > '9')
				return -EINVAL;
			ordinal = strtol(nr + 1, &end, 10);
			nr = end;
		}
		if (*nr != '\0' || ordinal > DEV_MAX_ORDINAL)
			return -EINVAL;
		*ret_ops = dev_table[i];
		*ret_ordinal = (int)ordinal;
		return 0;
	}
	return -EINVAL;
}

/* The first device that opens; the note says why the others did not. */
static int dev_auto(void (*wake)(void *ctx), void *wake_ctx, struct dev **ret,
		    char *note, size_t note_bytes)
{
	char why[256];
	size_t used = 0;
	int r = -ENODEV;

	for (size_t i = 0; i < DEV_NR; i++) {
		r = dev_try(dev_table[i], 0, wake, wake_ctx, ret, why,
			    sizeof(why));
		if (r == 0 || r == -ENODEV)
			snprintf(note + used, note_bytes - used, "%s%s",
				 i ? "; " : "auto: ", why);
		used = strnlen(note, note_bytes);
		if (r != -ENODEV)
			return r;
	}
	return r;
}

int dev_new(const char *spec, void (*wake)(void *ctx), void *wake_ctx,
	    struct dev **ret, char *note, size_t note_bytes)
{
	const struct dev_ops *ops;
	int ordinal, r;

	assert(note_bytes > 0);
	note[0] = '\0';
	if (strcmp(spec, "auto") == 0)
		return dev_auto(wake, wake_ctx, ret, note, note_bytes);
	r = dev_parse(spec, &ops, &ordinal);
	if (r < 0) {
		snprintf(note, note_bytes,
			 "no such device: use auto, host, cuda-ipc:N or "
			 "cuda-vmm:N");
		return r;
	}
	return dev_try(ops, ordinal, wake, wake_ctx, ret, note, note_bytes);
}

void dev_free(struct dev *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->work);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	dev_destroy(d);
}

/* ---- for the loop's thread ---- */

const struct dev_ops *dev_ops(const struct dev *d)
{
	return d->ops;
}

const char *dev_spec(const struct dev *d)
{
	return d->spec;
}

void dev_submit(struct dev *d, struct dev_job *job)
{
	pthread_mutex_lock(&d->lock);
	queue_push(&d->todo, job);
	if (!d->running && d->todo.first == job)
		atomic_store(&d->since_ns, clock_ns());
	pthread_cond_signal(&d->work);
	pthread_mutex_unlock(&d->lock);
}

void dev_reap(struct dev *d)
{
	struct dev_queue finished;
	struct dev_job *job;

	pthread_mutex_lock(&d->lock);
	finished = d->finished;
	if (!finished.first)
		queue_init(&finished);
	queue_init(&d->finished);
	pthread_mutex_unlock(&d->lock);
	while ((job = queue_pop(&finished)))
		job->done(d, job);
}

void dev_drain(struct dev *d)
{
	bool more = true;

	while (more) {
		pthread_mutex_lock(&d->lock);
		while (!d->finished.first && (d->todo.first || d->running))
			pthread_cond_wait(&d->idle, &d->lock);
		more = d->finished.first != NULL;
		pthread_mutex_unlock(&d->lock);
		dev_reap(d);
	}
}

void dev_progress(const struct dev *d, uint64_t *ret_jobs,
		  uint64_t *ret_since_ns)
{
	*ret_jobs = atomic_load(&d->nr_jobs);
	*ret_since_ns = atomic_load(&d->since_ns);
}

bool dev_lost(const struct dev *d)
{
	return atomic_load(&d->lost);
}

bool dev_under_mps(const struct dev *d)
{
	return d->mps;
}

int dev_export(struct dev *d, const struct dev_segment *s, bool writable,
	       struct dev_export *ret)
{
	struct dev_export e = { .kind = d->ops->export_kind, .fd = -1 };
	int r = fault_at(FAULT_EXPORT);

	if (r < 0)
		return r;
	switch (e.kind) {
	case DEV_EXPORT_IPC:
		memcpy(e.ipc_handle, s->ipc_handle, sizeof(e.ipc_handle));
		*ret = e;
		return 0;
	case DEV_EXPORT_MMAP:
		if (!writable) {
			e.fd = memfd_reopen_readonly(s->fd);
			break;
		}
		/* fall through */
	default:
		e.fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
		if (e.fd < 0)
			e.fd = -errno;
	}
	if (e.fd < 0)
		return e.fd == -EMFILE || e.fd == -ENFILE ? -EMFILE : -EIO;
	*ret = e;
	return 0;
}
