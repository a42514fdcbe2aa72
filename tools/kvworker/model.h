/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.h - the forward pass of a Llama model over pages of kvd.
 */
#ifndef KVWORKER_MODEL_H
#define KVWORKER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tools/kvworker/config.h"
#include "tools/kvworker/error.h"
#include "tools/kvworker/kv.h"
#include "tools/kvworker/weights.h"

struct model;

/**
 * model_new() - a forward pass with room for @chunk tokens a call
 * @c, @w, @kv:	must outlive the model; @kv has an open space
 */
int model_new(const struct config *c, const struct weights *w, struct kv *kv,
	      uint32_t chunk, struct model **ret, struct error *e);

/* NULL is fine. */
void model_free(struct model *m);

/**
 * model_to_gpu() - from now on the whole pass is the GPU's that has the pool
 *
 * Return: 0, or -errno with the reason in @e: then it stays on the CPU.
 */
int model_to_gpu(struct model *m, struct error *e);

bool model_on_gpu(const struct model *m);

/* q, k and v of consecutive tokens of one sequence, in one layer. */
struct model_rows {
	uint32_t layer;
	bool rotated;		/* RoPE has been applied to q and k */
	size_t first;		/* position of the first token */
	size_t nr;
	float *qkv;		/* [nr][q | k | v]; what is changed here is
				 * what is stored */
};

/* Is shown the rows of each layer twice: before RoPE, and after. */
struct model_tap {
	void (*see)(void *arg, const struct model_rows *rows);
	void *arg;
};

/**
 * model_set_tap() - who looks at rows from now on; .see may be NULL
 */
void model_set_tap(struct model *m, const struct model_tap *tap);

/**
 * model_run() - compute and commit the next tokens of a sequence
 * @tokens:	at most @chunk of them, each below the vocabulary
 * @nr_logits:	how many of them, from the last back, need logits
 * @ret:	[nr_logits][vocab], valid until the next call; may be NULL
 *
 * Prefill with many, decode with one. A token's logits are the same bit for
 * bit either way, whatever the chunks a prompt is cut into, and whichever
 * process computed the pages before it (with matrices on the same device).
 */
int model_run(struct model *m, struct kvd_seq *seq, const uint32_t *tokens,
	      uint32_t nr, uint32_t nr_logits, const float **ret,
	      struct error *e);

#endif
