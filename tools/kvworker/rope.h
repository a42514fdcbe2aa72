/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rope.h - rotary position embedding.
 */
#ifndef KVWORKER_ROPE_H
#define KVWORKER_ROPE_H

#include <stdint.h>
#include "tools/kvworker/config.h"

/**
 * rope_frequencies() - radians per position of each pair
 * @freq:	[head_dim / 2]
 *
 * theta^(-2i/d), stretched as the Llama 3.1 report describes if the config
 * says so: low frequencies by factor, high ones not, those between smoothly.
 */
void rope_frequencies(const struct config *c, double *freq);

/**
 * rope_angles() - cosine and sine of each pair at one position
 * @cos_sin:	[head_dim / 2] cosines, then as many sines
 */
void rope_angles(const double *freq, uint32_t nr_pairs, uint64_t pos,
		 float *cos_sin);

/**
 * rope_apply() - rotate heads in place
 * @x:		[nr_heads][2 * nr_pairs]; pair i is elements i, i + nr_pairs
 */
void rope_apply(float *x, uint32_t nr_heads, uint32_t nr_pairs,
		const float *cos_sin);

#endif
