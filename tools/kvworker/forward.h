/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward.h - the forward pass of a Llama model on the pool's GPU.
 */
#ifndef KVWORKER_FORWARD_H
#define KVWORKER_FORWARD_H

#include "tools/kvworker/model.h"
#include "tools/kvworker/rows.h"

struct forward;

/**
 * forward_new() - weights and activations on the GPU
 * @chunk:	most tokens of a call
 *
 * Return: 0, or -errno with @e saying what is missing: a GPU, libcublas,
 * kernels for this GPU, memory.
 */
int forward_new(const struct config *c, const struct weights *w,
		struct kv *kv, uint32_t chunk, struct forward **ret,
		struct error *e);

/* NULL is fine. */
void forward_free(struct forward *f);

/* One call of model_run(). */
struct forward_call {
	struct kvd_seq *seq;
	const uint32_t *tokens;	/* [rows->nr] */
	const struct rows *rows;
	uint32_t nr_logits;
	const struct model_tap *tap;
};

/**
 * forward_run() - model_run() on the GPU
 * @ret:	[nr_logits][vocab], on the host; valid until the next call
 *
 * Waits for the GPU where there are logits to give or a tap to show rows to.
 */
int forward_run(struct forward *f, const struct forward_call *call,
		const float **ret, struct error *e);

#endif
