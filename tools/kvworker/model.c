/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.c - the forward pass of a Llama model over pages of kvd.
 *
 * A BLAS rounds a row of a product differently when the matrix has another
 * shape. So every multiplication is of one block: BLOCK rows, the row of a
 * token its position modulo BLOCK, padded with rows nobody reads. Then all
 * matrices have one shape, in prefill and in decode, and what a token's K, V
 * and logits come out as depends on the positions before it alone: not on the
 * length of the chunks, nor on how much of the prompt was found in the pool,
 * nor on who computed that and how.
 *
 * Activations are [rows][width] arrays in f32; `first` is the row of the
 * first token. One thread; BLAS and attention have their own inside.
 *
 * This is the pass on the CPU; forward.c has the same on the pool's GPU.
 */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvworker/forward.h"
#include "tools/kvworker/model.h"
#include "tools/kvworker/rope.h"
#include "tools/kvworker/rows.h"

struct model {
	const struct config *c;
	const struct weights *w;
	struct kv *kv;
	struct forward *forward; /* NULL: all is done here */
	uint32_t chunk;
	size_t max_rows;
	size_t logits_rows;	/* room in logits */
	double *freq;		/* [head_dim / 2] */
	float *x;		/* [hidden], the residual stream */
	float *normed;		/* [hidden] */
	float *qkv;		/* [q | k | v] */
	float *heads;		/* [q], what attention gives */
	float *gate_up;		/* [gate | up] */
	float *act;		/* [intermediate] */
	float *rope;		/* [head_dim], cosines and sines */
	float *logits;		/* [vocab] */
	struct model_tap tap;	/* .see may be NULL */
};

static size_t qkv_width(const struct model *m)
{
	return m->kv->q_width + 2 * (size_t)m->kv->kv_width;
}

/* out = a b^T, or += when @add; a is [rows][k], b is [n][k]. */
static void multiply(const struct rows *r, const float *a, const float *b,
		     float *out, size_t n, size_t k, bool add)
{
	for (size_t i = 0; i < r->nr_blocks; i++)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans,
			    BLOCK, (blasint)n, (blasint)k, 1,
			    a + i * BLOCK * k, (blasint)k, b, (blasint)k,
			    add ? 1 : 0, out + i * BLOCK * n, (blasint)n);
}

/* RMSNorm: x / sqrt(mean(x^2) + eps) * weight. */
static void normalize(const struct model *m, const struct rows *r,
		      const float *weight)
{
	size_t n = m->c->hidden;

	for (size_t i = r->first; i < r->first + r->nr; i++) {
		const float *x = m->x + i * n;
		double sum = 0;
		float scale;

		for (size_t k = 0; k < n; k++)
			sum += (double)x[k] * x[k];
		scale = (float)(1 / sqrt(sum / (double)n + m->c->rms_eps));
		for (size_t k = 0; k < n; k++)
			m->normed[i * n + k] = x[k] * scale * weight[k];
	}
}

/* Sets up the residual stream: embeddings, and zeros in the padding. */
static void embed(struct model *m, const struct rows *r,
		  const uint32_t *tokens)
{
	size_t n = m->c->hidden;

	memset(m->x, 0, r->nr_blocks * BLOCK * n * sizeof(float));
	for (size_t i = 0; i < r->nr; i++)
		memcpy(m->x + (r->first + i) * n, m->w->embed + tokens[i] * n,
		       n * sizeof(float));
}

/* Rotates q, and k beside it unless pages want it before RoPE. */
static void rotate(struct model *m, const struct rows *r)
{
	const struct config *c = m->c;
	uint32_t nr = c->nr_heads + (m->kv->pre_rope ? 0 : c->nr_kv_heads);

	for (size_t i = r->first; i < r->first + r->nr; i++)
		rope_apply(m->qkv + i * qkv_width(m),
			   nr, c->head_dim / 2,
			   m->rope + i * c->head_dim);
}

/* SwiGLU: silu(gate) * up. */
static void activate(struct model *m, const struct rows *r)
{
	size_t n = m->c->intermediate;

	for (size_t i = r->first; i < r->first + r->nr; i++) {
		const float *gate = m->gate_up + i * 2 * n;
		const float *up = gate + n;

		for (size_t k = 0; k < n; k++)
			m->act[i * n + k] =
				gate[k] / (1 + expf(-gate[k])) * up[k];
	}
}

/* Shows q, k and v of the new tokens to whoever asked. */
static void show_rows(const struct model *m, const struct rows *r,
		      uint32_t layer, bool rotated)
{
	struct model_rows rows = {
		.layer = layer,
		.rotated = rotated,
		.first = r->pos,
		.nr = r->nr,
		.qkv = m->qkv + r->first * qkv_width(m),
	};

	if (m->tap.see)
		m->tap.see(m->tap.arg, &rows);
}

static int run_layer(struct model *m, const struct rows *r, uint32_t layer,
		     struct kvd_seq *seq, struct error *e)
{
	const struct layer_weights *w = &m->w->layers[layer];
	size_t hidden = m->c->hidden, mlp = m->c->intermediate;
	size_t q = m->kv->q_width;
	int err;

