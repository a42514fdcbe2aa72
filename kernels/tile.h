/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tile.h - where the code of an element is, in either order of codes.
 *
 * KVD_TILE_ROW: rows of tokens, packed as pack.h says. KVD_TILE_MMA: as the
 * tensor cores' mma.m16n8k16 takes them. K is an operand A of tokens (rows, m)
 * by channels (columns, k); V, transposed, of channels by tokens. A tile is
 * 16 x 16; lane l of a warp has of it, in 4 registers r of 2 halves h,
 *
 *	m = l / 4 + 8 (r % 2)		k = 2 (l % 4) + h + 8 (r / 2)
 *
 * Codes are bricks of lane words: brick by brick, lane by lane, W words each,
 * so that a lane loads W words at once. T tokens, D channels, K of k:
 *
 *	bits	brick, m x k	W	where in the lane's words
 *	16	16 x 16		4	word r, half h
 *	8	16 x 32		4	word 2 j + r / 2, byte 2 (r % 2) + h
 *	4	16 x 16 W	K/16 % 4 ? 2 : 4	word j, below
 *	2	32 x 16 W	the same		word j, below
 *	1	32 x 32 W	half of that		word j / 2, below
 *
 * j is the tile of the brick along k, i along m (0 or 1). Bits of a word:
 *
 *	bits	to be shifted and masked	to select from a table
 *	4	16 h + 4 r			8 r + 4 h
 *	2	16 h + 8 (r/2) + 4 i + 2 (r%2)	8 r + 4 h + 2 i
 *	1	16 h + 8 (j%2) + r/2 + 4 i + 2 (r%2)	8 r + 4 h + 2 (j%2) + i
 *
 * so that a mask gives two halves whose codes are f16 subnormals, 3 bits being
 * 2 bits and, from another plane, the third above them; or nibbles that select
 * bytes. The latter is kvquant's. Bricks of K are in order of tokens, then of
 * channels; those of V too. 3 bits: the plane of the low two bits of all the
 * side, then that of the high ones.
 */
#ifndef KERNELS_TILE_H
#define KERNELS_TILE_H

#include "kernels/pack.h"

#define TILE_DIM 32u /* k_dim and v_dim are multiples of it */
#define TILE_LANES 32u

/* What decides the place of a code of one side of a record. */
struct codes {
	uint32_t order;	 /* enum kvd_tile_order */
	uint32_t format;
	uint32_t is_v;
	uint32_t tokens; /* of a page */
	uint32_t dim;
};

/* Bytes of codes of one token, on average where tokens are interleaved. */
KV_INLINE uint32_t codes_row_bytes(uint32_t order, uint32_t format,
				   uint32_t dim)
{
	uint32_t bits = format_bits(format);

	return order == KVD_TILE_ROW ? pack_row_bytes(bits, dim) :
				       dim * bits / 8;
}

/* A plane of codes in tile order. */
struct tile_brick {
	uint32_t m, k;	/* elements */
	uint32_t words;	/* of a lane */
};

KV_INLINE struct tile_brick tile_brick_of(uint32_t bits, uint32_t k)
{
	uint32_t w = k / 16 % 4 ? 2 : 4;
	struct tile_brick b;

	b.m = bits <= 2 ? 32 : 16;
	b.k = bits == 16 ? 16 : bits == 8 ? 32 : 16 * w;
	b.words = bits >= 8 ? 4 : bits == 1 ? w / 2 : w;
	return b;
}

/* Bit in the words of a lane of what is at (m, k) of a brick. */
KV_INLINE uint32_t tile_bit(uint32_t bits, int table, uint32_t m, uint32_t k)
{
	uint32_t r = m / 8 % 2 + k / 8 % 2 * 2, h = k % 2;
	uint32_t i = m / 16, j = k / 16;

	switch (bits) {
	case 16:
		return 32 * r + 16 * h;
	case 8:
		return 32 * (2 * j + r / 2) + 16 * (r % 2) + 8 * h;
	case 4:
		return 32 * j + (table ? 8 * r + 4 * h : 16 * h + 4 * r);
	case 2:
		return 32 * j + (table ? 8 * r + 4 * h + 2 * i :
					 16 * h + r / 2 * 8 + 4 * i + r % 2 * 2);
	default:
		return 32 * (j / 2) +
		       (table ? 8 * r + 4 * h + j % 2 * 2 + i :
				16 * h + j % 2 * 8 + r / 2 + 4 * i + r % 2 * 2);
	}
}

