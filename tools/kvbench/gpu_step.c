/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_step.c - see gpu_step.h.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/gpu_step.h"

static int no_memory(const struct gpu_step *s)
{
	return gpu_complain(s->g, -ENOMEM, strerror(ENOMEM));
}

/* In a block table of one layer. */
static uint32_t table_pages(const struct gpu_step *s)
{
	return s->batch * s->seq_pages;
}

static uint64_t table_bytes(const struct gpu_step *s)
{
	return (uint64_t)table_pages(s) * sizeof(struct kv_page_ref);
}

static size_t row_elements(const struct gpu_step *s)
{
	return (size_t)s->batch * s->heads * s->dim;
}

uint64_t gpu_step_bytes(const struct gpu_step *s)
{
	const struct page_layout *l = &s->pool.layout;
	uint64_t tokens = (uint64_t)s->ctx * s->batch -
	                  (uint64_t)s->shared * (s->batch - 1);

	return tokens * gpu_page_bytes(l) / l->page_tokens + table_bytes(s);
}

static int plan(struct gpu_step *s)
{
	const struct pages_shape shape = {
		.k_format = s->format.k,
		.v_format = s->format.v,
		.kv_heads = s->kv_heads,
		.dim = s->dim,
		.page_tokens = s->page_tokens,
		.tile_order = KVD_TILE_MMA,
	};

	s->seq_pages = (s->ctx + s->page_tokens - 1) / s->page_tokens;
	s->common = s->shared / s->page_tokens;
	s->per_layer = s->common + s->batch * (s->seq_pages - s->common);
	return pages_plan(&s->pages, &shape, s->ctx);
}

static void args_init(struct gpu_step *s)
{
	s->a = (struct kv_attend_args){
		.layouts = { s->pages.layout },
		.nr_seqs = s->batch,
		.nr_rows = s->batch,
		.dtype = s->format.k == KVD_BF16 ? KVD_DTYPE_BF16
		                                 : KVD_DTYPE_F16,
		.nr_q_heads = s->heads,
		.scale = 1.0f / sqrtf((float)s->dim),
		.q_stride = (uint64_t)s->heads * s->dim,
		.out_stride = (uint64_t)s->heads * s->dim,
	};
	s->scratch.batch = (struct kv_cuda_batch){
		.max_tokens = s->ctx,
		.max_rows = 1,
		.rope_pairs = s->dim / 2, /* as synth.c has them */
	};
	s->scratch.bytes =
		kv_cuda_attend_bytes(s->g->kernels, &s->a, &s->scratch.batch);
}

/* So many that no cache holds them, if there is room; 1 at least. */
static unsigned layers_count(const struct gpu_step *s)
{
	uint64_t layer = (uint64_t)s->per_layer * s->pages.layout.page_bytes;
	uint64_t want = (GPU_ROTATION + layer - 1) / layer;
	uint64_t room = gpu_left(s->g) / (layer + table_bytes(s) + 8192);

	if (want > room)
		want = room;
	return want ? (unsigned)want : 1;
}

/* Takes what a call needs. Return: 0, or -ENOSPC when it is not there. */
static int take(struct gpu_step *s)
{
	struct gpu *g = s->g;

	args_init(s);
	gpu_tables_take(&s->tables, g, &s->pages.synth);
	s->bases = gpu_take(g, sizeof(cu_ptr));
	s->seqs = gpu_take(g, s->batch * sizeof(struct kv_seq));
	s->q = gpu_take(g, row_elements(s) * 2);
	s->out = gpu_take(g, row_elements(s) * 2);
	s->scratch.ptr = gpu_take(g, s->scratch.bytes);
	s->nr_layers = layers_count(s);
	s->refs = gpu_take(g, s->nr_layers * table_bytes(s));
	s->pool = (struct gpu_pool){ .layout = s->pages.layout,
		                     .nr = s->nr_layers * s->per_layer,
		                     .filled = true };
	gpu_pool_take(&s->pool, g);
	return gpu_lacks(g) ? -ENOSPC : 0;
}

/* The table of one layer from its pages: sequences begin with the same. */
static void table_fill(const struct gpu_step *s,
                       const struct kv_page_ref *pages,
                       struct kv_page_ref *table)
{
	unsigned own = s->seq_pages - s->common, b;

	for (b = 0; b < s->batch; b++) {
		memcpy(table, pages, s->common * sizeof(*table));
		memcpy(table + s->common, pages + s->common + b * own,
		       own * sizeof(*table));
		table += s->seq_pages;
	}
}

static int put_refs(struct gpu_step *s)
{
	size_t nr = (size_t)s->nr_layers * table_pages(s), i;
	struct kv_page_ref *pages = calloc(s->pool.nr, sizeof(*pages));
	struct kv_page_ref *table = calloc(nr, sizeof(*table));
	int err;

	if (!pages || !table) {
		err = no_memory(s);
	} else {
		pages_shuffle(pages, s->pool.nr, s->pool.layout.page_bytes);
		for (i = 0; i < s->nr_layers; i++)
			table_fill(s, pages + i * s->per_layer,
			           table + i * table_pages(s));
		err = gpu_put(s->g, s->refs, table, nr * sizeof(*table));
	}
	free(pages);
	free(table);
	return err;
}

