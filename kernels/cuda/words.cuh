/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words.cuh - which codes a word of 32 bits holds: kernels/tile.h and
 * kernels/pack.h the other way round.
 *
 * Kernels that write codes give each thread whole words, so that no byte has
 * two writers. A plane of codes of BITS (16, 8, 4, 2 or 1; 3 bits are two
 * planes) is word after word; word_at() says what word number w is of,
 * word_element() which element its code number i is. No word of the order of
 * rows is of two tokens: rows of codes are multiples of 8 bytes.
 */
#ifndef KERNELS_CUDA_WORDS_CUH
#define KERNELS_CUDA_WORDS_CUH

#include "kernels/cuda/page.cuh"

struct word {
	uint32_t byte;	/* from the plane's first, of token 0 */
	uint32_t m, k;	/* tile order: element of code 0 */
	uint32_t t;	/* row order: the token, */
	uint32_t octet;	/* of the chunk's first element, */
	uint32_t bit;	/* in the chunk, of code 0, */
	uint32_t lane;	/* bits of the chunk's lanes */
};

struct element {
	uint32_t t, d;	/* d is dim and up for bits that no code has */
};

/* Words of a plane of one token, on average. */
template <uint32_t BITS> DEVICE uint32_t plane_words(const struct codes &c)
{
	return c.order == KVD_TILE_ROW ? pack_row_bytes(BITS, c.dim) / 4 :
					 c.dim * BITS / 32;
}

template <uint32_t BITS>
DEVICE struct word row_word(const struct codes &c, uint32_t w)
{
	const uint32_t per = plane_words<BITS>(c), at = w % per * 4;
	uint32_t left = c.dim / PACK_LANES * BITS, begin;
	struct word r;

	r.m = r.k = 0;
	r.t = w / per;
	r.byte = r.t * codes_row_bytes(c.order, c.format, c.dim) + at;
	/* A chunk is as many bytes as its lanes have bits. */
	begin = at / 32 < left / 32 ? at / 32 * 32 : left / 32 * 32;
	left -= begin;
	r.lane = pack_lane_bits(left);
	if (at - begin >= r.lane) { /* 16, then 8 */
		begin += r.lane;
		r.lane = pack_lane_bits(left - r.lane);
	}
	r.octet = begin / BITS;
	r.bit = (at - begin) * 8;
	return r;
}

template <uint32_t BITS>
DEVICE struct word tile_word(const struct codes &c, uint32_t w)
{
	const uint32_t nr_m = c.is_v ? c.dim : c.tokens;
	const uint32_t nr_k = c.is_v ? c.tokens : c.dim;
	const struct tile_brick b = tile_brick_of(BITS, nr_k);
	const uint32_t own = w % b.words, lane = w / b.words % TILE_LANES;
	const uint32_t brick = w / b.words / TILE_LANES;
	const uint32_t row = c.is_v ? nr_m / b.m : nr_k / b.k;
	struct word r;

	r.byte = w * 4;
	r.m = (c.is_v ? brick % row : brick / row) * b.m + lane / 4;
	r.k = (c.is_v ? brick / row : brick % row) * b.k + lane % 4 * 2;
	if (BITS == 16) {
		r.m += own % 2 * 8;
		r.k += own / 2 * 8;
	} else if (BITS == 8) {
		r.k += own * 8;
	} else {
		r.k += own * (BITS == 1 ? 32 : 16);
	}
	r.t = r.octet = r.bit = r.lane = 0;
	return r;
}

template <uint32_t BITS>
DEVICE struct word word_at(const struct codes &c, uint32_t w)
{
	return c.order == KVD_TILE_ROW ? row_word<BITS>(c, w) :
					 tile_word<BITS>(c, w);
}

template <uint32_t BITS>
DEVICE struct element row_element(const struct word &w, uint32_t i)
{
	const uint32_t bit = w.bit + i * BITS;
	const uint32_t log = w.lane == 32 ? 5 : w.lane == 16 ? 4 : 3;
	struct element e;

	e.t = w.t;
	if (BITS >= 8)
		e.d = w.octet * PACK_LANES + bit / BITS;
	else
		e.d = (w.octet + (bit & (w.lane - 1)) / BITS) * PACK_LANES +
		      (bit >> log);
	return e;
}

/* Of the tile: r (0 to 3), h, the tiles i along m and j along k. */
struct fragment {
	uint32_t r, h, i, j;
};

template <uint32_t BITS>
DEVICE struct fragment fragment_of(bool table, uint32_t n)
{
	struct fragment f = { 0, 0, 0, 0 };

	if (BITS == 16) {
		f.h = n;
	} else if (BITS == 8) {
		f.r = n / 2;
		f.h = n % 2;
	} else if (BITS == 4) {
		f.r = table ? n / 2 : n % 4;
		f.h = table ? n % 2 : n / 4;
	} else if (BITS == 2) {
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

/* Element of code @i, below 32 / BITS. */
template <uint32_t BITS>
DEVICE struct element word_element(const struct codes &c, const struct word &w,
				   uint32_t i)
{
	struct fragment f;
	struct element e;
	uint32_t m, k;

	if (c.order == KVD_TILE_ROW)
		return row_element<BITS>(w, i);
	f = fragment_of<BITS>(format_coding(c.format) == CODING_KVQUANT, i);
	m = w.m + f.r % 2 * 8 + f.i * 16;
	k = w.k + f.h + f.r / 2 * 8 + f.j * 16;
	e.t = c.is_v ? k : m;
	e.d = c.is_v ? m : k;
	return e;
}

#endif