/* Place of @bits of element (@t, @d) in their plane. */
KV_INLINE struct pack_place tile_at(const struct codes *c, uint32_t bits,
				    uint32_t t, uint32_t d)
{
	uint32_t m = c->is_v ? d : t, nr_m = c->is_v ? c->dim : c->tokens;
	uint32_t k = c->is_v ? t : d, nr_k = c->is_v ? c->tokens : c->dim;
	struct tile_brick b = tile_brick_of(bits, nr_k);
	uint32_t brick = c->is_v ? k / b.k * (nr_m / b.m) + m / b.m :
				   m / b.m * (nr_k / b.k) + k / b.k;
	uint32_t lane = m % 8 * 4 + k % 8 / 2;
	uint32_t bit = tile_bit(bits, format_coding(c->format) == CODING_KVQUANT,
				m % b.m, k % b.k);
	struct pack_place p;

	p.byte = (brick * TILE_LANES + lane) * b.words * 4 + bit / 8;
	p.shift = bit % 8;
	return p;
}

/* Place of @bits (16, 8, 4, 2 or 1) of an element in their plane. */
KV_INLINE struct pack_place codes_at(const struct codes *c, uint32_t bits,
				     uint32_t t, uint32_t d)
{
	struct pack_place p;

	if (c->order != KVD_TILE_ROW)
		return tile_at(c, bits, t, d);
	if (bits >= 8) {
		p.byte = (t * c->dim + d) * bits / 8;
		p.shift = 0;
		return p;
	}
	p = pack_at(bits, c->dim, d);
	p.byte += t * codes_row_bytes(c->order, c->format, c->dim);
	return p;
}

/* Bytes from the low plane of 3 bits, at (t, d) of it, to the high one. */
KV_INLINE uint32_t codes_high(const struct codes *c)
{
	return c->order == KVD_TILE_ROW ? pack_row_bytes(2, c->dim) :
					  c->tokens * c->dim / 4;
}

KV_INLINE uint32_t codes_get_bits(const struct codes *c, uint32_t bits,
				  const uint8_t *codes, uint32_t t, uint32_t d)
{
	struct pack_place p = codes_at(c, bits, t, d);

	if (bits == 16)
		return codes[p.byte] | (uint32_t)codes[p.byte + 1] << 8;
	return codes[p.byte] >> p.shift & ((1u << bits) - 1);
}

/* Not atomic: codes of other elements are in the same byte. */
KV_INLINE void codes_set_bits(const struct codes *c, uint32_t bits,
			      uint8_t *codes, uint32_t t, uint32_t d,
			      uint32_t code)
{
	struct pack_place p = codes_at(c, bits, t, d);
	uint32_t mask = ((1u << bits) - 1) << p.shift;

	if (bits == 16) {
		codes[p.byte] = (uint8_t)code;
		codes[p.byte + 1] = (uint8_t)(code >> 8);
		return;
	}
	codes[p.byte] = (uint8_t)((codes[p.byte] & ~mask) | code << p.shift);
}

/* Code of element (@t, @d) of a side. */
KV_INLINE uint32_t codes_get(const struct codes *c, const uint8_t *codes,
			     uint32_t t, uint32_t d)
{
	uint32_t bits = format_bits(c->format);

	if (bits != 3)
		return codes_get_bits(c, bits, codes, t, d);
	return codes_get_bits(c, 2, codes, t, d) |
	       codes_get_bits(c, 1, codes + codes_high(c), t, d) << 2;
}

KV_INLINE void codes_set(const struct codes *c, uint8_t *codes, uint32_t t,
			 uint32_t d, uint32_t code)
{
	uint32_t bits = format_bits(c->format);

	if (bits != 3) {
		codes_set_bits(c, bits, codes, t, d, code);
		return;
	}
	codes_set_bits(c, 2, codes, t, d, code & 3);
	codes_set_bits(c, 1, codes + codes_high(c), t, d, code >> 2);
}

#endif
