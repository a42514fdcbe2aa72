/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collect.h - what has been seen of each layer.
 */
#ifndef TOOLS_CALIBRATE_COLLECT_H
#define TOOLS_CALIBRATE_COLLECT_H

#include "tools/calibrate/calibrate.h"

struct layer_stats {
	uint64_t seen;		/* tokens */
	uint64_t seen_before;	/* of these, before RoPE */
	size_t kept;		/* tokens that are kept, no sink among them */
	size_t kept_before;
	uint64_t queries;	/* rows in each head's gram */
	uint16_t *k_before;	/* [kept][kv heads][dim], f16 as in pages */
	uint16_t *k_after;
	uint16_t *v;
	double *gram;		/* [kv heads][dim][dim]: sum of q^T q over the
				 * queries that read the head; upper half */
	float *k_amax;		/* [kv heads], before and after RoPE, so that
				 * one scale serves either */
	float *v_amax;
};

struct calibration {
	struct calibration_shape shape;
	uint64_t stride;	/* of the tokens that are kept */
	size_t room;		/* for kept tokens */
	struct layer_stats *layers;
};

/* Floats of a token's k, and of its v. */
static inline size_t kv_width(const struct calibration *c)
{
	return (size_t)c->shape.nr_kv_heads * c->shape.head_dim;
}

#endif
