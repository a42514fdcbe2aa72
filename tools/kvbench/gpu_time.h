/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_time.h - how long work takes on a GPU, beside a copy of its memory.
 *
 * Work is captured in a graph once and replayed, so that no launch is waited
 * for; a sample is the time between two events around as many replays as last
 * a while.
 */
#ifndef TOOLS_KVBENCH_GPU_TIME_H
#define TOOLS_KVBENCH_GPU_TIME_H

#include "tools/kvbench/gpu.h"

/* What a rotation has to go through to find none of it in a cache: more than
 * four times the largest L2 there is. */
#define GPU_ROTATION ((uint64_t)512 << 20)
/* Four times an L2 of 64 MiB: less may be found there. */
#define GPU_COLD ((uint64_t)256 << 20)

struct gpu_graph {
	cu_graph_exec exec;
	unsigned replays; /* of a sample */
};

/**
 * gpu_graph_init() - capture and warm up
 * @issue:	puts work into the GPU's stream; 0 or -errno
 *
 * Return: 0 or -errno, with a line on stderr; gpu_graph_fini() it always.
 */
int gpu_graph_init(struct gpu_graph *gr, struct gpu *g, int (*issue)(void *ctx),
                   void *ctx);
void gpu_graph_fini(struct gpu_graph *gr, struct gpu *g);

enum gpu_copy_way {
	GPU_COPY_DEVICE, /* from one half of some memory to the other */
	GPU_COPY_TO_HOST,
	GPU_COPY_FROM_HOST,
};

/* What the driver copies. */
struct gpu_copy {
	struct gpu *g;
	enum gpu_copy_way way;
	cu_ptr from, to;
	uint64_t bytes; /* copied: as many are read, and as many written */
	struct gpu_graph graph;
};

/* Takes an eighth of the memory for each half, 1 GiB at most. Return: as
 * gpu_graph_init(). */
int gpu_copy_init(struct gpu_copy *c, struct gpu *g);

/**
 * gpu_copy_host_init() - copies between the device and the host
 * @device:	what it does on the device; outlives @c
 * @way:	one that is no GPU_COPY_DEVICE
 * @host:	page-locked memory
 * @bytes:	of @host
 *
 * Return: as gpu_graph_init(); gpu_copy_fini() it always.
 */
int gpu_copy_host_init(struct gpu_copy *c, const struct gpu_copy *device,
                       enum gpu_copy_way way, cu_ptr host, uint64_t bytes);
void gpu_copy_fini(struct gpu_copy *c);

/* Medians, and the best. */
struct gpu_timing {
	double us, us_min; /* of one replay */
	double copy_gbps;  /* bytes read and bytes written; bytes that cross
	                    * the link where one side is the host's */
};

/**
 * gpu_time() - @rounds samples of @gr, each with one of copying after it
 *
 * Return: 0 or -errno, with a line on stderr.
 */
int gpu_time(struct gpu_graph *gr, struct gpu_copy *c, unsigned rounds,
             struct gpu_timing *ret);

#endif
