/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_codes.cuh - codes of a brick (tile.h), as fragments A of a product.
 *
 * One tag a width of codes. TILES 16 x 16 tiles of a brick lie along k (half of
 * them for V on pages of 32 tokens), HIGH along m. brick_load() gets a lane's
 * words of one brick, brick_tile() the four registers of tile (j, i) of them.
 *
 * Codes below 10 bits are f16 subnormals as they are, wherever in the mantissa
 * they stand, so that a mask is all it takes: what comes out is the code
 * divided by code_unit(). Numbers of 16 and 8 bits come out as those.
 */
#ifndef KERNELS_CUDA_MMA_CODES_CUH
#define KERNELS_CUDA_MMA_CODES_CUH

#include <mma.cuh>
#include "kernels/cuda/page.cuh"

struct codes_f16 {
	enum { BITS = 16, TILES = 1, HIGH = 1 };
};

struct codes_bf16 {
	enum { BITS = 16, TILES = 1, HIGH = 1 };
};

struct codes_8 {
	enum { BITS = 8, TILES = 2, HIGH = 1 };
};

struct codes_4 {
	enum { BITS = 4, TILES = 4, HIGH = 1 };
};

struct codes_3 {
	enum { BITS = 3, TILES = 4, HIGH = 2 };
};

struct codes_2 {
	enum { BITS = 2, TILES = 4, HIGH = 2 };
};

/* A lane's words of a brick. */
struct words {
	uint32_t w[4];
	uint32_t high[2]; /* 3 bits: of the other plane */
};

/* Where bricks are: codes, for 3 bits their high plane, and whose words. */
struct bricks {
	const uint8_t *codes;
	const uint8_t *high;
	uint32_t lane;
	bool half;	/* TILES is half of what the tag says */
	bool e4m3;	/* of 8 bits */
	uint32_t low_bytes, high_bytes; /* the rest: bytes that make a register */
};

DEVICE struct bricks bricks_of(uint32_t format, const uint8_t *codes,
			       uint32_t plane, uint32_t lane, bool half)
{
	struct bricks b;

	b.codes = codes;
	b.high = codes + plane;
	b.lane = opaque(lane);
	b.half = half;
	b.e4m3 = format == KVD_FP8_E4M3;
	/* An int8 is a subnormal, an e5m2 the high byte of its f16. */
	b.low_bytes = format == KVD_INT8 ? 0x4140 : 0x1404;
	b.high_bytes = format == KVD_INT8 ? 0x4342 : 0x3424;
	return b;
}

template <class C>
DEVICE void brick_load(C, const struct bricks &b, uint32_t brick,
		       struct words &x)
{
	const uint32_t at = brick * WARP + b.lane;

	if (C::TILES == 4 && b.half)
		load8(x.w, b.codes + at * 8);
	else
		load16(x.w, b.codes + at * 16);
}

DEVICE void brick_load(codes_3, const struct bricks &b, uint32_t brick,
		       struct words &x)
{
	const uint32_t at = brick * WARP + b.lane;

	brick_load(codes_2(), b, brick, x);
	if (b.half)
		load4(x.high, b.high + at * 4);
	else
		load8(x.high, b.high + at * 8);
}

/* Of 16 bits: the words are the registers. */
template <class C>
DEVICE void brick_tile(C, const struct bricks &, const struct words &x,
		       uint32_t, uint32_t, uint32_t *a)
{
	UNROLL
	for (uint32_t r = 0; r < 4; r++)
		a[r] = x.w[r];
}

DEVICE void brick_tile(codes_8, const struct bricks &b, const struct words &x,
		       uint32_t j, uint32_t, uint32_t *a)
{
	UNROLL
	for (uint32_t r = 0; r < 4; r++) {
		const uint32_t w = x.w[2 * j + r / 2];

		if (b.e4m3)
			a[r] = f16x2_from_e4m3(w >> (r % 2 * 16));
		else
			a[r] = permute(w, 0,
				       r % 2 ? b.high_bytes : b.low_bytes);
	}
}

DEVICE void brick_tile(codes_4, const struct bricks &, const struct words &x,
		       uint32_t j, uint32_t, uint32_t *a)
{
	UNROLL
	for (uint32_t r = 0; r < 4; r++)
		a[r] = x.w[j] >> (r / 2 * 8) & 0x000f000fu << (r % 2 * 4);
}

DEVICE void brick_tile(codes_2, const struct bricks &, const struct words &x,
		       uint32_t j, uint32_t i, uint32_t *a)
{
	UNROLL
	for (uint32_t r = 0; r < 4; r++)
		a[r] = x.w[j] >> (r / 2 * 8) &
		       0x00030003u << (4 * i + r % 2 * 2);
}

/* The third bit comes to stand above the other two. */
DEVICE void brick_tile(codes_3, const struct bricks &b, const struct words &x,
		       uint32_t j, uint32_t i, uint32_t *a)
{
	const uint32_t h = x.high[j / 2];

	brick_tile(codes_2(), b, x, j, i, a);
	UNROLL
	for (uint32_t r = 0; r < 4; r++) {
		const uint32_t up = j % 2 ? h >> (6 + r / 2) : h << (2 - r / 2);

		a[r] |= up & 0x00040004u << (4 * i + r % 2 * 2);
	}
}

/*
 * What codes of @format come out divided by: in tile @i along m of a brick, in
 * rows 0 to 7 or, @low, 8 to 15.
 */
DEVICE float code_unit(uint32_t format, uint32_t i, bool low)
{
	if (format_bits(format) == 16 || format_coding(format) == CODING_FP8)
		return 1.0f;
	if (format_bits(format) == 8)
		return 0x1p24f;
	if (format_bits(format) == 4)
		return low ? 0x1p20f : 0x1p24f;
	return (low ? 0x1p22f : 0x1p24f) * (i ? 0x1p-4f : 1.0f);
}

/* The same where the width is known. */
template <class C> DEVICE float tile_unit(C, float unit, uint32_t, bool)
{
	return unit;
}

DEVICE float tile_unit(codes_4, float, uint32_t, bool low)
{
	return low ? 0x1p20f : 0x1p24f;
}

DEVICE float tile_unit(codes_2, float, uint32_t i, bool low)
{
	return (low ? 0x1p22f : 0x1p24f) * (i ? 0x1p-4f : 1.0f);
}

DEVICE float tile_unit(codes_3, float unit, uint32_t i, bool low)
{
	return tile_unit(codes_2(), unit, i, low);
}

#endif