static int put_seqs(struct gpu_step *s)
{
	struct kv_seq *seqs = calloc(s->batch, sizeof(*seqs));
	unsigned b;
	int err;

	if (!seqs)
		return no_memory(s);
	for (b = 0; b < s->batch; b++)
		seqs[b] = (struct kv_seq){ .first_page = b * s->seq_pages,
			                   .first_row = b,
			                   .nr_rows = 1,
			                   .pos = s->ctx - 1 };
	err = gpu_put(s->g, s->seqs, seqs, s->batch * sizeof(*seqs));
	free(seqs);
	return err;
}

static uint16_t half_bits(float x, uint32_t dtype)
{
	_Float16 h = (_Float16)x;
	uint32_t f;
	uint16_t bits;

	memcpy(&f, &x, sizeof(f));
	memcpy(&bits, &h, sizeof(bits));
	return dtype == KVD_DTYPE_BF16 ? (uint16_t)(f >> 16) : bits;
}

static int put_queries(struct gpu_step *s)
{
	size_t n = row_elements(s), i;
	float *values = pages_values(n);
	uint16_t *q = malloc(n * sizeof(*q));
	int err;

	if (!values || !q) {
		err = no_memory(s);
	} else {
		for (i = 0; i < n; i++)
			q[i] = half_bits(values[i], s->a.dtype);
		err = gpu_put(s->g, s->q, q, n * sizeof(*q));
	}
	free(values);
	free(q);
	return err;
}

/* Results begin as NaN: one that is not written shows. */
static int put(struct gpu_step *s)
{
	int err = gpu_tables_put(&s->tables, s->g, &s->pages.synth);

	if (!err)
		err = gpu_put(s->g, s->bases, &s->pool.base,
		              sizeof(s->pool.base));
	if (!err)
		err = put_seqs(s);
	if (!err)
		err = put_refs(s);
	if (!err)
		err = put_queries(s);
	if (!err)
		err = GPU_CALL(s->g, cuMemsetD8Async, s->out, 0xff,
		               row_elements(s) * 2, s->g->stream);
	return err ? err : gpu_pool_put(&s->pool, s->g, &s->pages);
}

static int issue(void *ctx)
{
	struct gpu_step *s = ctx;
	struct kv_attend_args a = s->a;
	unsigned i;
	int err = 0;

	a.bases = (const void *const *)(uintptr_t)s->bases;
	a.seqs = (const struct kv_seq *)(uintptr_t)s->seqs;
	a.q = (const void *)(uintptr_t)s->q;
	a.out = (void *)(uintptr_t)s->out;
	a.tables = (const struct kv_tables *)(uintptr_t)s->tables.tables;
	for (i = 0; i < s->nr_layers && !err; i++) {
		a.pages = (const struct kv_page_ref *)(uintptr_t)s->refs +
		          (size_t)i * table_pages(s);
		err = kv_cuda_attend(s->g->kernels, &a, &s->scratch,
		                     s->g->stream);
	}
	return err;
}

/* Is every result there, and a number? */
static int results_check(struct gpu_step *s)
{
	uint16_t limit = s->a.dtype == KVD_DTYPE_BF16 ? 0x7f80 : 0x7c00;
	size_t n = row_elements(s), i;
	uint16_t *out = malloc(n * sizeof(*out));
	int err = out ? gpu_get(s->g, out, s->out, n * sizeof(*out))
	              : no_memory(s);

	for (i = 0; i < n && !err; i++)
		if ((out[i] & 0x7fff) >= limit)
			err = gpu_complain(s->g, -EDOM,
			                   "a result is no number");
	free(out);
	return err;
}

int gpu_step_init(struct gpu_step *s)
{
	int err = plan(s);

	return err ? err : take(s);
}

void gpu_step_fini(struct gpu_step *s)
{
	gpu_graph_fini(&s->graph, s->g);
	pages_fini(&s->pages);
}

int gpu_step_time(struct gpu_step *s, struct gpu_copy *copy, unsigned rounds,
                  struct gpu_timing *ret)
{
	int err = put(s);

	if (!err)
		err = gpu_graph_init(&s->graph, s->g, issue, s);
	if (!err)
		err = results_check(s);
	if (!err)
		err = gpu_time(&s->graph, copy, rounds, ret);
	if (err)
		return err;
	ret->us /= s->nr_layers;
	ret->us_min /= s->nr_layers;
	return 0;
}

bool gpu_step_cold(const struct gpu_step *s)
{
	return gpu_pool_bytes(&s->pool) >= GPU_COLD;
}
