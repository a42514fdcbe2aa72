/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codebook.h - codebooks of kvquant from normalised elements.
 */
#ifndef TOOLS_CALIBRATE_CODEBOOK_H
#define TOOLS_CALIBRATE_CODEBOOK_H

#include <stddef.h>
#include <stdint.h>
#include "kernels/tables.h"

/* Inliers, each with what an error of it costs. */
struct samples {
	size_t nr;
	float *x;		/* [nr], -1 to 1 */
	float *w;		/* [nr] */
};

struct codebook {
	float lut[TABLES_CODES];	/* ascending */
	float out[TABLES_CODES];	/* what codes stand for */
	double mse;		/* weighted, with lut as values, relative */
	double out_mse;		/* with out */
};

/**
 * codebook_make() - the best codebooks in 4, 3 and 2 bits
 * @books:	[3], that of 4 bits first
 *
 * lut is optimal for the samples in bins of 2^-14. In 2 bits out is lut moved
 * and stretched so that mean and deviation of what is read are those of what
 * was stored (Q-Norm, arXiv 2401.18079); else it is lut.
 *
 * Return: 0 or -ENOMEM. Without weight, a codebook is uniform.
 */
int codebook_make(const struct samples *s, struct codebook *books);

#endif
