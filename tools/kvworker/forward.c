/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward.c - the forward pass of a Llama model on the pool's GPU.
 *
 * model.c's, step by step, and in its blocks of rows: a BLAS of a GPU, too,
 * rounds a row differently in a matrix of another shape. Weights and
 * activations stay on the GPU. Tokens and their angles cross at the beginning
 * of a call, logits at its end, and in between nobody waits: one stream has
 * our kernels, cuBLAS's and the library's.
 *
 * What crosses does so in page-locked memory. That of tokens may be written
 * again when the last call's copy has been made; an event says so.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvworker/crossing.h"
#include "tools/kvworker/cublas.h"
#include "tools/kvworker/forward.h"
#include "tools/kvworker/launch.h"
#include "tools/kvworker/rope.h"
#include "tools/kvworker/upload.h"

#define ALIGN 256u	/* bytes, of every array */

struct forward {
	const struct config *c;
	struct kv *kv;
	struct gpu *gpu;
	struct cublas blas;
	struct launcher kernels;
	struct upload upload;
	double *freq;		/* [head_dim / 2] */
	size_t chunk;
	struct crossing in;	/* float [chunk][head_dim], then tokens */
	cu_event in_free;	/* the last call's have been copied */
	struct crossing logits;	/* grows */
	struct crossing seen;	/* rows of qkv for a tap; grows */
	cu_ptr memory;		/* of all that follow: as in model.c */
	float *x;
	float *normed;
	float *qkv;
	float *heads;
	float *gate_up;
	float *act;
};

static size_t qkv_width(const struct forward *f)
{
	return f->kv->q_width + 2 * (size_t)f->kv->kv_width;
}

static cu_ptr device_ptr(const void *p)
{
	return (cu_ptr)(uintptr_t)p;
}

/* ---- new, free ---- */

