/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_hot.h - the beginnings of prompts that a trace asks for most, to be
 * pinned.
 *
 * An id stands for its block and all before it, so those that most requests
 * have are a tree from its root: of a request the first so many. They are
 * chosen from the trace that is then replayed, as by somebody who knows what
 * will be asked: no choice made before the fact is better. Clients share one;
 * which are pinned is read and set by any of them.
 */
#ifndef TOOLS_KVBENCH_TRACE_HOT_H
#define TOOLS_KVBENCH_TRACE_HOT_H

#include <stdatomic.h>
#include <stdint.h>
#include "tools/kvbench/trace_file.h"

enum trace_hot_state {
	TRACE_HOT_NOT_YET,
	TRACE_HOT_PINNED,
	TRACE_HOT_REFUSED
};

struct trace_hot {
	uint64_t *ids;	   /* [nr] ascending */
	atomic_uchar *are; /* [nr] enum trace_hot_state */
	uint32_t nr;
};

/**
 * trace_hot_find() - the @nr ids that most requests have, whole blocks only
 * @limit:	of the first so many requests; 0: all
 *
 * Fewer where there are fewer; 0: none, and the trace is not read. Return: 0,
 * -ENOMEM, or as trace_next(); trace_hot_fini() it in all cases.
 */
int trace_hot_find(struct trace_hot *h, const char *path, uint32_t limit,
                   uint32_t nr);
void trace_hot_fini(struct trace_hot *h);

/* Blocks that @r begins with and that are hot. */
uint32_t trace_hot_blocks(const struct trace_hot *h,
                          const struct trace_request *r);

/* Of these, those that are pinned. */
uint32_t trace_hot_pinned(const struct trace_hot *h,
                          const struct trace_request *r);

/* What became of its last hot block, of @blocks. */
enum trace_hot_state trace_hot_get(const struct trace_hot *h,
                                   const struct trace_request *r,
                                   uint32_t blocks);

/* The first @blocks of @r are pinned; or were refused, the last of them. */
void trace_hot_set(struct trace_hot *h, const struct trace_request *r,
                   uint32_t blocks, enum trace_hot_state to);

#endif
