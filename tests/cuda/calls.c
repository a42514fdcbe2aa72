// SPDX-License-Identifier: Apache-2.0
/*
 * calls.c - see calls.h.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "kernels/host/side.h"
#include "tests/cuda/calls.h"
#include "tests/cuda/gpu.h"

#define GARBAGE 0xff /* NaN in every format */

const double call_bounds[KVD_NR_TILE_ORDERS][KVD_NR_DTYPES] = {
	[KVD_TILE_ROW] = { [KVD_DTYPE_F16] = 1e-3,
			   [KVD_DTYPE_BF16] = 1e-2,
			   [KVD_DTYPE_F32] = 2e-5 },
	[KVD_TILE_MMA] = { [KVD_DTYPE_F16] = 3e-3,
			   [KVD_DTYPE_BF16] = 1e-2,
			   [KVD_DTYPE_F32] = 3e-3 },
};
static const double lse_bounds[] = { [KVD_TILE_ROW] = 2e-5,
				     [KVD_TILE_MMA] = 2e-4 };

double call_worst[KVD_NR_TILE_ORDERS][KVD_NR_DTYPES];

static void must(cu_result err)
{
	assert_int_equal(err, CU_OK);
}

/* ---- pages ---- */

/* One side's codes and metadata, in their other place. */
static void side_place(const struct side *from, const struct side *to,
		       const struct page_layout *l)
{
	const struct codes a = page_codes(&(struct page_layout){
			.page_tokens = from->tokens, .k_dim = from->dim,
			.v_dim = from->dim, .k_format = from->format,
			.v_format = from->format }, from->is_v);
	const struct codes b = page_codes(l, from->is_v);
	uint32_t t, d;

	for (t = 0; t < from->tokens; t++)
		for (d = 0; d < from->dim; d++)
			codes_set(&b, to->codes, t, d,
				  codes_get(&a, from->codes, t, d));
	memcpy(to->meta, from->meta,
	       page_meta_bytes(from->format, from->is_v, from->tokens,
			       from->dim, from->v_group));
}

static void page_place(struct call *c, uint32_t i)
{
	const struct kv_page_ref *r = &c->w->pages[i];
	uint8_t *from = c->w->segments[r->segment] + r->offset;
	uint8_t *to = c->segments[r->segment] + c->pages[i].offset;
	uint32_t h, v;

	for (h = 0; h < c->w->s.nr_heads; h++)
		for (v = 0; v < 2; v++) {
			struct side a = side_at(&c->w->layouts[r->layout],
						from, WORLD_LAYER, h, v);
			struct side b = side_at(&c->layouts[r->layout], to,
						WORLD_LAYER, h, v);

			side_place(&a, &b, &c->layouts[r->layout]);
		}
}

/* The pages of the world once more, in tile order. */
static void pages_place(struct call *c)
{
	struct world *w = c->w;
	struct kvd_geometry g = w->g;
	uint64_t size = 0;
	uint32_t i, p;

	g.tile_order = KVD_TILE_MMA;
	assert_null(kvd_geometry_check(&g));
	for (i = 0; i < 2; i++) {
		assert_int_equal(page_layout_init(&c->layouts[i], &g, 0,
						  w->s.format[i][0],
						  w->s.format[i][1]), 0);
		if (c->layouts[i].page_bytes > size)
			size = c->layouts[i].page_bytes;
	}
	c->segment_bytes = 2 * w->nr_pages * size;
	for (i = 0; i < 2; i++) {
		c->segments[i] = xcalloc(c->segment_bytes, 1);
		memset(c->segments[i], GARBAGE, c->segment_bytes);
	}
	for (i = 0; i < 2 * w->nr_pages; i++)
		c->pages[i].offset = i * size;
	for (i = 0; i < w->s.nr_seqs; i++)
		for (p = 0; p * w->s.page_tokens < w->s.len[i]; p++)
			page_place(c, kv_seq_page(&w->seqs[i], p));
}

