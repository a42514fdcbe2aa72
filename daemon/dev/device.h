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

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "daemon/dev/dev.h"

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
	struct worker thread;
	bool closing;		/* nobody is told of jobs any more */
	_Atomic bool lost;
};

#endif
