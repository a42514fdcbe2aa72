/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order.c - see order.h. Any thread.
 *
 * In tile order the place of a code, in bits from the first of its plane, is
 * a sum of what its token and what its channel add: no division is left for
 * the loops over codes.
 */
#include <string.h>
#include "kernels/host/order.h"

#define INLINE static inline __attribute__((always_inline))

/* Codes, or one of the two parts of those of 3 bits. */
struct plane {
	struct codes c;
	uint32_t bits;
	uint32_t tile[KVD_MAX_DIM]; /* bit of each channel of token 0 */
	uint32_t row[KVD_MAX_DIM];  /* the same in rows */
};

/* Tokens to be moved. */
struct tokens {
	uint32_t first, nr;
	uint32_t row; /* bytes of one, in rows */
};

static uint32_t bit_at(const struct codes *c, uint32_t bits, uint32_t t,
		       uint32_t d)
{
	struct pack_place p = codes_at(c, bits, t, d);

	return p.byte * 8 + p.shift;
}

static void plane_init(struct plane *p, const struct side *s, uint32_t bits)
{
	struct codes rows = side_place(s);
	uint32_t d;

	p->c = side_place(s);
	p->bits = bits;
	rows.order = KVD_TILE_ROW;
	for (d = 0; d < s->dim; d++) {
		p->tile[d] = bit_at(&p->c, bits, 0, d);
		p->row[d] = bit_at(&rows, bits, 0, d);
	}
}

INLINE uint32_t bits_get(uint32_t bits, const uint8_t *p, uint32_t at)
{
	p += at / 8;
	if (bits == 16)
		return p[0] | (uint32_t)p[1] << 8;
	return *p >> at % 8 & ((1u << bits) - 1);
}

INLINE void bits_set(uint32_t bits, uint8_t *p, uint32_t at, uint32_t code)
{
	uint32_t mask = ((1u << bits) - 1) << at % 8;

	p += at / 8;
	if (bits == 16) {
		p[0] = (uint8_t)code;
		p[1] = (uint8_t)(code >> 8);
		return;
	}
	*p = (uint8_t)((*p & ~mask) | code << at % 8);
}

INLINE void gather(uint32_t bits, const struct plane *p,
		   const struct tokens *x, const uint8_t *codes, uint8_t *rows)
{
	uint32_t t, d, at;

	for (t = 0; t < x->nr; t++, rows += x->row) {
		at = bit_at(&p->c, bits, x->first + t, 0);
		for (d = 0; d < p->c.dim; d++)
			bits_set(bits, rows, p->row[d],
				 bits_get(bits, codes, at + p->tile[d]));
	}
}

INLINE void scatter(uint32_t bits, const struct plane *p,
		    const struct tokens *x, uint8_t *codes, const uint8_t *rows)
{
	uint32_t t, d, at;

	for (t = 0; t < x->nr; t++, rows += x->row) {
		at = bit_at(&p->c, bits, x->first + t, 0);
		for (d = 0; d < p->c.dim; d++)
			bits_set(bits, codes, at + p->tile[d],
				 bits_get(bits, rows, p->row[d]));
	}
}

/* One loop for each width, for the sake of constant masks. */
static void plane_gather(const struct plane *p, const struct tokens *x,
			 const uint8_t *codes, uint8_t *rows)
{
	switch (p->bits) {
	case 16:
		gather(16, p, x, codes, rows);
		break;
	case 8:
		gather(8, p, x, codes, rows);
		break;
	case 4:
		gather(4, p, x, codes, rows);
		break;
	case 2:
		gather(2, p, x, codes, rows);
		break;
	default:
		gather(1, p, x, codes, rows);
	}
}

static void plane_scatter(const struct plane *p, const struct tokens *x,
			  uint8_t *codes, const uint8_t *rows)
{
	switch (p->bits) {
	case 16:
		scatter(16, p, x, codes, rows);
		break;
	case 8:
		scatter(8, p, x, codes, rows);
		break;
	case 4:
		scatter(4, p, x, codes, rows);
		break;
	case 2:
		scatter(2, p, x, codes, rows);
		break;
	default:
		scatter(1, p, x, codes, rows);
	}
}

/**
 * side_gather() - tokens of @s, in tile order, to rows
 * @rows:	[@nr][side_row_bytes()]; bits that no code has become 0
 */
void side_gather(const struct side *s, uint32_t first, uint32_t nr,
		 uint8_t *rows)
{
	struct tokens x = { first, nr, side_row_bytes(s) };
	uint32_t bits = format_bits(s->format);
	struct plane p;

	memset(rows, 0, (size_t)nr * x.row);
	plane_init(&p, s, bits == 3 ? 2 : bits);
	plane_gather(&p, &x, s->codes, rows);
	if (bits != 3)
		return;
	rows += pack_row_bytes(2, s->dim);
	plane_init(&p, s, 1);
	plane_gather(&p, &x, s->codes + codes_high(&p.c), rows);
}

/**
 * side_scatter() - tokens of @s, in tile order, from rows
 * @rows:	[@nr][side_row_bytes()]
 */
void side_scatter(const struct side *s, uint32_t first, uint32_t nr,
		  const uint8_t *rows)
{
	struct tokens x = { first, nr, side_row_bytes(s) };
	uint32_t bits = format_bits(s->format);
	struct plane p;

	plane_init(&p, s, bits == 3 ? 2 : bits);
	plane_scatter(&p, &x, s->codes, rows);
	if (bits != 3)
		return;
	rows += pack_row_bytes(2, s->dim);
	plane_init(&p, s, 1);
	plane_scatter(&p, &x, s->codes + codes_high(&p.c), rows);
}