static void call_pages(struct call *c)
{
	size_t bytes = 2 * c->w->nr_pages * sizeof(*c->pages);

	c->pages = xcalloc(bytes, 1);
	memcpy(c->pages, c->w->pages, bytes);
	memcpy(c->layouts, c->w->layouts, sizeof(c->layouts));
	if (c->order != KVD_TILE_ROW) {
		pages_place(c);
		return;
	}
	c->segment_bytes = c->w->segment_bytes;
	c->segments[0] = c->w->segments[0];
	c->segments[1] = c->w->segments[1];
}

/* Rows first .. first + n - 1 of every sequence that has them. */
void call_init(struct call *c, struct world *w, uint32_t order,
		      uint32_t dtype, uint32_t first, uint32_t n)
{
	const size_t heads = (size_t)w->s.nr_heads * w->s.group;
	const size_t row = heads * w->s.k_dim;
	uint32_t i, j;

	*c = (struct call){ .w = w, .order = order, .dtype = dtype };
	c->q = xcalloc(w->nr_tokens * row, 4);
	for (i = 0; i < w->s.nr_seqs; i++) {
		struct kv_seq *s = &c->seqs[i];
		const uint32_t len = w->s.len[i];

		*s = w->seqs[i];
		s->pos = first;
		s->first_row = c->nr_rows;
		s->nr_rows = first >= len ? 0 : n < len - first ? n : len - first;
		for (j = 0; j < s->nr_rows * row; j++)
			dtype_store(dtype, c->q, c->nr_rows * row + j,
				    w->q[world_row(w, i, first) * row + j]);
		c->nr_rows += s->nr_rows;
	}
	c->nr_out = c->nr_rows * heads;
	call_pages(c);
}

void call_fini(struct call *c)
{
	if (c->order != KVD_TILE_ROW) {
		free(c->segments[0]);
		free(c->segments[1]);
	}
	free(c->pages);
	free(c->q);
}

void call_set_code(struct call *c, int is_v, uint32_t t, uint32_t d,
		   uint32_t code)
{
	const struct kv_page_ref *r =
		&c->pages[c->seqs[0].first_page + t / c->w->s.page_tokens];
	const struct page_layout *l = &c->layouts[r->layout];
	const struct codes place = page_codes(l, is_v);
	uint8_t *page = c->segments[r->segment] + r->offset;

	codes_set(&place,
		  page + page_record(l, WORLD_LAYER, 0) +
			  (is_v ? l->v_codes : 0),
		  t % l->page_tokens, d, code);
}

/* ---- attention on either side ---- */

static void call_args(const struct call *c, struct kv_attend_args *a)
{
	const struct shape *s = &c->w->s;
	const uint32_t q_heads = s->nr_heads * s->group;

	*a = (struct kv_attend_args){
		.nr_seqs = s->nr_seqs,
		.nr_rows = c->nr_rows,
		.layer = WORLD_LAYER,
		.dtype = c->dtype,
		.nr_q_heads = q_heads,
		.window = s->window,
		.scale = 1.5f / sqrtf((float)s->k_dim),
		.softcap = s->softcap,
		.q_stride = (uint64_t)q_heads * s->k_dim,
		.out_stride = (uint64_t)q_heads * c->w->v_out,
	};
}

static void answer_init(struct answer *r, const struct call *c)
{
	r->out = xcalloc(c->nr_out * c->w->v_out, 4);
	r->lse = xcalloc(c->nr_out, 4);
}

void answer_fini(struct answer *r)
{
	free(r->out);
	free(r->lse);
}

void call_ref(struct call *c, struct answer *r)
{
	struct world *w = c->w;
	struct kv_attend_args a;

	answer_init(r, c);
	call_args(c, &a);
	memcpy(a.layouts, w->layouts, sizeof(a.layouts));
	a.bases = (const void *const *)w->segments;
	a.pages = w->pages;
	a.seqs = c->seqs;
	a.q = c->q;
	a.out = r->out;
	a.lse = r->lse;
	a.sinks = w->s.sinks ? w->sinks : NULL;
	a.tables = &w->tables;
	assert_int_equal(host_kernels_ref.attend(&a), 0);
}

