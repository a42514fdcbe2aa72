/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - struct dev, for the files of this room.
 *
 * All of struct dev_ops run on the device's one thread, open() first and
 * close() last, so that a file here may keep what is bound to a thread (a
 * current CUDA context) and needs no locks. open() returns -ENODEV when there
 * is no such device; @why is then, and after success, one line for the log.
 * close() is called after a successful open() only.
 */
#ifndef DAEMON_DEV_DEVICE_H
#define DAEMON_DEV_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "daemon/dev/dev.h"

struct dev_queue {
	struct dev_job *first;
	struct dev_job **last;
};

struct dev {
	/* Set before open(), constant after. */
	const struct dev_ops *ops;
	int ordinal;		/* of the GPU; 0 on the host */
	char spec[32];		/* "host", "cuda-vmm:0" */

	/* The device's file's own. */
	void *priv;
	char why[160];		/* what open() found */
	bool mps;		/* and whether under MPS */

	/* dev.c's own. */
	void (*wake)(void *ctx);
	void *wake_ctx;
	pthread_t thread;
	pthread_mutex_t lock;	/* guards the rest */
	pthread_cond_t work;	/* todo, opened or stop has changed */
	pthread_cond_t idle;	/* a job has finished, open() has returned */
	struct dev_queue todo;
	struct dev_queue finished;
	bool running;
	bool opened;
	bool stop;
	int open_err;

	_Atomic uint64_t nr_jobs;
	_Atomic uint64_t since_ns;
	_Atomic bool lost;
};

#endif