/* Cuts an array of [rows][width] floats off the memory at *@at. */
static float *cut(cu_ptr *at, size_t rows, size_t width)
{
	cu_ptr here = *at;

	*at += (rows * width * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
	return (float *)(uintptr_t)here;
}

/* Return: where the memory ends that begins at @at. */
static cu_ptr cut_all(struct forward *f, cu_ptr at)
{
	size_t rows = f->chunk + 2 * (size_t)BLOCK;

	f->x = cut(&at, rows, f->c->hidden);
	f->normed = cut(&at, rows, f->c->hidden);
	f->qkv = cut(&at, rows, qkv_width(f));
	f->heads = cut(&at, rows, f->kv->q_width);
	f->gate_up = cut(&at, rows, 2 * (size_t)f->c->intermediate);
	f->act = cut(&at, rows, f->c->intermediate);
	return at;
}

/* Padding must be finite, so everything starts as zeros. */
static int alloc_rows(struct forward *f, struct error *e)
{
	size_t bytes = cut_all(f, 0);
	int err;

	err = GPU_CALL(f->gpu, e, cuMemAlloc, &f->memory, bytes);
	if (err) {
		f->memory = 0;
		return err;
	}
	cut_all(f, f->memory);
	return GPU_CALL(f->gpu, e, cuMemsetD8Async, f->memory, 0, bytes,
			f->gpu->stream);
}

static int alloc(struct forward *f, struct error *e)
{
	size_t bytes = f->chunk *
		       (f->c->head_dim * sizeof(float) + sizeof(uint32_t));
	int err;

	f->freq = calloc(f->c->head_dim / 2, sizeof(double));
	if (!f->freq)
		return error_set(e, -ENOMEM, "out of memory");
	rope_frequencies(f->c, f->freq);
	err = crossing_reserve(f->gpu, &f->in, bytes, e);
	if (!err)
		err = GPU_CALL(f->gpu, e, cuEventCreate, &f->in_free,
			       CU_EVENT_NO_TIMING);
	return err ? err : alloc_rows(f, e);
}

static int prepare(struct forward *f, const struct weights *w,
		   struct error *e)
{
	int err;

	err = cublas_open(&f->blas, f->gpu, e);
	if (!err)
		err = launcher_init(&f->kernels, f->gpu, e);
	if (!err)
		err = alloc(f, e);
	if (!err)
		err = upload_new(&f->upload, f->gpu, w, f->c, e);
	return err;
}

int forward_new(const struct config *c, const struct weights *w,
		struct kv *kv, uint32_t chunk, struct forward **ret,
		struct error *e)
{
	struct forward *f;
	int err;

	if (!kv->gpu)
		return error_set(e, -ENODEV, "the pool is on no GPU");
	f = calloc(1, sizeof(*f));
	if (!f)
		return error_set(e, -ENOMEM, "out of memory");
	f->c = c;
	f->kv = kv;
	f->gpu = kv->gpu;
	f->chunk = chunk;
	err = prepare(f, w, e);
	if (err)
		forward_free(f);
	else
		*ret = f;
	return err;
}

void forward_free(struct forward *f)
{
	if (!f)
		return;
	f->gpu->cu->cuStreamSynchronize(f->gpu->stream);
	cublas_close(&f->blas);
	launcher_fini(&f->kernels);
	upload_free(&f->upload);
	crossing_free(f->gpu, &f->in);
	crossing_free(f->gpu, &f->logits);
	crossing_free(f->gpu, &f->seen);
	if (f->in_free)
		f->gpu->cu->cuEventDestroy(f->in_free);
	if (f->memory)
		f->gpu->cu->cuMemFree(f->memory);
	free(f->freq);
	free(f);
}

/* ---- run ---- */

/* A product block by block: @p's rows are all of them. */
static int multiply(struct forward *f, const struct product *p,
		    struct error *e)
{
	struct product block = *p;
	int err = 0;

	block.rows = BLOCK;
	for (size_t i = 0; !err && i < p->rows; i += BLOCK) {
		block.a = p->a + i * p->k;
		block.out = p->out + i * p->n;
		err = cublas_multiply(&f->blas, &block, e);
	}
	return err;
}

/* Rows [@first, @first + @nr) of the residual stream to those of normed. */
static int normalize(struct forward *f, size_t first, size_t nr,
		     const float *weight, struct error *e)
{
	size_t n = f->c->hidden;
	const struct normalize_params p = {
		.x = f->x + first * n,
		.weight = weight,
		.out = f->normed + first * n,
		.eps = f->c->rms_eps,
		.width = (uint32_t)n,
	};

	return launch_normalize(&f->kernels, nr, &p, e);
}

static int rotate(struct forward *f, const struct rows *r, struct error *e)
{
	const struct config *c = f->c;
	const struct rotate_params p = {
		.x = f->qkv + r->first * qkv_width(f),
		.cos_sin = (const float *)(uintptr_t)f->in.device,
		.stride = (uint32_t)qkv_width(f),
		.nr_heads = c->nr_heads +
			    (f->kv->pre_rope ? 0 : c->nr_kv_heads),
		.nr_pairs = c->head_dim / 2,
	};

	return launch_rotate(&f->kernels, r->nr, &p, e);
}

static int activate(struct forward *f, const struct rows *r, struct error *e)
{
	size_t n = f->c->intermediate;
	const struct activate_params p = {
		.gate_up = f->gate_up + r->first * 2 * n,
		.out = f->act + r->first * n,
		.width = (uint32_t)n,
	};

	return launch_activate(&f->kernels, r->nr, &p, e);
}

/* Tokens and angles to the GPU, then the residual stream's beginning. */
static int begin(struct forward *f, const struct forward_call *call,
		 struct error *e)
{
	const struct rows *r = call->rows;
	const size_t dim = f->c->head_dim, angles = r->nr * dim;
	const size_t bytes = angles * sizeof(float) +
			     r->nr * sizeof(uint32_t);
	float *cos_sin = f->in.host;
	const struct embed_params p = {
		.table = f->upload.weights.embed,
		.tokens = (const uint32_t *)(uintptr_t)(
			f->in.device + angles * sizeof(float)),
		.x = f->x,
		.width = f->c->hidden,
		.first = (uint32_t)r->first,
		.nr = (uint32_t)r->nr,
	};
	int err;

	err = GPU_CALL(f->gpu, e, cuEventSynchronize, f->in_free);
	if (err)
		return err;
	for (size_t i = 0; i < r->nr; i++)
		rope_angles(f->freq, (uint32_t)dim / 2, r->pos + i,
			    cos_sin + i * dim);
	memcpy(cos_sin + angles, call->tokens, r->nr * sizeof(uint32_t));
	err = GPU_CALL(f->gpu, e, cuMemcpyHtoDAsync, f->in.device, f->in.host,
		       bytes, f->gpu->stream);
	if (!err)
		err = GPU_CALL(f->gpu, e, cuEventRecord, f->in_free,
			       f->gpu->stream);
	return err ? err :
		     launch_embed(&f->kernels, r->nr_blocks * BLOCK, &p, e);
}

/* Shows q, k and v to whoever asked, and takes what he made of them. */
static int show_rows(struct forward *f, const struct forward_call *call,
		     uint32_t layer, bool rotated, struct error *e)
{
	const struct rows *r = call->rows;
	const size_t bytes = r->nr * qkv_width(f) * sizeof(float);
	const cu_ptr at = device_ptr(f->qkv + r->first * qkv_width(f));
	struct model_rows rows = { .layer = layer,
				   .rotated = rotated,
				   .first = r->pos,
				   .nr = r->nr };
	int err;

	if (!call->tap->see)
		return 0;
	err = crossing_reserve(f->gpu, &f->seen, bytes, e);
	if (!err)
		err = GPU_CALL(f->gpu, e, cuMemcpyDtoHAsync, f->seen.host, at,
			       bytes, f->gpu->stream);
	if (!err)
		err = GPU_CALL(f->gpu, e, cuStreamSynchronize,
			       f->gpu->stream);
	if (err)
		return err;
	rows.qkv = f->seen.host;
	call->tap->see(call->tap->arg, &rows);
	err = GPU_CALL(f->gpu, e, cuMemcpyHtoDAsync, at, f->seen.host, bytes,
		       f->gpu->stream);
	return err ? err :
		     GPU_CALL(f->gpu, e, cuStreamSynchronize, f->gpu->stream);
}

/* From the residual stream to what attention gives. */
static int run_attention(struct forward *f, const struct forward_call *call,
			 uint32_t layer, struct error *e)
{
	const struct layer_weights *w = &f->upload.weights.layers[layer];
	const struct rows *r = call->rows;
	const struct product qkv = { .a = f->normed,
				     .b = w->qkv,
				     .out = f->qkv,
				     .rows = r->nr_blocks * BLOCK,
				     .n = qkv_width(f),
				     .k = f->c->hidden };
	int err;

	err = normalize(f, r->first, r->nr, w->attn_norm, e);
	if (!err)
		err = multiply(f, &qkv, e);
	if (!err)
		err = show_rows(f, call, layer, false, e);
	if (!err)
		err = rotate(f, r, e);
	if (!err)
		err = show_rows(f, call, layer, true, e);
	if (err)
		return err;
	return kv_layer_pool(f->kv, call->seq, layer, (uint32_t)r->nr,
			     f->qkv + r->first * qkv_width(f),
			     f->heads + r->first * f->kv->q_width, e);
}

static int run_mlp(struct forward *f, const struct rows *r,
		   const struct layer_weights *w, struct error *e)
{
	const size_t hidden = f->c->hidden, mlp = f->c->intermediate;
	const size_t rows = r->nr_blocks * BLOCK;
	const struct product up = { .a = f->normed,
				    .b = w->gate_up,
				    .out = f->gate_up,
				    .rows = rows,
				    .n = 2 * mlp,
				    .k = hidden };
	const struct product down = { .a = f->act,
				      .b = w->down,
				      .out = f->x,
				      .rows = rows,
				      .n = hidden,
				      .k = mlp,
				      .beta = 1 };
	int err;

	err = normalize(f, r->first, r->nr, w->mlp_norm, e);
	if (!err)
		err = multiply(f, &up, e);
	if (!err)
		err = activate(f, r, e);
	return err ? err : multiply(f, &down, e);
}

static int run_layer(struct forward *f, const struct forward_call *call,
		     uint32_t layer, struct error *e)
{
	const struct layer_weights *w = &f->upload.weights.layers[layer];
	const struct product out = { .a = f->heads,
				     .b = w->out,
				     .out = f->x,
				     .rows = call->rows->nr_blocks * BLOCK,
				     .n = f->c->hidden,
				     .k = f->kv->q_width,
				     .beta = 1 };
	int err;

	err = run_attention(f, call, layer, e);
	if (!err)
		err = multiply(f, &out, e);
	return err ? err : run_mlp(f, call->rows, w, e);
}

/* Logits of the last @nr tokens; only their blocks are multiplied. */
static int run_head(struct forward *f, const struct rows *r, size_t nr,
		    const float **ret, struct error *e)
{
	const size_t n = f->c->vocab, row = r->first + r->nr - nr;
	const size_t skip = row / BLOCK * BLOCK;
	struct product p = { .a = f->normed + skip * f->c->hidden,
			     .b = f->upload.weights.head,
			     .rows = r->nr_blocks * BLOCK - skip,
			     .n = n,
			     .k = f->c->hidden };
	int err;

	err = crossing_reserve(f->gpu, &f->logits, p.rows * n * sizeof(float),
			       e);
	p.out = (float *)(uintptr_t)f->logits.device;
	if (!err)
		err = normalize(f, row, nr, f->upload.weights.norm, e);
	if (!err)
		err = multiply(f, &p, e);
	if (!err)
		err = GPU_CALL(f->gpu, e, cuMemcpyDtoHAsync, f->logits.host,
			       device_ptr(p.out + (row - skip) * n),
			       nr * n * sizeof(float), f->gpu->stream);
	if (!err)
		err = GPU_CALL(f->gpu, e, cuStreamSynchronize,
			       f->gpu->stream);
	*ret = f->logits.host;
	return err;
}

int forward_run(struct forward *f, const struct forward_call *call,
		const float **ret, struct error *e)
{
	const struct rows *r = call->rows;
	int err;

	err = begin(f, call, e);
	for (uint32_t i = 0; !err && i < f->c->nr_layers; i++)
		err = run_layer(f, call, i, e);
	if (!err)
		err = kv_commit(f->kv, call->seq, call->tokens, r->nr, e);
	if (err || !call->nr_logits)
		return err;
	return run_head(f, r, call->nr_logits, ret, e);
}
