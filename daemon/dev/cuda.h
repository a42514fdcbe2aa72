/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda.h - what the two CUDA devices share: a context and a stream.
 *
 * All of it runs on the device's thread, where the context is current.
 */
#ifndef DAEMON_DEV_CUDA_H
#define DAEMON_DEV_CUDA_H

#include "daemon/dev/device.h"
#include "kernels/cuda/driver.h"

struct kv_cuda;

struct cuda {
	const struct cuda_driver *cu;
	cu_device device;
	cu_stream stream;	/* of the lowest priority */

	/* cuda_convert.c's own: */
	struct kv_cuda *kernels;   /* NULL: not needed yet */
	struct dev_segment block;  /* what a launch is told; or not yet */
};

/**
 * cuda_open() - open GPU d->ordinal and make its context current
 *
 * Return: 0, -ENOMEM, or -ENODEV with d->why saying what is missing, whatever
 * it is: so that a daemon told to choose by itself goes on to the next device.
 */
int cuda_open(struct dev *d);
void cuda_close(struct dev *d);

/* Sets bytes to zero and waits for it. 0 or -EIO */
int cuda_zero(struct dev *d, struct dev_segment *s, uint64_t offset,
	      uint64_t bytes);
int cuda_read(struct dev *d, struct dev_segment *s, uint64_t offset, void *buf,
	      uint64_t bytes);
int cuda_copy(struct dev *d, struct dev_segment *to, uint64_t to_offset,
	      struct dev_segment *from, uint64_t from_offset, uint64_t bytes);
int cuda_write(struct dev *d, struct dev_segment *s, uint64_t offset,
	       const void *buf, uint64_t bytes);

int cuda_convert(struct dev *d, const struct dev_convert *what);
void cuda_convert_end(struct cuda *c);

/*
 * What dev_ops may return of a driver's result: 0, -ENOMEM or -EIO. After an
 * error that stays (dev_lost()) it is -EIO for good.
 */
int cuda_errno(struct dev *d, cu_result err);

/* The same of an error whatever it was: -EIO. */
int cuda_fault(struct dev *d);

/* An attribute of the device, 0 where the driver does not know it. */
int cuda_attribute(const struct cuda *c, int attr);

#endif
