/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order.h - codes of a side between tile order (tile.h) and rows (pack.h).
 *
 * What reads and writes codes on the host works on rows. Where a page is in
 * tile order, tokens of a side are gathered into rows before they are read,
 * and scattered from rows after they are made; metadata is the same in both
 * orders. Any thread; but tokens of a side have bytes in common (with 4 bits
 * those of a tile's 16), and one thread at a time may scatter into these.
 */
#ifndef KERNELS_HOST_ORDER_H
#define KERNELS_HOST_ORDER_H

#include "kernels/host/side.h"

#define ORDER_TOKENS 16u	      /* of a tile */
#define ORDER_ROW    (2 * KVD_MAX_DIM) /* bytes of a row, at most */
#define ORDER_SIDE   (KVD_MAX_PAGE_TOKENS * ORDER_ROW)

/* Where a code of @s is. */
static inline struct codes side_place(const struct side *s)
{
	return (struct codes){ .order = s->order,
			       .format = s->format,
			       .is_v = (uint32_t)s->is_v,
			       .tokens = s->tokens,
			       .dim = s->dim };
}

/* Bytes of a token of @s in rows. */
static inline uint32_t side_row_bytes(const struct side *s)
{
	return pack_row_bytes(format_bits(s->format), s->dim);
}

/* @s with its codes in rows: at @rows, unless it has them so already. */
static inline struct side side_in_rows(const struct side *s, uint8_t *rows)
{
	struct side r = *s;

	if (s->order == KVD_TILE_ROW)
		return r;
	r.order = KVD_TILE_ROW;
	r.row = side_row_bytes(s);
	r.codes = rows;
	return r;
}

/* Tokens @first to @first + @nr - 1 of @s, in tile order, to rows. */
void side_gather(const struct side *s, uint32_t first, uint32_t nr,
		 uint8_t *rows);

/* The same back. Codes of other tokens stay. */
void side_scatter(const struct side *s, uint32_t first, uint32_t nr,
		  const uint8_t *rows);

#endif
