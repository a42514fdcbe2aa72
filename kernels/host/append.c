/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.c - walks the rows of an append and finds their places in pages.
 *
 * Any thread may call; rows are spread over OpenMP threads when there is
 * enough to do, in tile order by tiles, whose tokens have bytes in common.
 * What threads write never overlaps, so the bytes do not depend on the number
 * of threads.
 */
#include <assert.h>
#include <omp.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/order.h"
#include "kernels/host/row.h"

/* Below this many elements a team of threads costs more than it gains. */
#define TEAM_ELEMENTS (1u << 16)

/* A row of the caller's, @src, that will be token @t of @s. */
static inline struct row caller_row(const struct kv_append_args *a,
                                    const struct side *s, uint32_t t,
                                    const void *src)
{
	struct row r = side_row(s, a->tables, t);

	r.dtype = a->dtype;
	r.basis = s->basis;
	r.rotation = basis_rotation(a->tables, s->basis, s->layer, s->dim,
	                            s->is_v);
	r.src = src;
	return r;
}

/* Stores token @t of @s from @src. */
static int side_append(const struct kv_append_args *a, const struct side *s,
                       uint32_t t, const void *src, row_store_fn *store)
{
	struct row r = caller_row(a, s, t, src);

	return store(&r);
}

/* Page of position @pos of a sequence, and how it is laid out. */
static inline uint8_t *page_at(const struct kv_append_args *a,
                               const struct kv_seq *s, uint32_t pos,
                               const struct page_layout **ret_l)
{
	uint32_t pt = a->layouts[0].page_tokens;
	const struct kv_page_ref *ref = &a->pages[kv_seq_page(s, pos / pt)];

	assert(ref->segment != KV_NO_SEGMENT);
	*ret_l = &a->layouts[ref->layout];
	return (uint8_t *)a->bases[ref->segment] + ref->offset;
}

/* Stores K and V of token @i of sequence @s for kv head @head. */
static int token_store(const struct kv_append_args *a, const struct kv_seq *s,
                       uint32_t i, uint32_t head, row_store_fn *store)
{
	uint32_t pt = a->layouts[0].page_tokens, pos = s->pos + i;
	const struct page_layout *l;
	uint8_t *page = page_at(a, s, pos, &l);
	uint64_t row = (uint64_t)s->first_row + i, at;
	uint32_t size = dtype_bytes(a->dtype);
	struct side k, v;
	int bad;

	k = side_at(l, page, a->layer, head, 0);
	v = side_at(l, page, a->layer, head, 1);
	at = row * a->k_stride + (uint64_t)head * l->k_dim;
	bad = side_append(a, &k, pos % pt, (const uint8_t *)a->k + at * size,
	                  store);
	if (!l->v_dim)
		return bad;
	at = row * a->v_stride + (uint64_t)head * l->v_dim;
	return bad | side_append(a, &v, pos % pt,
	                         (const uint8_t *)a->v + at * size, store);
}

/* Rows of a sequence that are of one tile in tile order. */
struct tile {
	uint32_t first; /* token of the page */
	uint32_t nr;
	uint64_t row;   /* of the first, in k and v */
};

/* Stores the tokens of a tile in one side, by way of rows. */
static int tile_append(const struct kv_append_args *a, const struct side *s,
                       const struct tile *t, row_store_fn *store)
{
	uint8_t rows[ORDER_TOKENS * ORDER_ROW] __attribute__((aligned(16)));
	uint64_t stride = s->is_v ? a->v_stride : a->k_stride;
	const uint8_t *x = s->is_v ? a->v : a->k;
	uint32_t i;
	int bad = 0;

	x += (t->row * stride + (uint64_t)s->head * s->dim) *
	     dtype_bytes(a->dtype);
	for (i = 0; i < t->nr; i++, x += stride * dtype_bytes(a->dtype)) {
		struct row r = caller_row(a, s, t->first + i, x);

		r.codes = rows + i * side_row_bytes(s);
		bad |= store(&r);
	}
	side_scatter(s, t->first, t->nr, rows);
	return bad;
}

/* Stores those of a sequence's rows that are of the tile at position @pos. */
static int tile_store(const struct kv_append_args *a, const struct kv_seq *s,
                      uint32_t pos, uint32_t head, row_store_fn *store)
{
	uint32_t from = pos < s->pos ? s->pos : pos, end = pos + ORDER_TOKENS;
	const struct page_layout *l;
	uint8_t *page = page_at(a, s, pos, &l);
	struct side k = side_at(l, page, a->layer, head, 0);
	struct side v = side_at(l, page, a->layer, head, 1);
	struct tile t = { .first = from % l->page_tokens };

	if (end > s->pos + s->nr_rows)
		end = s->pos + s->nr_rows;
	t.nr = end - from;
	t.row = (uint64_t)s->first_row + (from - s->pos);
	return tile_append(a, &k, &t, store) | tile_append(a, &v, &t, store);
}

/* As seq_store(), of pages in tile order: they have both K and V. */
static void seq_store_tiles(const struct kv_append_args *a, uint32_t seq,
                            row_store_fn *store)
{
	const struct kv_seq *s = &a->seqs[seq];
	uint32_t nr_heads = a->layouts[0].nr_heads, i, h;
	uint32_t first = s->pos / ORDER_TOKENS;
	uint32_t end = (s->pos + s->nr_rows + ORDER_TOKENS - 1) / ORDER_TOKENS;

	if (!s->nr_rows)
		return;
#pragma omp for collapse(2) schedule(static) nowait
	for (i = first; i < end; i++)
		for (h = 0; h < nr_heads; h++)
			if (tile_store(a, s, i * ORDER_TOKENS, h, store))
				__atomic_store_n(&a->nonfinite[seq], 1,
				                 __ATOMIC_RELAXED);
}

/* All rows of one sequence; inside a parallel region its threads share it. */
static void seq_store(const struct kv_append_args *a, uint32_t seq,
                      row_store_fn *store)
{
	const struct kv_seq *s = &a->seqs[seq];
	uint32_t nr_heads = a->layouts[0].nr_heads, i, h;

#pragma omp for collapse(2) schedule(static) nowait
	for (i = 0; i < s->nr_rows; i++)
		for (h = 0; h < nr_heads; h++)
			if (token_store(a, s, i, h, store))
				__atomic_store_n(&a->nonfinite[seq], 1,
				                 __ATOMIC_RELAXED);
}

/**
 * append_rows() - stores K and V of all rows of @a
 * @store:	writes one row
 */
void append_rows(const struct kv_append_args *a, row_store_fn *store)
{
	const struct page_layout *l = &a->layouts[0];
	uint64_t work =
		(uint64_t)a->nr_rows * l->nr_heads * (l->k_dim + l->v_dim);
	int team = a->nr_threads ? (int)a->nr_threads : omp_get_max_threads();

	if (work < TEAM_ELEMENTS)
		team = 1;
#pragma omp parallel num_threads(team) if (team > 1)
	for (uint32_t seq = 0; seq < a->nr_seqs; seq++)
		if (l->tile_order == KVD_TILE_ROW)
			seq_store(a, seq, store);
		else
			seq_store_tiles(a, seq, store);
}
