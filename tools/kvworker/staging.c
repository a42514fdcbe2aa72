/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.c - rows of q, K and V on their way to a GPU, and results back.
 *
 * Everything goes through the default stream of the GPU's primary context,
 * which also orders the copies with the library's kernels between them.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/driver.h"
#include "tools/kvworker/staging.h"

/* Device memory that only grows. */
struct buffer {
	cu_ptr at;
	size_t bytes;
};

struct staging {
	const struct cuda_driver *cu;
	cu_device device;
	cu_context context;	/* NULL until retained */
	struct buffer in;
	struct buffer out;
};

/* Turns a driver's result into ours. */
static int check(const struct staging *s, const char *call, cu_result result,
		 struct error *e)
{
	char text[256];

	if (result == CU_OK)
		return 0;
	cu_text(s->cu, call, result, text, sizeof(text));
	return error_set(e, cu_errno(result), "%s", text);
}

static int open_context(struct staging *s, int ordinal, struct error *e)
{
	int err;

	err = check(s, "cuInit", s->cu->cuInit(0), e);
	if (!err)
		err = check(s, "cuDeviceGet",
			    s->cu->cuDeviceGet(&s->device, ordinal), e);
	if (!err)
		err = check(s, "cuDevicePrimaryCtxRetain",
			    s->cu->cuDevicePrimaryCtxRetain(&s->context,
							    s->device), e);
	if (!err)
		err = check(s, "cuCtxSetCurrent",
			    s->cu->cuCtxSetCurrent(s->context), e);
	return err;
}

int staging_open(const char *name, struct staging **ret, struct error *e)
{
	const char *colon = strchr(name, ':');
	struct staging *s;
	char why[256];
	int err;

	*ret = NULL;
	if (!strcmp(name, "host"))
		return 0;
	if (strncmp(name, "cuda-", 5) || !colon)
		return error_set(e, -ENODEV, "unknown pool device %s", name);
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->cu = cuda_driver(why, sizeof(why));
	err = s->cu ? open_context(s, atoi(colon + 1), e) :
		      error_set(e, -ENODEV, "pool device %s: %s", name, why);
	if (err)
		staging_close(s);
	else
		*ret = s;
	return err;
}

void staging_close(struct staging *s)
{
	if (!s)
		return;
	if (s->context) {
		s->cu->cuMemFree(s->in.at);
		s->cu->cuMemFree(s->out.at);
		s->cu->cuCtxSetCurrent(NULL);
		s->cu->cuDevicePrimaryCtxRelease(s->device);
	}
	free(s);
}

static int reserve(struct staging *s, struct buffer *b, size_t bytes,
		   struct error *e)
{
	int err;

	if (bytes <= b->bytes)
		return 0;
	s->cu->cuMemFree(b->at);
	*b = (struct buffer){ 0 };
	err = check(s, "cuMemAlloc", s->cu->cuMemAlloc(&b->at, bytes), e);
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
		err = check(s, "cuMemcpyHtoDAsync",
			    s->cu->cuMemcpyHtoDAsync(s->in.at, in, in_bytes,
						     NULL), e);
	if (err)
		return err;
	*ret_in = (const float *)(uintptr_t)s->in.at;
	*ret_out = (float *)(uintptr_t)s->out.at;
	return 0;
}

int staging_get(struct staging *s, void *out, size_t bytes, struct error *e)
{
	int err;

	err = check(s, "cuMemcpyDtoHAsync",
		    s->cu->cuMemcpyDtoHAsync(out, s->out.at, bytes, NULL), e);
	if (err)
		return err;
	return check(s, "cuStreamSynchronize",
		     s->cu->cuStreamSynchronize(NULL), e);
}
