/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - the GPU of the pool: its primary context, and the worker's stream.
 *
 * All that the worker gives the GPU goes through this one stream, the
 * library's kernels included: what was given first is done first.
 */
#ifndef KVWORKER_GPU_H
#define KVWORKER_GPU_H

#include "kernels/cuda/driver.h"
#include "tools/kvworker/error.h"

struct gpu {
	const struct cuda_driver *cu;
	cu_device device;
	cu_context context;	/* NULL until retained */
	cu_stream stream;	/* NULL until made */
};

/**
 * gpu_open() - make the context of the pool's GPU current
 * @name:	as kvd_device() gives it
 * @ret:	NULL for "host"; else gpu_close() it
 */
int gpu_open(const char *name, struct gpu **ret, struct error *e);

/* What was allocated in the context is gone by then. NULL is fine. */
void gpu_close(struct gpu *g);

/**
 * gpu_check() - turns a driver's result into ours
 * @call:	what returned it, for the sentence in @e
 */
int gpu_check(const struct gpu *g, const char *call, cu_result result,
	      struct error *e);

/* Calls the driver: 0, or -errno with the sentence in @e. */
#define GPU_CALL(g, e, call, ...)                                              \
	gpu_check(g, #call, (g)->cu->call(__VA_ARGS__), e)

#endif
