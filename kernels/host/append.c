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

/* Tokens that one thread stores, all of one page. */
struct run {
	const struct kv_append_args *a;
	row_store_fn *store;
	uint64_t row;      /* in k and v, of the first */
	uint32_t first;    /* in the page */
	uint32_t nr;
};

/* Stores a run in rows of @s at @codes from @src, rows @stride bytes apart. */
static int rows_append(const struct run *u, const struct side *s,
                       uint8_t *codes, const uint8_t *src, uint64_t stride)
{
	uint32_t i;
	int bad = 0;

	for (i = 0; i < u->nr; i++, codes += s->row, src += stride) {
		struct row r = side_row(s, u->a->tables, u->first + i);

		r.dtype = u->a->dtype;
		r.basis = s->basis;
		r.rotation = basis_rotation(u->a->tables, s->basis, s->layer,
		                            s->dim, s->is_v);
		r.src = src;
		r.codes = codes;
		bad |= u->store(&r);
	}
	return bad;
}

static int tile_append(const struct run *u, const struct side *s,
                       const uint8_t *src, uint64_t stride)
{
	uint8_t rows[ORDER_TOKENS * ORDER_ROW] __attribute__((aligned(16)));
	struct side r = side_in_rows(s, rows);
	int bad = rows_append(u, &r, rows, src, stride);

	side_scatter(s, u->first, u->nr, rows);
	return bad;
}

/* Stores a run of one side; rows of @x are @stride elements apart. */
static int side_append(const struct run *u, const struct side *s,
                       const void *x, uint64_t stride)
{
	uint32_t size = dtype_bytes(u->a->dtype);
	const uint8_t *src = x;

	src += (u->row * stride + (uint64_t)s->head * s->dim) * size;
	if (s->order != KVD_TILE_ROW)
		return tile_append(u, s, src, stride * size);
	return rows_append(u, s, s->codes + (uint64_t)u->first * s->row, src,
	                   stride * size);
}

/* Stores K and V of a run of sequence @s for kv head @head. */
static int run_store(struct run *u, const struct kv_seq *s, uint32_t head)
{
	const struct kv_append_args *a = u->a;
	uint32_t pt = a->layouts[0].page_tokens;
	uint32_t pos = s->pos + (uint32_t)(u->row - s->first_row);
	const struct kv_page_ref *ref = &a->pages[kv_seq_page(s, pos / pt)];
	const struct page_layout *l = &a->layouts[ref->layout];
	struct side k, v;
	uint8_t *page;
	int bad;

	assert(ref->segment != KV_NO_SEGMENT);
	page = (uint8_t *)a->bases[ref->segment] + ref->offset;
	u->first = pos % pt;
	k = side_at(l, page, a->layer, head, 0);
	bad = side_append(u, &k, a->k, a->k_stride);
	if (!l->v_dim)
		return bad;
	v = side_at(l, page, a->layer, head, 1);
	return bad | side_append(u, &v, a->v, a->v_stride);
}

/* Run @i of a sequence, where runs end at multiples of @step positions. */
static struct run run_at(const struct kv_append_args *a, const struct kv_seq *s,
                         uint32_t i, uint32_t step)
{
	uint32_t before = s->pos % step, first = i * step, end = first + step;

	first = i ? first - before : 0;
	end -= before;
	if (end > s->nr_rows)
		end = s->nr_rows;
	return (struct run){ .a = a,
		             .row = (uint64_t)s->first_row + first,
		             .nr = end - first };
}

/* All rows of one sequence; inside a parallel region its threads share it. */
static void seq_store(const struct kv_append_args *a, uint32_t seq,
                      row_store_fn *store)
{
	const struct kv_seq *s = &a->seqs[seq];
	uint32_t nr_heads = a->layouts[0].nr_heads, nr_runs, step, i, h;

	step = a->layouts[0].tile_order == KVD_TILE_ROW ? 1 : ORDER_TOKENS;
	nr_runs = s->nr_rows ? (s->pos % step + s->nr_rows + step - 1) / step :
	                       0;
#pragma omp for collapse(2) schedule(static) nowait
	for (i = 0; i < nr_runs; i++)
		for (h = 0; h < nr_heads; h++) {
			struct run u = run_at(a, s, i, step);

			u.store = store;
			if (run_store(&u, s, h))
				__atomic_store_n(&a->nonfinite[seq], 1,
				                 __ATOMIC_RELAXED);
		}
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
		seq_store(a, seq, store);
}
