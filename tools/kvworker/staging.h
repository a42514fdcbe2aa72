/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.h - rows of q, K and V on their way to a GPU, and results back.
 */
#ifndef KVWORKER_STAGING_H
#define KVWORKER_STAGING_H

#include <stddef.h>
#include "tools/kvworker/error.h"
#include "tools/kvworker/gpu.h"

struct staging;

/**
 * staging_new() - room that grows with what crosses
 * @ret:	NULL where @g is; else staging_free() it before @g
 */
int staging_new(struct gpu *g, struct staging **ret, struct error *e);

/* NULL is fine. */
void staging_free(struct staging *d);

/**
 * staging_put() - copy rows to the GPU and make room for what comes back
 * @ret_in:	device address of the rows
 * @ret_out:	device address of @out_bytes
 */
int staging_put(struct staging *d, const void *in, size_t in_bytes,
	       size_t out_bytes, const float **ret_in, float **ret_out,
	       struct error *e);

/**
 * staging_get() - wait for the work given to the GPU, copy back
 */
int staging_get(struct staging *d, void *out, size_t bytes, struct error *e);

#endif
