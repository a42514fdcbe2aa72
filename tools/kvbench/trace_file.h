/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_file.h - the requests of a trace, one at a time.
 *
 * A line is a JSON object as Mooncake publishes them:
 *
 *	{"timestamp": 0, "input_length": 700, "output_length": 20,
 *	 "hash_ids": [3, 9]}
 *
 * An id stands for TRACE_BLOCK tokens and for all that is before them; the
 * last one of a request may stand for fewer. Memory is what one line needs.
 */
#ifndef TOOLS_KVBENCH_TRACE_FILE_H
#define TOOLS_KVBENCH_TRACE_FILE_H

#include <stdint.h>
#include <stdio.h>

#define TRACE_BLOCK      512u
#define TRACE_MAX_TOKENS (1u << 24) /* of a request, input or output */
#define TRACE_MAX_LINE   (1u << 20) /* bytes */

struct trace_request {
	uint32_t nr; /* counted from 0 */
	uint32_t input;
	uint32_t output;
	uint32_t nr_ids;
	uint64_t *ids; /* [nr_ids] */
	uint32_t room; /* of ids */
};

struct trace_file {
	const char *path;
	FILE *file;
	char *buffer;   /* [TRACE_MAX_LINE] */
	uint32_t line;  /* the last that was read, counted from 1 */
	uint32_t limit; /* requests; 0: all */
};

struct trace_total {
	uint32_t requests;
	uint32_t longest; /* tokens, input and output */
	uint64_t input;
	uint64_t output;
};

/**
 * trace_open() - start at the first line
 * @limit:	the first so many requests only; 0: all
 *
 * Return: 0, or -errno with a line on stderr; trace_close() it in both cases.
 */
int trace_open(struct trace_file *f, const char *path, uint32_t limit);
void trace_close(struct trace_file *f);

/**
 * trace_next() - the next request
 * @r:		ids is allocated as needed, free() it at the end
 *
 * Return: 1; 0 at the end; -EINVAL or -errno with a line on stderr that names
 * file and line.
 */
int trace_next(struct trace_file *f, struct trace_request *r);

/* Reads all of it. Return: 0, or as trace_next(); -EINVAL where it is empty. */
int trace_count(const char *path, uint32_t limit, struct trace_total *ret);

#endif
