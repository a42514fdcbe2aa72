/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.h - rows of q, K and V on their way to a GPU, and results back.
 */
#ifndef KVWORKER_STAGING_H
#define KVWORKER_STAGING_H

#include <stddef.h>
#include "tools/kvworker/error.h"

struct staging;

/**
 * staging_open() - make the context of the pool's GPU current
 * @name:	as kvd_device() gives it
 * @ret:	NULL for "host"; else staging_close() it
 */
int staging_open(const char *name, struct staging **ret, struct error *e);

/* NULL is fine. */
void staging_close(struct staging *d);

/**
 * staging_put() - copy rows to the GPU and make room for what comes back
 * @ret_in:	device address of the rows
 * @ret_out:	device address of @out_bytes
 */
int staging_put(struct staging *d, const void *in, size_t in_bytes,
	       size_t out_bytes, const float **ret_in, float **ret_out,
	       struct error *e);

/**
 * staging_get() - wait for the work given to the default stream, copy back
 */
int staging_get(struct staging *d, void *out, size_t bytes, struct error *e);

#endif
