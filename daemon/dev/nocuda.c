/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nocuda.c - a build without cuda.c: the two CUDA devices are never there.
 */
#include "daemon/dev/ops.h"

#include <errno.h>
#include <stdio.h>
#include "daemon/dev/device.h"

static int nocuda_open(struct dev *d)
{
	snprintf(d->why, sizeof(d->why), "built without CUDA");
	return -ENODEV;
}

const struct dev_ops dev_cuda_ipc_ops = {
	.name = "cuda-ipc",
	.export_kind = DEV_EXPORT_IPC,
	.open = nocuda_open,
};

const struct dev_ops dev_cuda_vmm_ops = {
	.name = "cuda-vmm",
	.export_kind = DEV_EXPORT_VMM,
	.open = nocuda_open,
};
