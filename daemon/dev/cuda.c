// SPDX-License-Identifier: Apache-2.0
/*
 * cuda.c - a GPU: found, opened, zeroed, read and written.
 *
 * The daemon uses the device's primary context and one stream of the lowest
 * priority, so that zeroing gives way to the workers' kernels.
 */
#include "daemon/dev/cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * An error that stays is one that a call returns in which nothing is wrong:
 * there is no list of codes to be kept.
 */
int cuda_fault(struct dev *d)
{
	const struct cuda *c = d->priv;

	if (c->cu->cuStreamSynchronize(c->stream))
		atomic_store(&d->lost, true);
	return -EIO;
}

int cuda_errno(struct dev *d, cu_result err)
{
	switch (cu_errno(err)) {
	case 0:
		return 0;
	case -ENOMEM:
		return -ENOMEM;
	default:
		return cuda_fault(d);
	}
}

int cuda_attribute(const struct cuda *c, int attr)
{
	int value;

	return c->cu->cuDeviceGetAttribute(&value, attr, c->device) ? 0 : value;
}

static int cuda_fail(struct dev *d, const char *call, cu_result err)
{
	const struct cuda *c = d->priv;

	if (err)
		cu_text(c->cu, call, err, d->why, sizeof(d->why));
	return err ? -ENODEV : 0;
}

static int cuda_find(struct dev *d)
{
	struct cuda *c = d->priv;
	int nr = 0;

	c->cu = cuda_driver(d->why, sizeof(d->why));
	if (!c->cu)
		return -ENODEV;
	if (cuda_fail(d, "cuInit", c->cu->cuInit(0)) ||
	    cuda_fail(d, "cuDeviceGetCount", c->cu->cuDeviceGetCount(&nr)))
		return -ENODEV;
	if (d->ordinal >= nr) {
		snprintf(d->why, sizeof(d->why), "the driver shows %d GPU%s",
			 nr, nr == 1 ? "" : "s");
		return -ENODEV;
	}
	return cuda_fail(d, "cuDeviceGet",
			 c->cu->cuDeviceGet(&c->device, d->ordinal));
}

static bool cuda_able(struct dev *d)
{
	const struct cuda *c = d->priv;

	if (d->ops->export_kind != DEV_EXPORT_VMM ||
	    (cuda_attribute(c, CU_ATTR_VMM) &&
	     cuda_attribute(c, CU_ATTR_POSIX_FD)))
		return true;
	snprintf(d->why, sizeof(d->why),
		 "the GPU or its driver cannot export memory as a descriptor");
	return false;
}

static int cuda_stream(struct dev *d)
{
	struct cuda *c = d->priv;
	int least, greatest;
	cu_result err;

	err = c->cu->cuCtxGetStreamPriorityRange(&least, &greatest);
	if (err)
		return cuda_fail(d, "cuCtxGetStreamPriorityRange", err);
	err = c->cu->cuStreamCreateWithPriority(&c->stream, CU_STREAM_OWN_ORDER,
						least);
	return cuda_fail(d, "cuStreamCreateWithPriority", err);
}

static int cuda_context(struct dev *d)
{
	struct cuda *c = d->priv;
	cu_context ctx;
	cu_result err;
	int r;

	err = c->cu->cuDevicePrimaryCtxRetain(&ctx, c->device);
	if (err)
		return cuda_fail(d, "cuDevicePrimaryCtxRetain", err);
	r = cuda_fail(d, "cuCtxSetCurrent", c->cu->cuCtxSetCurrent(ctx));
	if (!r)
		r = cuda_stream(d);
	if (r)
		c->cu->cuDevicePrimaryCtxRelease(c->device);
	return r;
}

static void cuda_describe(struct dev *d)
{
	const struct cuda *c = d->priv;
	char name[64];
	int version;

	if (c->cu->cuDeviceGetName(name, sizeof(name), c->device))
		snprintf(name, sizeof(name), "a GPU");
	if (c->cu->cuDriverGetVersion(&version))
		version = 0;
	d->mps = cuda_attribute(c, CU_ATTR_MPS);
	snprintf(d->why, sizeof(d->why),
		 "%s, compute capability %d.%d, driver for CUDA %d.%d%s", name,
		 cuda_attribute(c, CU_ATTR_CC_MAJOR),
		 cuda_attribute(c, CU_ATTR_CC_MINOR), version / 1000,
		 version % 1000 / 10,
		 d->mps ? ", under MPS" : "");
}

int cuda_open(struct dev *d)
{
	int r;

	d->priv = calloc(1, sizeof(struct cuda));
	if (!d->priv)
		return -ENOMEM;
	r = cuda_find(d);
	if (!r)
		r = cuda_able(d) ? cuda_context(d) : -ENODEV;
	if (r) {
		free(d->priv);
		d->priv = NULL;
		return r;
	}
	cuda_describe(d);
	return 0;
}

void cuda_close(struct dev *d)
{
	struct cuda *c = d->priv;

	cuda_convert_end(c);
	c->cu->cuStreamDestroy(c->stream);
	c->cu->cuCtxSetCurrent(NULL);
	c->cu->cuDevicePrimaryCtxRelease(c->device);
	free(c);
	d->priv = NULL;
}

int cuda_zero(struct dev *d, struct dev_segment *s, uint64_t offset,
	      uint64_t bytes)
{
	struct cuda *c = d->priv;
	cu_result err;

	err = c->cu->cuMemsetD8Async(s->base + offset, 0, bytes, c->stream);
	if (!err)
		err = c->cu->cuStreamSynchronize(c->stream);
	return cuda_errno(d, err);
}

int cuda_read(struct dev *d, struct dev_segment *s, uint64_t offset, void *buf,
	      uint64_t bytes)
{
	struct cuda *c = d->priv;
	cu_result err;

	err = c->cu->cuMemcpyDtoHAsync(buf, s->base + offset, bytes, c->stream);
	if (!err)
		err = c->cu->cuStreamSynchronize(c->stream);
	return cuda_errno(d, err);
}

int cuda_copy(struct dev *d, struct dev_segment *to, uint64_t to_offset,
	      struct dev_segment *from, uint64_t from_offset, uint64_t bytes)
{
	struct cuda *c = d->priv;
	cu_result err;

	err = c->cu->cuMemcpyDtoDAsync(to->base + to_offset,
				       from->base + from_offset, bytes,
				       c->stream);
	if (!err)
		err = c->cu->cuStreamSynchronize(c->stream);
	return cuda_errno(d, err);
}

int cuda_write(struct dev *d, struct dev_segment *s, uint64_t offset,
	       const void *buf, uint64_t bytes)
{
	struct cuda *c = d->priv;
	cu_result err;

	err = c->cu->cuMemcpyHtoDAsync(s->base + offset, buf, bytes, c->stream);
	if (!err)
		err = c->cu->cuStreamSynchronize(c->stream);
	return cuda_errno(d, err);
}
