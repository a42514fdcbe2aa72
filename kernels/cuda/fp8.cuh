/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fp8.cuh - two 8-bit floats to two f16 by bit operations.
 *
 * For machines that have no instruction for it, with the same bits as those
 * that do: NaN becomes 0x7fff, whatever its sign. Part of <mma.cuh>, which has
 * permute() and f16x2_mul() on either side.
 */
#ifndef KERNELS_CUDA_FP8_CUH
#define KERNELS_CUDA_FP8_CUH

/* Each of two bytes at the top of a half. */
DEVICE uint32_t fp8x2_spread(uint32_t two)
{
	return permute(two, 0, 0x1404);
}

/* @x, but 0x7fff where @high has bit 15 set. */
DEVICE uint32_t f16x2_with_nan(uint32_t x, uint32_t high)
{
	const uint32_t nan = high & 0x80008000u;

	return (x | (nan - (nan >> 15))) & ~nan;
}

/*
 * An E4M3FN's bits one place lower are an f16's, whose exponent counts from 8
 * more: subnormals are right too. 0x7f alone, plus 1, carries to the top.
 */
DEVICE uint32_t f16x2_from_e4m3_bits(uint32_t two)
{
	const uint32_t w = fp8x2_spread(two);
	const uint32_t rest = w & 0x7f007f00u;
	const uint32_t x = (w & 0x80008000u) | rest >> 1;

	return f16x2_with_nan(f16x2_mul(x, 0x5c005c00u), rest + 0x01000100u);
}

/* An E5M2 is the upper half of an f16; from 0x7d on, NaN. */
DEVICE uint32_t f16x2_from_e5m2_bits(uint32_t two)
{
	const uint32_t w = fp8x2_spread(two);

	return f16x2_with_nan(w, (w & 0x7f007f00u) + 0x03000300u);
}

#endif