/* Device memory with @bytes of @src, until copies_free(). */
static void *copy(struct call *c, const void *src, size_t bytes)
{
	cu_ptr *p = &c->copies[c->nr_copies++];

	assert_true(c->nr_copies <= CALL_MAX_COPIES);
	must(gpu->cuMemAlloc(p, bytes + 1));
	must(gpu->cuMemcpyHtoDAsync(*p, src, bytes, NULL));
	must(gpu->cuStreamSynchronize(NULL));
	return (void *)(uintptr_t)*p;
}

static void copies_free(struct call *c)
{
	while (c->nr_copies)
		must(gpu->cuMemFree(c->copies[--c->nr_copies]));
}

static void to_host(void *dst, const void *src, size_t bytes)
{
	must(gpu->cuMemcpyDtoHAsync(dst, (cu_ptr)(uintptr_t)src, bytes, NULL));
	must(gpu->cuStreamSynchronize(NULL));
}

static const struct kv_tables *copy_tables(struct call *c)
{
	const struct world *w = c->w;
	const size_t k = w->s.k_dim, v = w->s.v_dim;
	const size_t channels = 2 * w->s.nr_heads * k;
	struct kv_tables t = w->tables;
	const size_t angles = 2 * sizeof(float) * t.rope_pairs;

	t.k_rotation = copy(c, t.k_rotation, 2 * k * k * sizeof(float));
	t.v_rotation = copy(c, t.v_rotation, 2 * v * v * sizeof(float));
	t.k_out = copy(c, t.k_out, 2 * TABLES_CODES * sizeof(float));
	t.v_out = copy(c, t.v_out, 2 * TABLES_CODES * sizeof(float));
	t.k_zero = copy(c, t.k_zero, channels * sizeof(float));
	t.k_range = copy(c, t.k_range, channels * sizeof(float));
	t.rope_page = copy(c, t.rope_page, w->nr_pages * angles);
	t.rope_token = copy(c, t.rope_token, w->s.page_tokens * angles);
	return copy(c, &t, sizeof(t));
}

static void bounds_of(const struct call *c, struct kv_cuda_batch *b)
{
	uint32_t i;

	b->share = c->share;
	b->rope_pairs = c->w->tables.rope_pairs;
	for (i = 0; i < c->w->s.nr_seqs; i++) {
		const struct kv_seq *s = &c->seqs[i];

		if (s->pos + s->nr_rows > b->max_tokens)
			b->max_tokens = s->pos + s->nr_rows;
		if (s->nr_rows > b->max_rows)
			b->max_rows = s->nr_rows;
	}
}

void call_prepare(struct call *c, int scratch, struct on_device *d)
{
	struct world *w = c->w;
	const size_t size = dtype_bytes(c->dtype);
	struct kv_attend_args *a = &d->args;
	struct kv_cuda_scratch *sc = &d->scratch;
	const void *bases[2];
	uint32_t i;

	*d = (struct on_device){ .out_bytes = c->nr_out * w->v_out * size };
	call_args(c, a);
	memcpy(a->layouts, c->layouts, sizeof(a->layouts));
	for (i = 0; i < 2; i++)
		bases[i] = copy(c, c->segments[i], c->segment_bytes);
	a->bases = copy(c, bases, sizeof(bases));
	a->pages = copy(c, c->pages, 2 * w->nr_pages * sizeof(*c->pages));
	a->seqs = copy(c, c->seqs, sizeof(c->seqs));
	a->q = copy(c, c->q, c->nr_rows * a->q_stride * size);
	must(gpu->cuMemAlloc(&d->out, d->out_bytes + c->nr_out * 4 + 1));
	must(gpu->cuMemsetD8Async(d->out, GARBAGE, d->out_bytes, NULL));
	a->out = (void *)(uintptr_t)d->out;
	a->lse = (float *)(uintptr_t)(d->out + d->out_bytes);
	a->sinks = w->s.sinks ? copy(c, w->sinks, sizeof(w->sinks)) : NULL;
	a->tables = copy_tables(c);
	bounds_of(c, &sc->batch);
	if (scratch || c->order != KVD_TILE_ROW)
		sc->bytes = kv_cuda_attend_bytes(gpu_kernels, a, &sc->batch);
	must(gpu->cuMemAlloc(&sc->ptr, sc->bytes + 1));
	must(gpu->cuMemsetD8Async(sc->ptr, GARBAGE, sc->bytes, NULL));
}

