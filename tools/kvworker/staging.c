/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.c - rows of q, K and V on their way to a GPU, and results back.
 *
 * Everything goes through the worker's stream, which also orders the copies
 * with the library's kernels between them.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include "tools/kvworker/staging.h"

/* Device memory that only grows. */
struct buffer {
	cu_ptr at;
	size_t bytes;
};

struct staging {
	struct gpu *gpu;
	struct buffer in;
	struct buffer out;
};

int staging_new(struct gpu *g, struct staging **ret, struct error *e)
{
	*ret = NULL;
	if (!g)
		return 0;
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return error_set(e, -ENOMEM, "out of memory");
	(*ret)->gpu = g;
	return 0;
}

void staging_free(struct staging *s)
{
	if (!s)
		return;
	s->gpu->cu->cuMemFree(s->in.at);
	s->gpu->cu->cuMemFree(s->out.at);
	free(s);
}

static int reserve(struct staging *s, struct buffer *b, size_t bytes,
		   struct error *e)
{
	int err;

	if (bytes <= b->bytes)
		return 0;
	s->gpu->cu->cuMemFree(b->at);
	*b = (struct buffer){ 0 };
	err = GPU_CALL(s->gpu, e, cuMemAlloc, &b->at, bytes);
	if (!err)
		b->bytes = bytes;
	return err;
}

int staging_put(struct staging *s, const void *in, size_t in_bytes,
		size_t out_bytes, const float **ret_in, float **ret_out,
		struct error *e)
{
	int err;

	err = reserve(s, &s->in, in_bytes, e);
	if (!err)
		err = reserve(s, &s->out, out_bytes, e);
	if (!err)
		err = GPU_CALL(s->gpu, e, cuMemcpyHtoDAsync, s->in.at, in,
			       in_bytes, s->gpu->stream);
	if (err)
		return err;
	*ret_in = (const float *)(uintptr_t)s->in.at;
	*ret_out = (float *)(uintptr_t)s->out.at;
	return 0;
}

int staging_get(struct staging *s, void *out, size_t bytes, struct error *e)
{
	int err;

	err = GPU_CALL(s->gpu, e, cuMemcpyDtoHAsync, out, s->out.at, bytes,
		       s->gpu->stream);
	if (err)
		return err;
	return GPU_CALL(s->gpu, e, cuStreamSynchronize, s->gpu->stream);
}
