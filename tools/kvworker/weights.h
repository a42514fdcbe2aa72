/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights.h - the matrices of a Llama model, in f32.
 */
#ifndef KVWORKER_WEIGHTS_H
#define KVWORKER_WEIGHTS_H

#include <stdint.h>
#include "tools/kvworker/config.h"
#include "tools/kvworker/error.h"

#define DIGEST_BYTES 32

/* Matrices are [out][in], as a tensor file has them. */
struct layer_weights {
	float *attn_norm;	/* [hidden] */
	float *qkv;		/* [q | k | v rows][hidden] */
	float *out;		/* [hidden][heads * head_dim] */
	float *mlp_norm;	/* [hidden] */
	float *gate_up;		/* [gate | up rows][hidden] */
	float *down;		/* [hidden][intermediate] */
};

struct weights {
	uint32_t nr_layers;
	struct layer_weights *layers;
	float *embed;		/* [vocab][hidden] */
	float *norm;		/* [hidden] */
	float *head;		/* [vocab][hidden]; the embedding if tied */
	uint8_t digest[DIGEST_BYTES]; /* of all that decides K and V */
};

/**
 * weights_load() - read the weights of a model directory
 * @w:		filled on success; weights_free() it
 * @c:		its config.json; every shape must agree with it
 *
 * Return: 0 or -errno, with @e naming file and tensor.
 */
int weights_load(struct weights *w, const char *dir, const struct config *c,
		 struct error *e);

/* A zeroed struct is fine. */
void weights_free(struct weights *w);

#endif
