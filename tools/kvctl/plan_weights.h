/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_weights.h - parameters of a model, and bytes of them.
 */
#ifndef TOOLS_KVCTL_PLAN_WEIGHTS_H
#define TOOLS_KVCTL_PLAN_WEIGHTS_H

#include <stdint.h>
#include "tools/kvctl/plan_model.h"

/*
 * Parameters, by what a quantizer does with them. Linear layers are
 * quantized; embedding, head, router, norms and biases stay in 16 bits.
 */
struct plan_params {
	uint64_t linear;      /* of attention, MLP and shared experts */
	uint64_t linear_rows; /* outputs of those */
	uint64_t expert;
	uint64_t expert_rows;
	uint64_t embedding;
	uint64_t head; /* 0 when it is the embedding */
	uint64_t small;
	uint64_t total;
};

/* How many bits a linear layer's weights take. */
struct plan_precision {
	const char *name;
	uint32_t bits;
	uint32_t group;	     /* weights that share metadata, 0: a row does */
	uint32_t meta_bits;  /* of a group or row */
	bool experts_only;   /* the other linear layers stay in 16 bits */
};

/**
 * plan_params_count() - parameters from the shape
 *
 * Sums of inputs times outputs: q, k, v, o; two or three matrices of the MLP
 * or of each expert, and its router; embedding and head.
 */
void plan_params_count(struct plan_params *p, const struct plan_model *m);

/**
 * plan_precision_find() - by name, or -EINVAL
 */
int plan_precision_find(struct plan_precision *p, const char *name);

/**
 * plan_weights_bytes() - bytes of the weights on each of @tp GPUs
 *
 * Matrices are split evenly; what is small is on every one.
 */
uint64_t plan_weights_bytes(const struct plan_params *p,
			    const struct plan_precision *precision,
			    uint32_t tp);

#endif