	normalize(m, r, w->attn_norm);
	multiply(r, m->normed, w->qkv, m->qkv, qkv_width(m), hidden, false);
	show_rows(m, r, layer, false);
	rotate(m, r);
	show_rows(m, r, layer, true);
	err = kv_layer(m->kv, seq, layer, (uint32_t)r->nr,
		       m->qkv + r->first * qkv_width(m),
		       m->heads + r->first * q, e);
	if (err)
		return err;
	multiply(r, m->heads, w->out, m->x, hidden, q, true);
	normalize(m, r, w->mlp_norm);
	multiply(r, m->normed, w->gate_up, m->gate_up, 2 * mlp, hidden, false);
	activate(m, r);
	multiply(r, m->act, w->down, m->x, hidden, mlp, true);
	return 0;
}

/* Logits of the last @nr tokens; only their blocks are multiplied. */
static int run_head(struct model *m, const struct rows *r, size_t nr,
		    const float **ret, struct error *e)
{
	size_t row = r->first + r->nr - nr;
	size_t skip = row / BLOCK;
	size_t rows = (r->nr_blocks - skip) * BLOCK;
	struct rows tail = { .nr_blocks = r->nr_blocks - skip };
	size_t n = m->c->vocab, k = m->c->hidden;

	if (rows > m->logits_rows) {
		free(m->logits);
		m->logits_rows = 0;
		m->logits = calloc(rows, n * sizeof(float));
		if (!m->logits)
			return error_set(e, -ENOMEM, "out of memory");
		m->logits_rows = rows;
	}
	normalize(m, r, m->w->norm);
	multiply(&tail, m->normed + skip * BLOCK * k, m->w->head, m->logits,
		 n, k, false);
	*ret = m->logits + (row - skip * BLOCK) * n;
	return 0;
}

static int run_here(struct model *m, const struct forward_call *call,
		    const float **ret, struct error *e)
{
	const struct rows *r = call->rows;
	uint32_t dim = m->c->head_dim;
	int err;

	embed(m, r, call->tokens);
	for (size_t i = 0; i < r->nr; i++)
		rope_angles(m->freq, dim / 2, r->pos + i,
			    m->rope + (r->first + i) * dim);
	for (uint32_t layer = 0; layer < m->c->nr_layers; layer++) {
		err = run_layer(m, r, layer, call->seq, e);
		if (err)
			return err;
	}
	err = kv_commit(m->kv, call->seq, call->tokens, r->nr, e);
	if (err || !call->nr_logits)
		return err;
	return run_head(m, r, call->nr_logits, ret, e);
}

int model_run(struct model *m, struct kvd_seq *seq, const uint32_t *tokens,
	      uint32_t nr, uint32_t nr_logits, const float **ret,
	      struct error *e)
{
	size_t pos = kvd_seq_tokens(seq);
	struct rows r = { .first = pos % BLOCK, .nr = nr, .pos = pos };
	struct forward_call call = { .seq = seq,
				     .tokens = tokens,
				     .rows = &r,
				     .nr_logits = nr_logits,
				     .tap = &m->tap };

	if (nr == 0 || nr > m->chunk || nr_logits > nr)
		return error_set(e, -EINVAL, "bad number of tokens");
	r.nr_blocks = (r.first + nr + BLOCK - 1) / BLOCK;
	return m->forward ? forward_run(m->forward, &call, ret, e) :
			    run_here(m, &call, ret, e);
}

/* Padding must be finite, so everything starts as zeros. */
static float *new_rows(const struct model *m, size_t width)
{
	return calloc(m->max_rows, width * sizeof(float));
}

static int alloc(struct model *m)
{
	const struct config *c = m->c;

	m->freq = calloc(c->head_dim / 2, sizeof(double));
	m->x = new_rows(m, c->hidden);
	m->normed = new_rows(m, c->hidden);
	m->qkv = new_rows(m, qkv_width(m));
	m->heads = new_rows(m, m->kv->q_width);
	m->gate_up = new_rows(m, 2 * (size_t)c->intermediate);
	m->act = new_rows(m, c->intermediate);
	m->rope = new_rows(m, c->head_dim);
	return m->freq && m->x && m->normed && m->qkv && m->heads &&
		       m->gate_up && m->act && m->rope ? 0 : -ENOMEM;
}

int model_new(const struct config *c, const struct weights *w, struct kv *kv,
	      uint32_t chunk, struct model **ret, struct error *e)
{
	struct model *m = calloc(1, sizeof(*m));

	if (!m)
		return error_set(e, -ENOMEM, "out of memory");
	m->c = c;
	m->w = w;
	m->kv = kv;
	m->chunk = chunk;
	m->max_rows = chunk + 2 * (size_t)BLOCK;
	if (alloc(m)) {
		model_free(m);
		return error_set(e, -ENOMEM,
				 "out of memory for chunks of %u tokens",
				 chunk);
	}
	rope_frequencies(c, m->freq);
	*ret = m;
	return 0;
}

int model_to_gpu(struct model *m, struct error *e)
{
	return m->forward ? 0 :
			    forward_new(m->c, m->w, m->kv, m->chunk,
					&m->forward, e);
}

bool model_on_gpu(const struct model *m)
{
	return m->forward;
}

void model_set_tap(struct model *m, const struct model_tap *tap)
{
	m->tap = *tap;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	forward_free(m->forward);
	free(m->freq);
	free(m->x);
	free(m->normed);
	free(m->qkv);
	free(m->heads);
	free(m->gate_up);
	free(m->act);
	free(m->rope);
	free(m->logits);
	free(m);
}
