// SPDX-License-Identifier: Apache-2.0
/* device.c - which device, and the part that all devices share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/device.h"

int device_open(const char *spec, bool writable, struct device **ret)
{
	if (!strcmp(spec, "host"))
		return device_host_ops.open(spec, writable, ret);
	if (!strncmp(spec, "cuda-", 5))
		return device_cuda_ops.open(spec, writable, ret);
	return -ENODEV;
}

int device_grow(struct device *d)
{
	uint32_t room = 2 * d->room + 8;
	void *p;

	if (d->nr_segments < d->room)
		return 0;
	p = realloc(d->read_only, room * sizeof(void *));
	if (!p)
		return -ENOMEM;
	d->read_only = p;
	p = realloc(d->writable_at, room * sizeof(void *));
	if (!p)
		return -ENOMEM;
	d->writable_at = p;
	d->room = room;
	return 0;
}
