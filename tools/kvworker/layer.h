/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.h - what the launcher and the kernels of the forward pass agree on.
 *
 * Blocks are (row, part of the row); a thread has one element in
 * LAYER_THREADS. Pointers are the device's, and to the first of the rows that
 * are launched; arrays are [rows][width] in f32, as in model.c.
 */
#ifndef KVWORKER_LAYER_H
#define KVWORKER_LAYER_H

#include <stdint.h>

#define LAYER_THREADS 128u
#define LAYER_PART (4u * LAYER_THREADS)	/* elements of a block */

/* worker_embed(): embeddings of tokens, and zeros in other rows. */
struct embed_params {
	const float *table;	/* [vocab][width] */
	const uint32_t *tokens;	/* [nr] */
	float *x;
	uint32_t width;
	uint32_t first;		/* row of the first token */
	uint32_t nr;
};

/* worker_normalize(): RMSNorm; a block has a row. */
struct normalize_params {
	const float *x;
	const float *weight;	/* [width] */
	float *out;
	double eps;
	uint32_t width;
};

/* worker_rotate(): RoPE, in place. */
struct rotate_params {
	float *x;		/* heads of 2 * nr_pairs */
	const float *cos_sin;	/* [rows][2 * nr_pairs] */
	uint32_t stride;	/* of x */
	uint32_t nr_heads;
	uint32_t nr_pairs;
};

/* worker_activate(): SwiGLU. */
struct activate_params {
	const float *gate_up;	/* [rows][gate | up] */
	float *out;
	uint32_t width;		/* of gate, up and out */
};

#endif
