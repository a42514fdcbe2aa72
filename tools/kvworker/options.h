/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the command line of kvworker.
 */
#ifndef KVWORKER_OPTIONS_H
#define KVWORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "tools/kvworker/kv.h"

#define USAGE_ERROR 2	/* exit status */

/* Where the model's matrices are multiplied. */
enum matrices {
	MATRICES_AUTO,		/* on the GPU where that is possible */
	MATRICES_CPU,
	MATRICES_GPU,
};

struct options {
	const char *model;	/* directory */
	const char *socket;	/* NULL: the library's default */
	const char *prompt_file; /* one of these is set */
	const char *prompt_ids;
	const char *ppl;
	bool serve;		/* the fourth: prompts come from stdin */
	const char *calibrate;	/* NULL, or the profile to write from --ppl's
				 * or --prompt-ids' text */
	const char *logits;	/* NULL: do not write them */
	uint64_t max_bytes;	/* of --ppl */
	uint32_t generate;	/* tokens */
	struct kv_opts kv;	/* but nr_threads */
	uint32_t wait_ms;	/* for what another worker is computing */
	uint32_t chunk;
	uint32_t threads;
	enum matrices matrices;
	bool json;
	bool no_match;
	bool no_publish;
	bool cold_too;
	bool hold;
	bool progress;
};

/**
 * options_parse() - read the command line
 *
 * Ends the process on --help and --version (status 0) and on a usage error
 * (one line on stderr, status USAGE_ERROR).
 */
void options_parse(struct options *o, int argc, char **argv);

#endif
