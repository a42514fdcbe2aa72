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
#include "kernels/host/half.h"
#include "kernels/host/row.h"

/* Below this many elements a team of threads costs more than it gains. */
#define TEAM_ELEMENTS (1u << 16)

/* Stores K and V of token @i of sequence @s for kv head @head. */
static int token_store(const struct kv_append_args *a, const struct kv_seq *s,
                       uint32_t i, uint32_t head, row_store_fn *store)
{
	uint32_t pt = a->layouts[0].page_tokens, pos = s->pos + i;
	const struct kv_page_ref *ref = &a->pages[kv_seq_page(s, pos / pt)];
	const struct page_layout *l = &a->layouts[ref->layout];
	uint32_t t = pos % pt, size = dtype_bytes(a->dtype);
	uint64_t row = (uint64_t)s->first_row + i;
	struct row r = { .dtype = a->dtype };
	uint8_t *rec;
	int bad;

	assert(ref->segment != KV_NO_SEGMENT);
	rec = (uint8_t *)a->bases[ref->segment] + ref->offset +
	      page_record(l, a->layer, head);
	r.format = l->k_format;
	r.dim = l->k_dim;
	r.src = (const uint8_t *)a->k +
	        (row * a->k_stride + (uint64_t)head * l->k_dim) * size;
	r.codes = rec + (uint64_t)t * l->k_dim * page_code_bytes(l->k_format);
	r.meta = (struct affine_meta *)(rec + l->k_meta) + t;
	bad = store(&r);
	if (!l->v_dim)
		return bad;
	r.format = l->v_format;
	r.dim = l->v_dim;
	r.src = (const uint8_t *)a->v +
	        (row * a->v_stride + (uint64_t)head * l->v_dim) * size;
	r.codes = rec + l->v_codes +
	          (uint64_t)t * l->v_dim * page_code_bytes(l->v_format);
	r.meta = (struct affine_meta *)(rec + l->v_meta) + t;
	return bad | store(&r);
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
