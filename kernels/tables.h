/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h - what the pages of one group of layers do not say themselves.
 *
 * A calibration profile's part for the group, and angles of RoPE. Made by
 * whoever calls kernels (libkvd, tests), read by them; heads are those this
 * rank holds. NULL members are not needed by the formats in use.
 */
#ifndef KERNELS_TABLES_H
#define KERNELS_TABLES_H

#include <stdint.h>

#define TABLES_CODES 16u /* entries of a codebook; those past 2^bits unused */

struct kv_tables {
	uint32_t nr_heads; /* of the arrays below: kv heads of this rank */

	/* fp8: what appended elements are divided by. NULL: 1. */
	const float *k_scale;	/* [layer][head] */
	const float *v_scale;

	/* BASIS_PROFILE: row y[j] = sum_i x[i] rotation[i][j]; orthonormal. */
	const float *k_rotation; /* [layer][k_dim][k_dim] */
	const float *v_rotation;

	/*
	 * kvquant. The code of a normalised x is that of the nearest entry of
	 * lut; it stands for the entry of out (the same, unless 2-bit Q-Norm
	 * moved it). Both ascend. K is normalised per channel,
	 * n = (x - zero) / range, the two exact in f16; |n| > 1 is an outlier.
	 * V is normalised per token, by what its page says.
	 */
	const float *k_lut;	/* [layer][TABLES_CODES] */
	const float *k_out;
	const float *v_lut;
	const float *v_out;
	const float *k_zero;	/* [layer][head][k_dim] */
	const float *k_range;

	/*
	 * KVD_ROPE_PRE. Pair i of a key at position p turns by the sum of two
	 * angles, that of its page and that of its token. Of each the table
	 * has cosines, then sines. Pairs are (i, i + rope_pairs) or, when
	 * interleaved, (2 i, 2 i + 1); elements past 2 * rope_pairs stay.
	 */
	const float *rope_page;	 /* [p / page_tokens][2][rope_pairs] */
	const float *rope_token; /* [p % page_tokens][2][rope_pairs] */
	uint32_t rope_pages;	 /* of rope_page: who copies it needs to know */
	uint32_t rope_pairs;
	uint32_t rope_interleaved;
};

#endif
