/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words.cuh - which codes a word of 32 bits holds: kernels/tile.h and
 * kernels/pack.h the other way round.
 *
 * Kernels that write codes give each thread whole words, so that no byte has
 * two writers. A plane of codes of @bits (16, 8, 4, 2 or 1; 3 bits are two
 * planes) is word after word. word_at() says which element code 0 of word
 * number n is, word_step() how far from there code i is: that depends on the
 * word's kind alone. No word of the order of rows is of two tokens: rows of
 * codes are multiples of 8 bytes.
 */
#ifndef KERNELS_CUDA_WORDS_CUH
#define KERNELS_CUDA_WORDS_CUH

#include "kernels/cuda/page.cuh"

#define WORD_KINDS 3u /* row order: of lanes of 32, 16 and 8 bits */

/* An element, or how far apart two are. */
struct element {
	uint32_t t, d; /* d is dim and up for bits that no code has */
};

struct word {
	struct element first;
	uint32_t byte; /* from the plane's first byte of token 0 */
	uint32_t kind;
};

/* Words of a plane of one token, on average. */
DEVICE uint32_t plane_words(const struct codes &c, uint32_t bits)
{
	if (c.order != KVD_TILE_ROW || bits >= 8)
		return c.dim * bits / 32;
	return pack_plane_bytes(bits, c.dim) / 4;
}

DEVICE struct word row_word(const struct codes &c, uint32_t bits, uint32_t n)
{
	const uint32_t per = plane_words(c, bits), at = n % per * 4;
	uint32_t left = c.dim / PACK_LANES * bits, begin, lane;
	struct word w;

	w.first.t = n / per;
	w.byte = w.first.t * codes_row_bytes(c.order, c.format, c.dim) + at;
	w.kind = 0;
	w.first.d = at * 8 / bits;
	if (bits >= 8)
		return w;
	/* A chunk is as many bytes as its lanes have bits. */
	begin = at / 32 < left / 32 ? at / 32 * 32 : left / 32 * 32;
	left -= begin;
	lane = pack_lane_bits(left);
	while (at - begin >= lane) { /* 16, 8, 8 at most */
		begin += lane;
		left -= lane;
		lane = pack_lane_bits(left);
	}
	w.kind = lane == 32 ? 0 : lane == 16 ? 1 : 2;
	w.first.d = begin / bits * PACK_LANES + (at - begin) * 8 / lane;
	return w;
}

DEVICE struct word tile_word(const struct codes &c, uint32_t bits, uint32_t n)
{
	const uint32_t nr_m = c.is_v ? c.dim : c.tokens;
	const uint32_t nr_k = c.is_v ? c.tokens : c.dim;
	const struct tile_brick b = tile_brick_of(bits, nr_k);
	const uint32_t own = n % b.words, lane = n / b.words % TILE_LANES;
	const uint32_t brick = n / b.words / TILE_LANES;
	const uint32_t row = c.is_v ? nr_m / b.m : nr_k / b.k;
	const uint32_t high = brick / row, low = brick - high * row;
	uint32_t m = (c.is_v ? low : high) * b.m + lane / 4;
	uint32_t k = (c.is_v ? high : low) * b.k + lane % 4 * 2;
	struct word w;

	if (bits == 16) {
		m += own % 2 * 8;
		k += own / 2 * 8;
	} else {
		k += own * (bits == 8 ? 8 : bits == 1 ? 32 : 16);
	}
	w.first.t = c.is_v ? k : m;
	w.first.d = c.is_v ? m : k;
	w.byte = n * 4;
	w.kind = 0;
	return w;
}

DEVICE struct word word_at(const struct codes &c, uint32_t bits, uint32_t n)
{
	return c.order == KVD_TILE_ROW ? row_word(c, bits, n) :
					 tile_word(c, bits, n);
}

/* Of the tile: r (0 to 3), h, the tiles i along m and j along k. */
struct fragment {
	uint32_t r, h, i, j;
};

/* Of code @n of a word. */
DEVICE struct fragment fragment_of(uint32_t bits, bool table, uint32_t n)
{
	struct fragment f = { 0, 0, 0, 0 };

	if (bits == 16) {
		f.h = n;
	} else if (bits == 8) {
		f.r = n / 2;
		f.h = n % 2;
	} else if (bits == 4) {
		f.r = table ? n / 2 : n % 4;
		f.h = table ? n % 2 : n / 4;
	} else if (bits == 2) {
		f.r = table ? n / 4 : n / 4 % 2 * 2 + n % 2;
		f.h = table ? n / 2 % 2 : n / 8;
		f.i = table ? n % 2 : n / 2 % 2;
	} else {
		f.r = table ? n / 8 : n % 2 * 2 + n / 2 % 2;
		f.h = table ? n / 4 % 2 : n / 16;
		f.i = table ? n % 2 : n / 4 % 2;
		f.j = table ? n / 2 % 2 : n / 8 % 2;
	}
	return f;
}

/* From code 0 of a word of @kind to code @n, below 32 / @bits. */
DEVICE struct element word_step(const struct codes &c, uint32_t bits,
				uint32_t kind, uint32_t n)
{
	const bool table = format_coding(c.format) == CODING_KVQUANT;
	const uint32_t per = (32u >> kind) / bits; /* codes of a lane */
	const struct fragment f = fragment_of(bits, table, n);
	const uint32_t m = f.r % 2 * 8 + f.i * 16;
	const uint32_t k = f.h + f.r / 2 * 8 + f.j * 16;
	struct element e;

	if (c.order == KVD_TILE_ROW) {
		e.t = 0;
		e.d = bits >= 8 ? n : n % per * PACK_LANES + n / per;
		return e;
	}
	e.t = c.is_v ? k : m;
	e.d = c.is_v ? m : k;
	return e;
}

#endif
