/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row.h - one token of one head, on its way into a page.
 *
 * append.c and convert.c find where each row goes; a row_store writes it. The
 * definition of what is written is ref_row_store() in ref.c; any other
 * row_store gives the same bytes.
 */
#ifndef KERNELS_HOST_ROW_H
#define KERNELS_HOST_ROW_H

#include "kernels/host/host.h"
#include "kernels/host/side.h"

struct row {
	uint32_t format;	/* to store in: not a whole one */
	uint32_t dtype;		/* of src */
	uint32_t dim;		/* elements; a multiple of 8 */
	uint32_t basis;		/* to bring src to first */
	const float *rotation;	/* basis_rotation() */
	float scale;		/* fp8: what elements are divided by */
	const void *src;
	void *codes;
	struct affine_meta *meta; /* CODING_TOKEN only */
};

/* Return: 1 when the row holds what the format cannot, else 0. */
typedef int row_store_fn(const struct row *r);

int ref_row_store(const struct row *r);
int avx2_row_store(const struct row *r);

/* What elements of an fp8 side are divided by. */
static inline float side_fp8_scale(const struct side *s,
				   const struct kv_tables *t)
{
	const float *a = t ? (s->is_v ? t->v_scale : t->k_scale) : NULL;

	return a ? a[(uint64_t)s->layer * t->nr_heads + s->head] : 1.0f;
}

/*
 * A row that will be token @t of @s, of values that need no transform; the
 * caller adds src and dtype. Writes fp8's scale: many threads may, the same.
 */
static inline struct row side_row(const struct side *s,
				  const struct kv_tables *tables, uint32_t t)
{
	struct row r = {
		.format = s->format,
		.dim = s->dim,
		.codes = s->codes + (uint64_t)t * s->row,
	};

	if (format_coding(s->format) == CODING_TOKEN)
		r.meta = side_affine(s) + t;
	if (format_coding(s->format) == CODING_FP8) {
		r.scale = side_fp8_scale(s, tables);
		__atomic_store((float *)s->meta, &r.scale, __ATOMIC_RELAXED);
	}
	return r;
}

/* host_kernels.append by way of @store. */
void append_rows(const struct kv_append_args *a, row_store_fn *store);

/* host_kernels.dequant: the same for every set. */
void ref_dequant(const struct page_layout *l, const void *page, uint32_t layer,
                 uint32_t head, int is_v, uint32_t nr_tokens,
                 const struct kv_tables *tables, float *out);

#endif
