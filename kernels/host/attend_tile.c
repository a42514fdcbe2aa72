/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_tile.c - what a tile begins and ends with: queries, and results of
 * its runs put together. Stateless; any thread.
 */
#include <math.h>
#include <string.h>
#include "kernels/host/attend.h"
#include "kernels/host/basis.h"
#include "kernels/host/half.h"

/* One query, scaled, as keys of the page are. */
static void q_load(const struct kv_attend_args *a, uint64_t src, float *q)
{
	const struct page_layout *l = &a->layouts[0];
	uint32_t basis = score_basis(l), d;
	float scale = a->softcap > 0 ? a->scale : a->scale * LOG2E;
	float x[KVD_MAX_DIM];

	for (d = 0; d < l->k_dim; d++)
		x[d] = dtype_load(a->dtype, a->q, src + d) * scale;
	avx2_basis_apply(basis, l->k_dim,
	                 basis_rotation(a->tables, basis, a->layer, l->k_dim, 0),
	                 x, q);
}

/**
 * tile_load() - the tile's queries into t->q, padded, and their sums
 */
void tile_load(const struct tile *t)
{
	const struct kv_attend_args *a = t->a;
	uint32_t dim = a->layouts[0].k_dim, i, d;

	for (i = 0; i < tile_rows(t); i++) {
		uint32_t head = t->kv_head * t->group + i % t->group;
		float *q = t->q + i * t->q_stride;

		q_load(a,
		       tile_row(t, i) * a->q_stride + (uint64_t)head * dim, q);
		t->q_sum[i] = 0;
		for (d = 0; d < dim; d++)
			t->q_sum[i] += q[d];
		for (; d < t->q_stride; d++)
			q[d] = 0;
	}
}

/**
 * part_clear() - rows that saw nothing
 */
void part_clear(const struct part *x, const struct tile *t)
{
	uint32_t i;

	for (i = 0; i < tile_rows(t); i++) {
		x->max[i] = -INFINITY;
		x->sum[i] = 0;
	}
	memset(x->acc, 0, sizeof(float) * tile_rows(t) * t->acc_stride);
}

/**
 * part_fold() - adds what a later run saw to @to, row by row
 */
void part_fold(const struct part *to, const struct part *x,
               const struct tile *t)
{
	uint32_t i, d;

	for (i = 0; i < tile_rows(t); i++) {
		float *acc = to->acc + i * t->acc_stride;
		const float *add = x->acc + i * t->acc_stride;
		float max, old, new;

		if (x->sum[i] == 0)
			continue;
		max = fmaxf(to->max[i], x->max[i]);
		old = exp2f(to->max[i] - max);
		new = exp2f(x->max[i] - max);
		to->max[i] = max;
		to->sum[i] = to->sum[i] * old + x->sum[i] * new;
		for (d = 0; d < t->acc_stride; d++)
			acc[d] = acc[d] * old + add[d] * new;
	}
}

/* One result, brought back from the basis of values. */
static void out_store(const struct kv_attend_args *a, uint64_t dst,
                      const float *acc, float scale)
{
	const struct page_layout *l = &a->layouts[0];
	float x[KVD_MAX_DIM] = { 0 }, y[KVD_MAX_DIM];
	uint32_t dim = page_value_dim(l), d;
	const float *rotation = basis_rotation(a->tables, l->v_basis, a->layer,
	                                       dim, l->v_dim != 0);

	for (d = 0; d < dim; d++)
		x[d] = acc[d] * scale;
	avx2_basis_undo(l->v_basis, dim, rotation, x, y);
	for (d = 0; d < dim; d++)
		dtype_store(a->dtype, a->out, dst + d, y[d]);
}

/**
 * part_finish() - divides by the sum, sinks included; writes out and lse
 */
void part_finish(const struct part *x, const struct tile *t)
{
	const struct kv_attend_args *a = t->a;
	uint32_t dim = page_value_dim(&a->layouts[0]), i;

	for (i = 0; i < tile_rows(t); i++) {
		uint64_t row = tile_row(t, i);
		uint32_t head = t->kv_head * t->group + i % t->group;
		uint64_t dst = row * a->out_stride + (uint64_t)head * dim;
		float sum = x->sum[i], max = x->max[i], scale = 1.0f;

		if (a->sinks) {
			float sink = a->sinks[head] * LOG2E;

			max = fmaxf(max, sink);
			scale = exp2f(x->max[i] - max);
			sum = sum * scale + exp2f(sink - max);
		}
		out_store(a, dst, x->acc + i * t->acc_stride, scale / sum);
		if (a->lse)
			a->lse[row * a->nr_q_heads + head] =
				(max + log2f(sum)) * LN2;
	}
}