void call_read(const struct call *c, const struct on_device *d,
	       struct answer *r)
{
	answer_init(r, c);
	to_host(r->out, d->args.out, d->out_bytes);
	to_host(r->lse, d->args.lse, c->nr_out * 4);
}

void call_release(struct call *c, struct on_device *d)
{
	must(gpu->cuMemFree(d->scratch.ptr));
	must(gpu->cuMemFree(d->out));
	copies_free(c);
}

void call_cuda(struct call *c, int scratch, struct answer *r)
{
	struct on_device d;

	call_prepare(c, scratch, &d);
	assert_int_equal(kv_cuda_attend(gpu_kernels, &d.args, &d.scratch, NULL),
			 0);
	call_read(c, &d, r);
	call_release(c, &d);
}

/* ---- comparison ---- */

static void bounded(const struct call *c, double err, double bound,
		    const char *what)
{
	const struct shape *s = &c->w->s;
	const uint32_t(*f)[2] = s->format;

	if (!(err < bound))
		fail_msg("%s off by %g: %s/%s %s/%s, order %u, dims %u %u, "
			 "group %u, page %u, rope %u, dtype %u, window %u, "
			 "len %u, %u rows", what, err,
			 kvd_format_name(f[0][0]), kvd_format_name(f[0][1]),
			 kvd_format_name(f[1][0]), kvd_format_name(f[1][1]),
			 c->order, s->k_dim, s->v_dim, s->group, s->page_tokens,
			 s->rope_order, c->dtype, s->window, s->len[0],
			 c->nr_rows);
}

void call_compare(const struct call *c, const struct answer *got,
		    const struct answer *want)
{
	const uint32_t dim = c->w->v_out;
	size_t i, d;

	for (i = 0; i < c->nr_out; i++) {
		double diff = 0, sum = 1e-30, err;

		for (d = i * dim; d < (i + 1) * dim; d++) {
			double x = dtype_load(c->dtype, want->out, d);
			double e = dtype_load(c->dtype, got->out, d) - x;

			diff += e * e;
			sum += x * x;
		}
		err = sqrt(diff / sum);
		bounded(c, err, call_bounds[c->order][c->dtype], "out");
		if (err > call_worst[c->order][c->dtype])
			call_worst[c->order][c->dtype] = err;
		err = fabs((double)got->lse[i] - want->lse[i]);
		bounded(c, err / fmax(1, fabs(want->lse[i])),
			lse_bounds[c->order], "lse");
	}
}

/* Row @at and on of @whole are @part, bit for bit. */
void call_same(const struct call *c, const struct answer *whole, size_t at,
		 const struct answer *part)
{
	const size_t row = c->w->v_out * dtype_bytes(c->dtype);

	assert_memory_equal((char *)whole->out + at * row, part->out,
			    c->nr_out * row);
	assert_memory_equal(whole->lse + at, part->lse, c->nr_out * 4);
}

/* Against float64, with and without scratch. Leaves what came out. */
void call_check(struct call *c, struct answer *got)
{
	struct answer want, split;

	call_ref(c, &want);
	call_cuda(c, 0, got);
	call_compare(c, got, &want);
	call_cuda(c, 1, &split);
	call_same(c, got, 0, &split);
	answer_fini(&want);
	answer_fini(&split);
}

void rows_check(struct world *w, uint32_t order, uint32_t dtype,
		       uint32_t first, uint32_t n)
{
	struct answer got;
	struct call c;

	call_init(&c, w, order, dtype, first, n);
	call_check(&c, &got);
	answer_fini(&got);
	call_fini(&c);
}
