/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_attend.c - attention as the formula says, in double. Slow, one thread.
 *
 *	s_t = softcap(scale * q.k_t)	for t in (pos - window, pos]
 *	out = sum_t e^s_t v_t / (sum_t e^s_t + e^sink)
 *	lse = ln(sum_t e^s_t + e^sink)
 *
 * K and V are first turned back into floats by ref_dequant().
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "kernels/host/attend.h"
#include "kernels/host/half.h"
#include "kernels/host/row.h"

/* One query row, and room for what it attends over. */
struct query {
	const struct kv_attend_args *a;
	const struct kv_seq *seq;
	uint32_t kv_head;
	uint32_t pos;
	uint64_t first; /* of its positions */
	float *k, *v;   /* one page's */
	double *acc;
	double max, sum;
};

static double score(const struct query *u, const float *k, uint64_t q)
{
	const struct kv_attend_args *a = u->a;
	double s = 0;
	uint32_t d;

	for (d = 0; d < a->layouts[0].k_dim; d++)
		s += (double)dtype_load(a->dtype, a->q, q + d) * k[d];
	s *= a->scale;
	return a->softcap > 0 ? a->softcap * tanh(s / a->softcap) : s;
}

/* Adds weight e^s of value @v, keeping acc and sum relative to the max. */
static void query_add(struct query *u, double s, const float *v, uint32_t dim)
{
	double max = s > u->max ? s : u->max;
	double old = exp(u->max - max), w = exp(s - max);
	uint32_t d;

	for (d = 0; d < dim; d++)
		u->acc[d] = u->acc[d] * old + (v ? w * v[d] : 0);
	u->sum = u->sum * old + w;
	u->max = max;
}

static void query_page(struct query *u, uint32_t page, uint64_t q)
{
	const struct kv_attend_args *a = u->a;
	const struct kv_page_ref *ref = &a->pages[kv_seq_page(u->seq, page)];
	const struct page_layout *l = &a->layouts[ref->layout];
	uint64_t base = (uint64_t)page * l->page_tokens;
	uint32_t dim = page_value_dim(l), t;
	uint32_t lo = u->first > base ? u->first - base : 0;
	uint32_t n = u->pos + 1 - base < l->page_tokens ? u->pos + 1 - base
	                                                : l->page_tokens;
	const uint8_t *p;

	assert(ref->segment != KV_NO_SEGMENT);
	p = (const uint8_t *)a->bases[ref->segment] + ref->offset;
	ref_dequant(l, p, a->layer, u->kv_head, 0, n,
	            a->tables, u->k);
	ref_dequant(l, p, a->layer, u->kv_head, 1, n,
	            a->tables, u->v);
	for (t = lo; t < n; t++)
		query_add(u, score(u, u->k + t * l->k_dim, q), u->v + t * dim,
		          dim);
}

static void query_run(struct query *u, uint32_t row, uint32_t head)
{
	const struct kv_attend_args *a = u->a;
	const struct page_layout *l = &a->layouts[0];
	uint64_t q = row * a->q_stride + (uint64_t)head * l->k_dim;
	uint32_t dim = page_value_dim(l), page, d;

	u->kv_head = head / (a->nr_q_heads / l->nr_heads);
	u->max = -INFINITY;
	u->sum = 0;
	memset(u->acc, 0, dim * sizeof(*u->acc));
	for (page = u->first / l->page_tokens; page <= u->pos / l->page_tokens;
	     page++)
		query_page(u, page, q);
	if (a->sinks)
		query_add(u, a->sinks[head], NULL, dim);
	for (d = 0; d < dim; d++)
		dtype_store(a->dtype, a->out,
		            row * a->out_stride + (uint64_t)head * dim + d,
		            u->acc[d] / u->sum);
	if (a->lse)
		a->lse[(uint64_t)row * a->nr_q_heads + head] =
			u->max + log(u->sum);
}

/**
 * ref_attend() - host_kernels.attend of the reference
 */
int ref_attend(const struct kv_attend_args *a)
{
	const struct page_layout *l = &a->layouts[0];
	struct query u = { .a = a };
	uint32_t i, h;

	u.k = malloc(sizeof(float) * l->page_tokens * l->k_dim);
	u.v = malloc(sizeof(float) * l->page_tokens * page_value_dim(l));
	u.acc = malloc(sizeof(double) * page_value_dim(l));
	for (u.seq = a->seqs;
	     u.k && u.v && u.acc && u.seq < a->seqs + a->nr_seqs; u.seq++)
		for (i = 0; i < u.seq->nr_rows; i++) {
			u.pos = u.seq->pos + i;
			u.first = window_first(a->window, u.pos);
			for (h = 0; h < a->nr_q_heads; h++)
				query_run(&u, u.seq->first_row + i, h);
		}
	i = u.k && u.v && u.acc;
	free(u.k);
	free(u.v);
	free(u.acc);
	return i ? 0 : -ENOMEM;
}
