/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overhead.h - the two that kvbench overhead compares.
 *
 * One is what a worker does with libkvd and a daemon. The other calls the same
 * kernels on an arena of its own, with a block table and a list of free pages,
 * and shares with nobody. Both are given the same rows, and so must give the
 * same output.
 */
#ifndef TOOLS_KVBENCH_OVERHEAD_H
#define TOOLS_KVBENCH_OVERHEAD_H

#include <stdbool.h>
#include <stdint.h>
#include "kernels/page.h"
#include "kvd/geometry.h"

struct overhead_shape {
	struct kvd_geometry geometry; /* of one group, appended in place */
	struct page_layout layout;
	unsigned heads;
	unsigned batch;      /* sequences */
	unsigned max_tokens; /* of each */
	unsigned threads;
	bool memfd;          /* of such the own arena is, as the daemon's */
	uint64_t pool_bytes;
};

/* Rows of tokens: f32, the same in every layer. */
struct overhead_rows {
	const float *q, *k, *v; /* [row][heads or kv heads][dim] */
	float *out;             /* [row][heads][dim] */
};

struct overhead_side {
	const char *name;

	/* Return: 0 or -errno, with the reason on stderr. */
	int (*init)(const struct overhead_shape *s, void **ret);
	void (*fini)(void *side); /* NULL is fine */

	/* Sequences that nobody has a prefix of: tokens is [batch][@nr]. */
	int (*begin)(void *side, const uint32_t *tokens, uint32_t nr);

	/* @nr tokens of sequence @seq become part of it, in all layers. */
	int (*prefill)(void *side, unsigned seq, const uint32_t *tokens,
	               uint32_t nr, const struct overhead_rows *r);

	/* One token of each sequence: a row each, in all layers. */
	int (*step)(void *side, const uint32_t *tokens,
	            const struct overhead_rows *r);

	/* Processor time that has been used for this side and others, ns. */
	uint64_t (*cpu_ns)(void *side);
	void (*end)(void *side);
};

extern const struct overhead_side overhead_kvd; /* overhead_kvd.c */
extern const struct overhead_side overhead_own; /* overhead_own.c */

#endif
