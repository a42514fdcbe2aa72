/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack.h - how a row of codes of 8 bits and fewer lies in memory.
 *
 * 8 bits: one byte each, in order. 4, 2 and 1 bits are packed by lanes, so
 * that a shift and a mask of a whole vector give 8 neighbours: a row of dim
 * elements is dim / 8 octets, and element i of an octet is always in lane i.
 * The octets are cut into chunks of 8 lanes. Of r bits that a lane has yet to
 * hold, the next chunk takes 32 when r >= 32, else 16 when r >= 16, else 8;
 * so lanes are little-endian u32, u16 or u8, and octet j of a chunk is at
 * bits [b * j, b * j + b) of each lane. 3 bits are a row of the low 2 bits,
 * then a row of the high one.
 *
 * For dim 128 and 4 bits: two chunks of 8 u32. For dim 64 and 2 bits: one
 * chunk of 8 u16.
 */
#ifndef KERNELS_PACK_H
#define KERNELS_PACK_H

#include "kernels/format.h"

#define PACK_LANES 8u

/* Bits of a lane in the chunk that begins with @left bits to be held. */
KV_INLINE uint32_t pack_lane_bits(uint32_t left)
{
	return left >= 32 ? 32 : left >= 16 ? 16 : 8;
}

/* Bytes of a row of @dim codes of @bits, 1, 2 or 4; @dim is a multiple of 8. */
KV_INLINE uint32_t pack_plane_bytes(uint32_t bits, uint32_t dim)
{
	uint32_t left = dim / PACK_LANES * bits;
	uint32_t bytes = left / 32 * 32, rest = left % 32;

	/* A chunk has as many bytes as bits of a lane. */
	while (rest >= 8) {
		uint32_t lane = pack_lane_bits(rest);

		bytes += lane;
		rest -= lane;
	}
	return bytes + (rest ? PACK_LANES : 0);
}

/* Bytes of a row of @dim codes of @bits; @dim is a multiple of 8. */
KV_INLINE uint32_t pack_row_bytes(uint32_t bits, uint32_t dim)
{
	if (bits >= 8)
		return dim * bits / 8;
	if (bits == 3)
		return pack_plane_bytes(2, dim) + pack_plane_bytes(1, dim);
	return pack_plane_bytes(bits, dim);
}

/* Where the code of one element is: a byte, and a shift in it. */
struct pack_place {
	uint32_t byte;
	uint32_t shift;
};

/* Of element @d of a row of @dim codes of @bits: 1, 2 or 4. */
KV_INLINE struct pack_place pack_at(uint32_t bits, uint32_t dim, uint32_t d)
{
	uint32_t left = dim / PACK_LANES * bits, at = d / PACK_LANES * bits;
	uint32_t base = 0, lane = pack_lane_bits(left);
	struct pack_place r;

	while (at >= lane) {
		base += PACK_LANES * lane / 8;
		at -= lane;
		left -= lane;
		lane = pack_lane_bits(left);
	}
	r.byte = base + d % PACK_LANES * (lane / 8) + at / 8;
	r.shift = at % 8;
	return r;
}

KV_INLINE uint32_t pack_get_bits(uint32_t bits, const uint8_t *row,
				 uint32_t dim, uint32_t d)
{
	struct pack_place at = pack_at(bits, dim, d);

	return row[at.byte] >> at.shift & ((1u << bits) - 1);
}

KV_INLINE void pack_set_bits(uint32_t bits, uint8_t *row, uint32_t dim,
			     uint32_t d, uint32_t code)
{
	struct pack_place at = pack_at(bits, dim, d);
	uint32_t mask = ((1u << bits) - 1) << at.shift;

	row[at.byte] = (uint8_t)((row[at.byte] & ~mask) | code << at.shift);
}

/* Code of element @d of a row; @bits is 8, 4, 3 or 2. */
KV_INLINE uint32_t pack_get(uint32_t bits, const uint8_t *row, uint32_t dim,
			    uint32_t d)
{
	if (bits == 8)
		return row[d];
	if (bits == 3)
		return pack_get_bits(2, row, dim, d) |
		       pack_get_bits(1, row + pack_row_bytes(2, dim), dim, d)
			       << 2;
	return pack_get_bits(bits, row, dim, d);
}

KV_INLINE void pack_set(uint32_t bits, uint8_t *row, uint32_t dim, uint32_t d,
			uint32_t code)
{
	if (bits == 8) {
		row[d] = (uint8_t)code;
	} else if (bits == 3) {
		pack_set_bits(2, row, dim, d, code & 3);
		pack_set_bits(1, row + pack_row_bytes(2, dim), dim, d,
			      code >> 2);
	} else {
		pack_set_bits(bits, row, dim, d, code);
	}
}

#endif
