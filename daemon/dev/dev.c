/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev.c - what all devices have in common: choice, thread, export.
 */
#include "daemon/dev/dev.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/dev/device.h"
#include "daemon/dev/ops.h"
#include "daemon/util/fault.h"
#include "daemon/util/list.h"
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

static struct dev_job *job_of(struct worker_job *work)
{
	return list_entry(work, struct dev_job, work);
}

static void job_run(struct worker_job *work)
{
	struct dev_job *job = job_of(work);

	fault_at(FAULT_DEV_JOB); /* it sleeps, or ends the process */
	job->run(job->dev, job);
}

static void job_done(struct worker_job *work)
{
	struct dev_job *job = job_of(work);

	if (!job->dev->closing)
		job->done(job->dev, job);
}

/* What a thread does first, and last. */
struct dev_turn {
	struct worker_job work;
	struct dev *dev;
	int err;
};

static void dev_open(struct worker_job *work)
{
	struct dev_turn *t = (struct dev_turn *)work;

	t->err = t->dev->ops->open(t->dev);
}

static void dev_opened(struct worker_job *work)
{
}

static void dev_close(struct worker_job *work)
{
	struct dev_turn *t = (struct dev_turn *)work;

	t->dev->ops->close(t->dev);
}

/* A thread with an open device. Return: 0, or why there is none. */
static int dev_start(struct dev *d)
{
	struct dev_turn t = { .work = { .run = dev_open, .done = dev_opened },
			      .dev = d };
	int r = worker_init(&d->thread, "kvd-dev");

	if (r < 0)
		return r;
	worker_submit(&d->thread, &t.work);
	worker_drain(&d->thread);
	if (t.err)
		worker_fini(&d->thread, NULL);
	return t.err;
}

/* ---- birth and choice ---- */

static struct dev *dev_alloc(const struct dev_ops *ops, int ordinal)
{
	struct dev *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->ops = ops;
	d->ordinal = ordinal;
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
	struct dev *d = dev_alloc(ops, ordinal);
	int r;

	if (!d)
		return -ENOMEM;
	r = dev_start(d);
	snprintf(why, why_bytes, "%s: %s", d->spec, d->why);
	if (r < 0) {
		free(d);
		return r;
	}
	worker_wakes(&d->thread, wake, wake_ctx);
	*ret = d;
	return 0;
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
	struct dev_turn t = { .work = { .run = dev_close }, .dev = d };

	if (!d)
		return;
	d->closing = true;
	worker_fini(&d->thread, &t.work);
	free(d);
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
	job->dev = d;
	job->work.run = job_run;
	job->work.done = job_done;
	worker_submit(&d->thread, &job->work);
}

void dev_reap(struct dev *d)
{
	worker_reap(&d->thread);
}

void dev_drain(struct dev *d)
{
	worker_drain(&d->thread);
}

void dev_progress(const struct dev *d, uint64_t *ret_jobs,
		  uint64_t *ret_since_ns)
{
	worker_progress(&d->thread, ret_jobs, ret_since_ns);
	--*ret_jobs; /* the first has opened it */
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
