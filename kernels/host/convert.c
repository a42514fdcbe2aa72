/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.c - walks the records of pages that are stored in another format.
 *
 * Rows go from format to format without a transform: both layouts are of one
 * basis. A side that keeps its format is copied. Records are spread over
 * OpenMP threads; none depends on another. Any thread may call.
 */
#include <math.h>
#include <omp.h>
#include <string.h>
#include "kernels/host/convert.h"
#include "kernels/host/order.h"

#define MAX_VALUES (KVD_MAX_PAGE_TOKENS * KVD_MAX_DIM) /* of a side */

/* Below this many elements a team of threads costs more than it gains. */
#define TEAM_ELEMENTS (1u << 16)

struct job {
	const struct kv_convert_args *a;
	const struct convert_ops *ops;
};

static int all_finite(const float *x, uint32_t n)
{
	float sum = 0.0f;
	uint32_t i;

	for (i = 0; i < n; i++)
		sum += x[i] * 0.0f;
	return sum == 0.0f;
}

/* The first @n tokens, code by code. */
static int side_copy(const struct job *j, const struct side *from,
		     const struct side *to, uint32_t n)
{
	float x[MAX_VALUES];
	uint32_t meta = page_meta_bytes(from->format, from->is_v, from->tokens,
					from->dim, from->v_group);

	if (format_coding(from->format) == CODING_TOKEN && n < from->tokens)
		meta = n * sizeof(struct affine_meta);
	memcpy(to->codes, from->codes, (size_t)n * from->row);
	memcpy(to->meta, from->meta, meta);
	j->ops->load(from, n, j->a->tables, x);
	return !all_finite(x, n * from->dim);
}

/* From 16 bits a row is read where it lies, else from @x. */
static int rows_convert(const struct job *j, const struct side *from,
			const struct side *to, uint32_t n, const float *x)
{
	uint32_t t;
	int bad = 0;

	for (t = 0; t < n; t++) {
		struct row r = side_row(to, j->a->tables, t);

		r.dtype = from->format == KVD_F16 ? KVD_DTYPE_F16 :
						    KVD_DTYPE_BF16;
		r.src = from->codes + (size_t)t * from->row;
		if (x) {
			r.dtype = KVD_DTYPE_F32;
			r.src = x + (size_t)t * to->dim;
		}
		bad |= j->ops->row(&r);
	}
	return bad;
}

static side_store_fn *whole_store(const struct convert_ops *ops,
				  uint32_t format)
{
	switch (format_coding(format)) {
	case CODING_KIVI:
		return ops->kivi;
	case CODING_KVQUANT:
		return ops->kvquant;
	case CODING_KVARN:
		return ops->kvarn;
	default:
		return ops->oscar;
	}
}

static int values_convert(const struct job *j, const struct side *from,
			  const struct side *to, uint32_t n)
{
	float x[MAX_VALUES];

	j->ops->load(from, n, j->a->tables, x);
	if (format_whole(to->format))
		return whole_store(j->ops, to->format)(to, x, j->a->tables);
	return rows_convert(j, from, to, n, x);
}

static int rows_side_convert(const struct job *j, const struct side *from,
			     const struct side *to, uint32_t n)
{
	int from_16 = format_coding(from->format) == CODING_16;

	if (from_16 && !format_whole(to->format))
		return rows_convert(j, from, to, n, NULL);
	if (from_16 && format_coding(to->format) == CODING_KIVI &&
	    j->ops->kivi_seal)
		return j->ops->kivi_seal(to, from);
	if (from->format == to->format)
		return side_copy(j, from, to, n);
	return values_convert(j, from, to, n);
}

/* The same where one or both are in tile order. */
static int tile_side_convert(const struct job *j, const struct side *from,
			     const struct side *to, uint32_t n)
{
	uint8_t from_rows[ORDER_SIDE] __attribute__((aligned(16)));
	uint8_t to_rows[ORDER_SIDE] __attribute__((aligned(16)));
	struct side f = side_in_rows(from, from_rows);
	struct side t = side_in_rows(to, to_rows);
	int bad;

	if (from->order != KVD_TILE_ROW)
		side_gather(from, 0, n, from_rows);
	bad = rows_side_convert(j, &f, &t, n);
	if (to->order != KVD_TILE_ROW)
		side_scatter(to, 0, n, to_rows);
	return bad;
}

static int side_convert(const struct job *j, const struct side *from,
			const struct side *to, uint32_t n)
{
	if (from->order == KVD_TILE_ROW && to->order == KVD_TILE_ROW)
		return rows_side_convert(j, from, to, n);
	return tile_side_convert(j, from, to, n);
}

static void *page_at(const struct kv_convert_args *a,
		     const struct kv_page_ref *r)
{
	return (uint8_t *)a->bases[r->segment] + r->offset;
}

/* Both sides of one record of page @i. */
static int record_convert(const struct job *j, uint32_t i, uint32_t layer,
			  uint32_t head)
{
	const struct kv_convert_args *a = j->a;
	const struct kv_convert_page *p = &a->pages[i];
	const struct page_layout *fl = &a->layouts[p->from.layout];
	const struct page_layout *tl = &a->layouts[p->to.layout];
	void *from = page_at(a, &p->from), *to = page_at(a, &p->to);
	int bad = 0, is_v;

	for (is_v = 0; is_v <= (tl->v_dim > 0); is_v++) {
		struct side f = side_at(fl, from, layer, head, is_v);
		struct side t = side_at(tl, to, layer, head, is_v);

		bad |= side_convert(j, &f, &t, p->nr_tokens);
	}
	return bad;
}

static int team_size(const struct kv_convert_args *a)
{
	const struct page_layout *l = &a->layouts[0];
	uint64_t work = (uint64_t)a->nr_pages * a->nr_layers * l->nr_heads *
			l->page_tokens * (l->k_dim + l->v_dim);

	if (work < TEAM_ELEMENTS)
		return 1;
	return a->nr_threads ? (int)a->nr_threads : omp_get_max_threads();
}

/**
 * convert_pages() - stores all records of @a's pages and layers once more
 */
void convert_pages(const struct kv_convert_args *a,
		   const struct convert_ops *ops)
{
	struct job j = { a, ops };
	uint32_t end = a->first_layer + a->nr_layers, i, layer, h;
	uint32_t nr_heads = a->layouts[0].nr_heads;
	int team = team_size(a);

#pragma omp parallel for collapse(3) schedule(static) num_threads(team) \
	if (team > 1)
	for (i = 0; i < a->nr_pages; i++)
		for (layer = a->first_layer; layer < end; layer++)
			for (h = 0; h < nr_heads; h++)
				if (record_convert(&j, i, layer, h))
					__atomic_store_n(&a->nonfinite[i], 1,
							 __ATOMIC_RELAXED);
}
