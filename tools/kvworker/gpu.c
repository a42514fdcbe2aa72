/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.c - the GPU of the pool: its primary context, and the worker's stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvworker/gpu.h"

int gpu_check(const struct gpu *g, const char *call, cu_result result,
	      struct error *e)
{
	char text[256];

	if (result == CU_OK)
		return 0;
	cu_text(g->cu, call, result, text, sizeof(text));
	return error_set(e, cu_errno(result), "%s", text);
}

static int open_context(struct gpu *g, int ordinal, struct error *e)
{
	int err;

	err = GPU_CALL(g, e, cuInit, 0);
	if (!err)
		err = GPU_CALL(g, e, cuDeviceGet, &g->device, ordinal);
	if (!err)
		err = GPU_CALL(g, e, cuDevicePrimaryCtxRetain, &g->context,
			       g->device);
	if (!err)
		err = GPU_CALL(g, e, cuCtxSetCurrent, g->context);
	if (!err)
		err = GPU_CALL(g, e, cuStreamCreateWithPriority, &g->stream,
			       CU_STREAM_OWN_ORDER, 0);
	return err;
}

int gpu_open(const char *name, struct gpu **ret, struct error *e)
{
	const char *colon = strchr(name, ':');
	struct gpu *g;
	char why[256];
	int err;

	*ret = NULL;
	if (!strcmp(name, "host"))
		return 0;
	if (strncmp(name, "cuda-", 5) || !colon)
		return error_set(e, -ENODEV, "unknown pool device %s", name);
	g = calloc(1, sizeof(*g));
	if (!g)
		return error_set(e, -ENOMEM, "out of memory");
	g->cu = cuda_driver(why, sizeof(why));
	err = g->cu ? open_context(g, atoi(colon + 1), e) :
		      error_set(e, -ENODEV, "pool device %s: %s", name, why);
	if (err)
		gpu_close(g);
	else
		*ret = g;
	return err;
}

void gpu_close(struct gpu *g)
{
	if (!g)
		return;
	if (g->stream)
		g->cu->cuStreamDestroy(g->stream);
	if (g->context) {
		g->cu->cuCtxSetCurrent(NULL);
		g->cu->cuDevicePrimaryCtxRelease(g->device);
	}
	free(g);
}
