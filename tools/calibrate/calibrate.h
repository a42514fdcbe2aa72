/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate.h - from what a model's q, k and v look like to a profile.
 *
 * Rows are shown as they are computed, those of each layer before and after
 * RoPE; then all of the profile is made at once. The first token of a
 * sequence is a sink, which pages keep exact: it counts for fp8 alone. What
 * comes out depends on the rows and their order, not on time or threads.
 *
 * RoPE is half-split: a pair is (i, i + head_dim / 2). One thread.
 */
#ifndef TOOLS_CALIBRATE_CALIBRATE_H
#define TOOLS_CALIBRATE_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/profile.h"

/* Tokens whose k and v are kept; of a longer text every n-th is. */
#define CALIBRATE_MAX_TOKENS 16384u

struct calibration;

struct calibration_shape {
	uint32_t nr_layers;
	uint32_t nr_heads;	/* of q; a multiple of nr_kv_heads */
	uint32_t nr_kv_heads;
	uint32_t head_dim;	/* of k and of v */
};

/* Consecutive tokens of one sequence, in one layer. */
struct calibration_rows {
	uint32_t layer;
	bool rotated;		/* RoPE has been applied */
	size_t first;		/* position of the first token */
	size_t nr;
	const float *qkv;	/* [nr][q heads | k heads | v heads] */
};

/* What a person may want to know of a layer. */
struct calibration_report {
	double ratio_before;	/* of channels' largest magnitudes: the
				 * largest to the median, before RoPE */
	double ratio_after;
	double k_mse[3];	/* weighted, of normalised keys in 4, 3 and
				 * 2 bits, relative to their mean square */
	double v_mse[3];
	double k_qnorm_mse;	/* in 2 bits, after Q-Norm moved the values */
	double v_qnorm_mse;
};

/**
 * calibration_new() - room for what @nr_tokens tokens will show
 *
 * Return: 0; -EINVAL for a shape that kvd cannot hold; -ENOMEM.
 */
int calibration_new(const struct calibration_shape *shape, uint64_t nr_tokens,
		    struct calibration **ret);

/* NULL is fine. */
void calibration_free(struct calibration *c);

/**
 * calibration_add() - look at rows
 *
 * Of each layer the same rows are shown before RoPE, then after. Tokens past
 * those that were announced are looked at for fp8 alone.
 */
void calibration_add(struct calibration *c,
		     const struct calibration_rows *rows);

/**
 * calibration_finish() - all that has been seen, as a profile
 * @ret:	profile_fini() it
 * @reports:	[nr_layers]
 *
 * Return: 0; -ENODATA when no token but sinks was seen; -ERANGE when a key
 * was not finite; -ENOMEM; -EIO when an eigenvalue problem had no solution.
 */
int calibration_finish(struct calibration *c, struct profile *ret,
		       struct calibration_report *reports);

#endif
