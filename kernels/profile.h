/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - a calibration profile as data, and as the bytes of its file.
 *
 * What a model's keys and values look like, for the formats that must know:
 * a table of parts, each an array of floats whose length follows from the
 * model's shape. A part that was not calibrated is absent (NULL).
 *
 * The file is little-endian:
 *
 *	0	8 bytes	magic "kvdprof\n"
 *	8	u32	version
 *	12	u32	0
 *	16	u64	digest: XXH3-64 of all that follows, seeded with the
 *			version; 0 is written as 1
 *	24	u32 x 6	layers, kv heads, k_dim, v_dim, parts in the file, 0
 *	48	parts x { u32 part, u32 0, u64 bytes }, ascending
 *		the parts' f32, in the same order, to the end of the file
 *
 * Pure, no I/O; any thread. Decoding takes any bytes.
 */
#ifndef KERNELS_PROFILE_H
#define KERNELS_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/tables.h"

#define PROFILE_VERSION	   1u
#define PROFILE_MAX_LAYERS 4096u
#define PROFILE_MIN_BITS   2u /* codebooks of kvquant: 2, 3 and 4 bits */
#define PROFILE_MAX_BITS   4u
#define PROFILE_FP8_E4M3   448.0f   /* largest finite values */
#define PROFILE_FP8_E5M2   57344.0f

/* Codebooks: see kv_tables. Numbers are those of the file. */
enum profile_book {
	PROFILE_K_LUT,
	PROFILE_K_OUT,
	PROFILE_V_LUT,
	PROFILE_V_OUT,
	PROFILE_NR_BOOKS
};

enum profile_part {
	PROFILE_K_AMAX,	    /* [layer][head], largest magnitude */
	PROFILE_V_AMAX,
	PROFILE_K_ZERO,	    /* [layer][head][k_dim], exact in f16, */
	PROFILE_K_RANGE,    /* of keys before RoPE; above 0 */
	PROFILE_BOOKS,	    /* [layer][TABLES_CODES], profile_book() says
			     * which of the twelve */
	PROFILE_K_ROTATION = PROFILE_BOOKS + 3 * PROFILE_NR_BOOKS,
	PROFILE_V_ROTATION, /* [layer][dim][dim], orthonormal */
	PROFILE_NR_PARTS
};

/* The model's: all its layers, all its kv heads. */
struct profile_shape {
	uint32_t nr_layers;
	uint32_t nr_heads;
	uint32_t k_dim;
	uint32_t v_dim; /* 0: K serves as V, and V's parts are empty */
};

struct profile {
	struct profile_shape shape;
	uint64_t digest; /* of the bytes it came from, or last became */
	float *parts[PROFILE_NR_PARTS]; /* NULL: absent */
};

#define PROFILE_NULL                                                           \
	{                                                                      \
		.digest = 0                                                    \
	}

/* The part of a codebook; @bits from PROFILE_MIN_BITS to PROFILE_MAX_BITS. */
static inline enum profile_part profile_book(enum profile_book book,
					     uint32_t bits)
{
	return (enum profile_part)(PROFILE_BOOKS +
				   (PROFILE_MAX_BITS - bits) *
					   PROFILE_NR_BOOKS +
				   book);
}

/* Is it of a model that kvd can hold? */
bool profile_shape_ok(const struct profile_shape *s);

/* Floats of a part in a model of this shape. */
uint64_t profile_part_floats(const struct profile_shape *s,
			     enum profile_part part);

/**
 * profile_init() - a profile with every part, as zeros
 *
 * Return: 0; -EINVAL for a shape that kvd cannot hold; -ENOMEM.
 */
int profile_init(struct profile *p, const struct profile_shape *shape);

/* PROFILE_NULL is fine. */
void profile_fini(struct profile *p);

/* Bytes that profile_encode() writes. */
size_t profile_bytes(const struct profile *p);

/**
 * profile_encode() - a profile as its file
 * @out:	[profile_bytes()]
 *
 * Sets p->digest.
 */
void profile_encode(struct profile *p, uint8_t *out);

/**
 * profile_decode() - read and check a file's bytes
 * @ret:	profile_fini() it; untouched on failure
 * @ret_why:	what is wrong, a static text; set with -EINVAL and -EPROTO
 *
 * Return: 0; -EINVAL: not a profile, cut short, changed since it was made, or
 * with values that make no sense; -EPROTO: of another version; -ENOMEM.
 */
int profile_decode(const uint8_t *bytes, size_t nr, struct profile *ret,
		   const char **ret_why);

#endif
