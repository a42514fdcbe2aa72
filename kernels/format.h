/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - what kind of thing each format is, for C and for CUDA.
 *
 * A format codes a row (the K or V of one token of one head) in format_bits()
 * per element, and has metadata by its coding. Its basis says what is done to
 * a row before it is coded: pages that are open or exact hold rows of the
 * same basis, so that one transform of the query serves a whole sequence.
 */
#ifndef KERNELS_FORMAT_H
#define KERNELS_FORMAT_H

#include <stdint.h>
#include "kvd/geometry.h"

#ifdef __CUDACC__
#define KV_INLINE static __host__ __device__ __forceinline__
#else
#define KV_INLINE static inline
#endif

enum coding {
	CODING_16,	/* f16, bf16: no metadata */
	CODING_FP8,	/* one f32 scale */
	CODING_TOKEN,	/* affine per token: int8, int4, int4h, oscar2 */
	CODING_KIVI,	/* K affine per channel, V affine per token and group */
	CODING_KVQUANT,	/* codebook of the profile, sparse outliers */
	CODING_KVARN,	/* affine per row of the tile, factor per column */
};

enum basis {
	BASIS_PLAIN = 0,
	BASIS_HADAMARD,	/* orthonormal, in blocks of hadamard_order() */
	BASIS_PROFILE,	/* the profile's rotation */
};

KV_INLINE uint32_t format_bits(uint32_t format)
{
	switch (format) {
	case KVD_INT8:
	case KVD_FP8_E4M3:
	case KVD_FP8_E5M2:
		return 8;
	case KVD_INT4:
	case KVD_INT4H:
	case KVD_KIVI4:
	case KVD_KVQUANT4:
	case KVD_KVARN4:
		return 4;
	case KVD_KVQUANT3:
	case KVD_KVARN3:
		return 3;
	case KVD_KIVI2:
	case KVD_KVQUANT2:
	case KVD_KVARN2:
	case KVD_OSCAR2:
		return 2;
	default:
		return 16;
	}
}

KV_INLINE enum coding format_coding(uint32_t format)
{
	switch (format) {
	case KVD_F16:
	case KVD_BF16:
		return CODING_16;
	case KVD_FP8_E4M3:
	case KVD_FP8_E5M2:
		return CODING_FP8;
	case KVD_KIVI4:
	case KVD_KIVI2:
		return CODING_KIVI;
	case KVD_KVQUANT4:
	case KVD_KVQUANT3:
	case KVD_KVQUANT2:
		return CODING_KVQUANT;
	case KVD_KVARN4:
	case KVD_KVARN3:
	case KVD_KVARN2:
		return CODING_KVARN;
	default:
		return CODING_TOKEN;
	}
}

KV_INLINE enum basis format_basis(uint32_t format)
{
	if (format == KVD_INT4H || format_coding(format) == CODING_KVARN)
		return BASIS_HADAMARD;
	return format == KVD_OSCAR2 ? BASIS_PROFILE : BASIS_PLAIN;
}

/* A page is filled in 16 bits first. */
KV_INLINE int format_whole(uint32_t format)
{
	enum coding c = format_coding(format);

	return c == CODING_KIVI || c == CODING_KVQUANT || c == CODING_KVARN ||
	       format == KVD_OSCAR2;
}

/* Pages cannot be made, nor read, without the profile. */
KV_INLINE int format_needs_profile(uint32_t format)
{
	return format_coding(format) == CODING_KVQUANT || format == KVD_OSCAR2;
}

/* The largest power of two that divides @dim. */
KV_INLINE uint32_t hadamard_order(uint32_t dim)
{
	return dim & -dim;
}

#endif
