/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_model.h - what an ideal LRU of the same size would hit.
 *
 * The same requests, in the order they were taken, over as many pages as the
 * pool holds; but nothing is ever held, nothing waits in a stock, and of what
 * was used together the later page goes first. How far a replay stays below
 * is what pins, stocks and races cost it; how far above, what its policy is
 * better by.
 */
#ifndef TOOLS_KVBENCH_TRACE_MODEL_H
#define TOOLS_KVBENCH_TRACE_MODEL_H

#include <stdint.h>
#include "tools/kvbench/trace_file.h"

struct model_page;

struct trace_model {
	struct model_page *pages; /* [nr_pages + 1]; 0 ends the list */
	uint32_t *buckets;        /* [nr_buckets] first page, 0: none */
	uint32_t *used;           /* by the request, in order */
	uint32_t nr_buckets;      /* a power of two */
	uint32_t nr_pages;
	uint32_t nr_taken; /* pages that were ever used */
	uint32_t page_tokens;
	uint64_t hit_tokens;
};

/**
 * trace_model_init() - an empty one
 * @page_tokens:	divides TRACE_BLOCK
 * @longest:		tokens of a request
 *
 * Return: 0 or -ENOMEM; trace_model_fini() it in both cases.
 */
int trace_model_init(struct trace_model *m, uint32_t nr_pages,
                     uint32_t page_tokens, uint32_t longest);
void trace_model_fini(struct trace_model *m);

/* The next request; its output is stored, too. */
void trace_model_request(struct trace_model *m, const struct trace_request *r);

#endif
