/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - one worker: a model, its cache, and what it was asked to do.
 */
#ifndef KVWORKER_WORKER_H
#define KVWORKER_WORKER_H

#include "tools/kvworker/config.h"
#include "tools/kvworker/error.h"
#include "tools/kvworker/kv.h"
#include "tools/kvworker/model.h"
#include "tools/kvworker/options.h"
#include "tools/kvworker/weights.h"

struct worker {
	struct options options;
	struct config config;
	struct weights weights;
	struct kv kv;
	struct model *model;
};

/**
 * generate_run() - prompt mode: prefill, then greedy decode; prints
 */
int generate_run(struct worker *w, struct error *e);

/* The same with the tokens of a prompt that is here. */
int generate_tokens(struct worker *w, const uint32_t *prompt, size_t nr,
		    struct error *e);

/**
 * serve_run() - prompts from standard input, a line each, until it ends
 *
 * Where one cannot be served its answer says why, and the next may come.
 */
int serve_run(struct worker *w, struct error *e);

/**
 * ppl_run() - loss of a text in independent windows; prints
 */
int ppl_run(struct worker *w, struct error *e);

/**
 * calibrate_run() - run a text through the model, write a profile; prints
 */
int calibrate_run(struct worker *w, struct error *e);

/* Bytes of K and V of one token, in this space. */
int worker_bytes_per_token(struct worker *w, uint64_t *ret, struct error *e);

/* Where the matrices are multiplied: "cpu" or "gpu". */
const char *worker_matrices(const struct worker *w);

/* Keeps what is held until standard input ends, if --hold was given. */
void worker_hold(const struct worker *w);

/* Milliseconds of a clock that only runs forward. */
double worker_now_ms(void);

#endif
