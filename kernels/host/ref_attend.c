/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_attend.c - attention as the formula says, in double. Slow, one thread.
 *
 *	s_t = softcap(scale * q.k_t)	for t in (pos - window, pos]
 *	out = sum_t e^s_t v_t / (sum_t e^s_t + e^sink)
 *	lse = ln(sum_t e^s_t + e^sink)
 *
 * K and V are first turned back into floats by ref_dequant(), and, row by row,
 * from the basis of the page into the model's; keys held before RoPE are
 * turned. All of that in double.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "kernels/host/attend.h"
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/row.h"

/* One query row, and room for what it attends over. */
struct query {
	const struct kv_attend_args *a;
	const struct kv_seq *seq;
	uint32_t kv_head;
	uint32_t pos;
	uint64_t first; /* of its positions */
	float *page;    /* values of one page */
	double *k, *v;  /* the same in the model's basis; of k, turned */
	double *acc;
	double max, sum;
};

static double score(const struct query *u, const double *k, uint64_t q)
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
static void query_add(struct query *u, double s, const double *v, uint32_t dim)
{
	double max = s > u->max ? s : u->max;
	double old = exp(u->max - max), w = exp(s - max);
	uint32_t d;

	for (d = 0; d < dim; d++)
		u->acc[d] = u->acc[d] * old + (v ? w * v[d] : 0);
	u->sum = u->sum * old + w;
	u->max = max;
}

/* Sylvester's matrix, in blocks of hadamard_order(). */
static void hadamard(uint32_t dim, double *y)
{
	uint32_t n = hadamard_order(dim), h, i;

	for (h = 1; h < n; h *= 2)
		for (i = 0; i < dim; i++)
			if (!(i & h)) {
				double a = y[i], b = y[i + h];

				y[i] = a + b;
				y[i + h] = a - b;
			}
	for (i = 0; i < dim; i++)
		y[i] /= sqrt(n);
}

/* y = x in the model's basis: orthonormal, so by the transposed matrix. */
static void undo(uint32_t basis, uint32_t dim, const float *rotation,
                 const float *x, double *y)
{
	uint32_t i, j;

	for (i = 0; i < dim; i++) {
		y[i] = basis == BASIS_PROFILE ? 0 : x[i];
		for (j = 0; basis == BASIS_PROFILE && j < dim; j++)
			y[i] += (double)rotation[(size_t)i * dim + j] * x[j];
	}
	if (basis == BASIS_HADAMARD)
		hadamard(dim, y);
}

/* Turns a key by the angles of its page and its token. */
static void turn(const struct kv_tables *tb, uint32_t page, uint32_t token,
                 double *k)
{
	uint32_t pairs = tb->rope_pairs, i;
	const float *p = tb->rope_page + (size_t)page * 2 * pairs;
	const float *t = tb->rope_token + (size_t)token * 2 * pairs;

	for (i = 0; i < pairs; i++) {
		double c = (double)p[i] * t[i] -
		           (double)p[pairs + i] * t[pairs + i];
		double s = (double)p[pairs + i] * t[i] +
		           (double)p[i] * t[pairs + i];
		double *a = tb->rope_interleaved ? k + 2 * i : k + i;
		double *b = tb->rope_interleaved ? a + 1 : a + pairs;
		double x = *a, y = *b;

		*a = x * c - y * s;
		*b = x * s + y * c;
	}
}

static const float *rotation_of(const struct query *u,
                                const struct page_layout *l, int is_v)
{
	int v = is_v && l->v_dim;

	return basis_rotation(u->a->tables, v ? l->v_basis : l->k_basis,
	                      u->a->layer, v ? l->v_dim : l->k_dim, v);
}

/* Keys or values of the first @n tokens of a page. */
static void query_load(struct query *u, const struct page_layout *l,
                       const uint8_t *p, uint32_t page, int is_v, uint32_t n)
{
	uint32_t dim = is_v ? page_value_dim(l) : l->k_dim, t;
	double *out = is_v ? u->v : u->k;

	ref_dequant(l, p, u->a->layer, u->kv_head, is_v, n, u->a->tables,
	            u->page);
	for (t = 0; t < n; t++) {
		undo(is_v ? l->v_basis : l->k_basis, dim,
		     rotation_of(u, l, is_v), u->page + t * dim,
		     out + t * dim);
		if (!is_v && l->rope_order == KVD_ROPE_PRE)
			turn(u->a->tables, page, t, out + t * dim);
	}
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
	query_load(u, l, p, page, 0, n);
	query_load(u, l, p, page, 1, n);
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

	i = page_value_dim(l) > l->k_dim ? page_value_dim(l) : l->k_dim;
	u.page = malloc(sizeof(*u.page) * l->page_tokens * i);
	u.k = malloc(sizeof(*u.k) * l->page_tokens * l->k_dim);
	u.v = malloc(sizeof(*u.v) * l->page_tokens * page_value_dim(l));
	u.acc = malloc(sizeof(*u.acc) * page_value_dim(l));
	for (u.seq = a->seqs;
	     u.page && u.k && u.v && u.acc && u.seq < a->seqs + a->nr_seqs;
	     u.seq++)
		for (i = 0; i < u.seq->nr_rows; i++) {
			u.pos = u.seq->pos + i;
			u.first = window_first(a->window, u.pos);
			for (h = 0; h < a->nr_q_heads; h++)
				query_run(&u, u.seq->first_row + i, h);
		}
	i = u.page && u.k && u.v && u.acc;
	free(u.page);
	free(u.k);
	free(u.v);
	free(u.acc);
	return i ? 0 : -ENOMEM;
}
