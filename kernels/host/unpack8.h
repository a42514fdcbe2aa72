/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack8.h - rows of codes, packed anew or made values, 8 lanes at a time.
 */
#ifndef KERNELS_HOST_UNPACK8_H
#define KERNELS_HOST_UNPACK8_H

#include "kernels/host/strip.h"
#include "kernels/host/form8.h"

/* How the codes of one token become values. */
struct unpack8 {
	enum form form;
	uint32_t dim;
	const float *lut;   /* [16], of FORM_L */
	const float *scale; /* [dim] */
	const float *zero;
	float a, b; /* of the token: ((code * scale + zero) * a) + b */
	uint32_t pairs;	     /* elements i and pairs + i turn by angles: */
	const float *angles; /* cosines, then sines; pairs % 8 is 0 */
};

/*
 * A row of @dim codes of 4, 3 or 2 bits, as pack.h has it, in words of 32
 * bits to its end; 3 bits in fields of 4.
 */
void unpack8_words(uint32_t bits, const char *row, uint32_t dim, char *words);

/* Values of one token from its codes, packed ones in words of 32 bits. */
void unpack8_values(const struct unpack8 *u, const char *codes, float *out);

#endif
