// SPDX-License-Identifier: Apache-2.0
/*
 * cuda_ipc.c - GPU memory handed over by CUDA IPC handles.
 *
 * For GPUs and drivers without exportable virtual memory. A handle gives
 * whoever has it all of the allocation, readable and writable, and dies with
 * this process: segments do not survive a restart.
 */
#include "daemon/dev/ops.h"

#include <errno.h>
#include <string.h>
#include "daemon/dev/cuda.h"

static void ipc_segment_free(struct dev *d, struct dev_segment *s)
{
	struct cuda *c = d->priv;

	c->cu->cuMemFree(s->base);
	*s = (struct dev_segment){ .fd = -1 };
}

static int ipc_segment_new(struct dev *d, uint64_t bytes,
			   struct dev_segment *ret)
{
	struct dev_segment s = { .bytes = bytes, .fd = -1 };
	struct cuda *c = d->priv;
	struct cu_ipc_handle handle;
	cu_ptr ptr;
	int r;

	/* Handles share whole 2 MiB blocks of the driver. */
	if (bytes % DEV_GRANULE)
		return -EIO;
	r = cuda_errno(d, c->cu->cuMemAlloc(&ptr, bytes));
	if (r)
		return r;
	s.base = ptr;
	r = cuda_zero(d, &s, 0, bytes);
	if (!r)
		r = cuda_errno(d, c->cu->cuIpcGetMemHandle(&handle, ptr));
	if (r) {
		ipc_segment_free(d, &s);
		return r;
	}
	memcpy(s.ipc_handle, &handle, sizeof(s.ipc_handle));
	*ret = s;
	return 0;
}

static int ipc_segment_adopt(struct dev *d, int fd, uint64_t bytes,
			     struct dev_segment *ret)
{
	return -EOPNOTSUPP;
}

const struct dev_ops dev_cuda_ipc_ops = {
	.name = "cuda-ipc",
	.survives = false,
	.export_kind = DEV_EXPORT_IPC,
	.open = cuda_open,
	.close = cuda_close,
	.segment_new = ipc_segment_new,
	.segment_adopt = ipc_segment_adopt,
	.segment_free = ipc_segment_free,
	.zero = cuda_zero,
	.read = cuda_read,
	.copy = cuda_copy,
	.write = cuda_write,
	.convert = cuda_convert,
};
