/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.c - walks the rows of an append and finds their places in pages.
 *
 * Any thread may call; rows are spread over OpenMP threads when there is
 * enough to do. Rows of one call never overlap, so the bytes written do not
 * depend on the number of threads.
 */
#include <assert.h>
#include <omp.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/row.h"

/* Below this many elements a team of threads costs more than it gains. */
#define TEAM_ELEMENTS (1u << 16)

/* Stores token @t of @s from @src, a row of the caller's. */
static int side_append(const struct kv_append_args *a, const struct side *s,
                       uint32_t t, const void *src, row_store_fn *store)
{
	struct row r = side_row(s, a->tables, t);

	r.dtype = a->dtype;
	r.basis = s->basis;
	r.rotation = basis_rotation(a->tables, s->basis, s->layer, s->dim,
	                            s->is_v);
	r.src = src;
	return store(&r);
}

/* Stores K and V of token @i of sequence @s for kv head @head. */
static int token_store(const struct kv_append_args *a, const struct kv_seq *s,
                       uint32_t i, uint32_t head, row_store_fn *store)
{
	uint32_t pt = a->layouts[0].page_tokens, pos = s->pos + i;
	const struct kv_page_ref *ref = &a->pages[kv_seq_page(s, pos / pt)];
	const struct page_layout *l = &a->layouts[ref->layout];
	uint64_t row = (uint64_t)s->first_row + i, at;
	uint32_t size = dtype_bytes(a->dtype);
	struct side k, v;
	uint8_t *page;
	int bad;

	assert(ref->segment != KV_NO_SEGMENT);
	page = (uint8_t *)a->bases[ref->segment] + ref->offset;
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
		seq_store(a, seq, store);
}
