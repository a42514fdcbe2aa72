/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_step.h - one step of attention on a GPU, captured in a graph.
 *
 * A call is one query token of each sequence over one layer. The graph is the
 * calls of so many layers, each with pages and a block table of its own, that
 * no cache holds them.
 */
#ifndef TOOLS_KVBENCH_GPU_STEP_H
#define TOOLS_KVBENCH_GPU_STEP_H

#include "tools/kvbench/formats.h"
#include "tools/kvbench/gpu_pool.h"
#include "tools/kvbench/gpu_time.h"

struct gpu_step {
	struct gpu *g;
	struct format_pair format;
	unsigned heads, kv_heads, dim, page_tokens;
	unsigned batch, ctx;
	unsigned shared; /* tokens that all sequences have in common */

	/* The rest is gpu_step.c's. */
	struct pages pages; /* layouts and tables */
	struct gpu_pool pool;
	struct gpu_tables tables;
	unsigned seq_pages, common; /* the first ones are all sequences' */
	unsigned per_layer;         /* different pages */
	unsigned nr_layers;
	struct kv_attend_args a;
	struct kv_cuda_scratch scratch;
	cu_ptr bases, seqs, refs, q, out;
	struct gpu_graph graph;
};

/**
 * gpu_step_init() - take what the step needs of the GPU's memory
 * @s:		what comes first in it is set, pages are PAGES_NULL
 *
 * Return: 0; -ENOSPC when that is more than is left, with nothing said; or
 * another -errno, with a line on stderr. gpu_step_fini() it in all cases.
 */
int gpu_step_init(struct gpu_step *s);
void gpu_step_fini(struct gpu_step *s);

/**
 * gpu_step_time() - fill memory, check that results are numbers, and measure
 * @ret:	of one call
 *
 * Return: 0 or -errno, with a line on stderr.
 */
int gpu_step_time(struct gpu_step *s, struct gpu_copy *copy, unsigned rounds,
                  struct gpu_timing *ret);

/* Bytes that one call has to read: all records of its tokens, and a table. */
uint64_t gpu_step_bytes(const struct gpu_step *s);

/* Are the layers together more than a cache holds? */
bool gpu_step_cold(const struct gpu_step *s);

#endif
