/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_args.h - what kvctl plan is asked.
 */
#ifndef TOOLS_KVCTL_PLAN_ARGS_H
#define TOOLS_KVCTL_PLAN_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include "tools/kvctl/plan_cache.h"

#define PLAN_MAX_FORMATS 32

struct plan_args {
	const char *path;
	uint64_t memory;	  /* of one GPU, bytes */
	uint64_t reserve;	  /* of that, bytes */
	const char *weights;	  /* NULL: as config.json says */
	uint32_t context;	  /* tokens; 0: chosen from the model */
	uint32_t concurrency;
	struct plan_pages pages;
	const char *formats[PLAN_MAX_FORMATS + 1]; /* NULL ends them */
	bool json;
	bool help;
};

/**
 * plan_args_parse() - options of kvctl plan
 * @argv:	the words after "plan"
 *
 * Return: 0, or -EINVAL after a line on stderr.
 */
int plan_args_parse(struct plan_args *a, int argc, char **argv);

/* What --help prints. */
extern const char plan_help[];

#endif
