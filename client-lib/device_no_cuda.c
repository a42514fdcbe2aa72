// SPDX-License-Identifier: Apache-2.0
/* device_no_cuda.c - a library without CUDA: there is no such device. */
#include <errno.h>
#include "client-lib/device.h"

static int no_cuda_open(const char *spec, bool writable, struct device **ret)
{
	return -ENODEV;
}

const struct device_ops device_cuda_ops = { .open = no_cuda_open };
