/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - a GPU to measure on: its context, our kernels, memory to use up.
 *
 * All memory is one allocation, made as kvd makes a segment on a device of
 * that name, and handed out from its start: what one measurement took, the
 * next one takes again. One thread; the context is current in it.
 */
#ifndef TOOLS_KVBENCH_GPU_H
#define TOOLS_KVBENCH_GPU_H

#include <stdbool.h>
#include <stdint.h>
#include "kernels/cuda/cuda.h"

struct gpu {
	const char *bench; /* for messages */
	const char *spec;  /* "cuda-vmm:0" */
	const struct cuda_driver *cu;
	struct kv_cuda *kernels;
	cu_device device;
	int ordinal;
	bool vmm; /* memory of cuMemCreate(), not of cuMemAlloc() */
	bool has_ctx;
	bool is_double; /* no GPU, but the double of libcuda: no time means
	                 * anything */
	cu_stream stream;
	cu_event start, end;
	char name[64]; /* "double" where it is */
	cu_ptr base;
	uint64_t bytes, used; /* of memory; used may be more: then it is lost */
};

/**
 * gpu_wanted() - does --device in these arguments name something that is not
 * the host?
 */
bool gpu_wanted(int argc, char **argv);

/**
 * gpu_open() - the GPU that @spec names, and memory of it
 * @bench:	name of the benchmark, for messages; kept
 * @spec:	"cuda-vmm:N" or "cuda-ipc:N"; kept
 * @mib:	of memory; 0: 70 % of what is free
 *
 * Return: 0; -EINVAL when @spec names no GPU, or another -errno, with one line
 * on stderr. gpu_close() it in all cases.
 */
int gpu_open(struct gpu *g, const char *bench, const char *spec, unsigned mib);
void gpu_close(struct gpu *g);

/* One line on stderr. Return: @err. */
int gpu_complain(const struct gpu *g, int err, const char *what);

/* Return: 0, or cu_errno() with one line on stderr that names @call. */
int gpu_check(const struct gpu *g, const char *call, cu_result err);

/**
 * gpu_take() - so many bytes of the memory, 4 KiB aligned
 *
 * Never fails: gpu_lacks() tells when what was taken is more than there is.
 */
cu_ptr gpu_take(struct gpu *g, uint64_t bytes);
bool gpu_lacks(const struct gpu *g);

/* What is left. */
uint64_t gpu_left(const struct gpu *g);

/* Copies and waits. Return: 0 or -errno, with a line on stderr. */
int gpu_put(struct gpu *g, cu_ptr to, const void *from, size_t bytes);
int gpu_get(struct gpu *g, void *to, cu_ptr from, size_t bytes);

/* The first @of bytes at @p again and again, up to @bytes. Return: as above. */
int gpu_repeat(struct gpu *g, cu_ptr p, uint64_t of, uint64_t bytes);

/* Random bytes, some 64 KiB again and again. Return: as above. */
int gpu_fill(struct gpu *g, cu_ptr p, uint64_t bytes);

/* A call of the driver's, checked. */
#define GPU_CALL(g, call, ...) gpu_check(g, #call, (g)->cu->call(__VA_ARGS__))

#endif
