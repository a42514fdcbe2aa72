// SPDX-License-Identifier: Apache-2.0
/*
 * kernels.c - CUDA kernels against the reference: pages bit for bit, attention
 * against float64 over the same pages, and against itself, bit for bit.
 *
 * Everything crosses by copies, so this runs on a GPU as on the double.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/cuda/cuda.h"
#include "kernels/host/half.h"
#include "kernels/host/host.h"

#define NR_SEGMENTS 2u
#define GARBAGE 0xff	/* NaN in every format */

static const struct cuda_driver *cu;
static struct kv_cuda *kc;
static uint32_t run_seed;	/* KVD_TEST_SEED; other values in every test */

/* A shape, and sequences of it in pages on both sides. */
struct world {
	uint32_t page_tokens, nr_heads, nr_q_heads, k_dim, v_dim;
	uint32_t k_format, v_format;	/* of layout 0 */
	uint32_t other_format;		/* of layout 1: odd pages, if mixed */
	int mixed;
	uint32_t dtype;
	uint32_t window;
	float softcap;
	int sinks;

	struct page_layout layouts[KV_MAX_LAYOUTS];
	uint32_t page_bytes, nr_pages;
	uint64_t segment_bytes;
	uint8_t *host[NR_SEGMENTS];
	cu_ptr device[NR_SEGMENTS];
	struct kv_page_ref *pages;
	float *sink_logits;
	uint32_t seed;
};

static void must(cu_result err)
{
	assert_int_equal(err, CU_OK);
}

static cu_ptr to_device(const void *src, size_t bytes)
{
	cu_ptr p;

	must(cu->cuMemAlloc(&p, bytes + 1));
	must(cu->cuMemcpyHtoDAsync(p, src, bytes, NULL));
	return p;
}

static void to_host(void *dst, cu_ptr src, size_t bytes)
{
	must(cu->cuMemcpyDtoHAsync(dst, src, bytes, NULL));
	must(cu->cuStreamSynchronize(NULL));
}

static void *xcalloc(size_t n, size_t bytes)
{
	void *p = calloc(n + 1, bytes);

	assert_non_null(p);
	return p;
}

/* Roughly normal, sigma 1. */
static float random_value(uint32_t *seed)
{
	float sum = 0;

	for (int i = 0; i < 6; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		sum += (float)(*seed >> 8) / (1 << 24) - 0.5f;
	}
	return sum * 1.41f;
}

static void *random_rows(struct world *w, size_t elements)
{
	void *p = xcalloc(elements, 4);

	for (size_t i = 0; i < elements; i++)
		dtype_store(w->dtype, p, i, random_value(&w->seed));
	return p;
}

/* @nr_pages pages in shuffled places of two segments full of garbage. */
static void world_init(struct world *w, uint32_t nr_pages)
{
	struct kvd_geometry g = { .size = sizeof(g),
				  .page_tokens = w->page_tokens,
				  .k_format = w->k_format,
				  .v_format = w->v_format,
				  .nr_groups = 1,
				  .groups = { { .nr_layers = 2,
						.nr_kv_heads = w->nr_heads,
						.k_dim = w->k_dim,
						.v_dim = w->v_dim } } };

	assert_null(kvd_geometry_check(&g));
	assert_int_equal(page_layout_init(&w->layouts[0], &g, 0, w->k_format,
					  w->v_format), 0);
	assert_int_equal(page_layout_init(&w->layouts[1], &g, 0,
					  w->other_format, w->other_format), 0);
	w->page_bytes = w->layouts[0].page_bytes > w->layouts[1].page_bytes ?
				w->layouts[0].page_bytes :
				w->layouts[1].page_bytes;
	w->nr_pages = nr_pages;
	w->segment_bytes = (uint64_t)w->page_bytes * (nr_pages / 2 + 1);
	w->pages = xcalloc(nr_pages, sizeof(*w->pages));
	for (uint32_t i = 0; i < nr_pages; i++)
		w->pages[i] = (struct kv_page_ref){
			.offset = (uint64_t)w->page_bytes *
				  ((nr_pages - 1 - i) / 2),
			.segment = i % NR_SEGMENTS,
			.layout = w->mixed ? i % 2 : 0 };
	for (uint32_t s = 0; s < NR_SEGMENTS; s++) {
		w->host[s] = xcalloc(w->segment_bytes, 1);
		memset(w->host[s], GARBAGE, w->segment_bytes);
		w->device[s] = to_device(w->host[s], w->segment_bytes);
	}
	w->sink_logits = xcalloc(w->nr_q_heads, sizeof(float));
	for (uint32_t h = 0; h < w->nr_q_heads; h++)
		w->sink_logits[h] = random_value(&w->seed);
}

static void world_fini(struct world *w)
{
	for (uint32_t s = 0; s < NR_SEGMENTS; s++) {
		free(w->host[s]);
		must(cu->cuMemFree(w->device[s]));
	}
	free(w->pages);
	free(w->sink_logits);
}

static void same_pages(const struct world *w)
{
	uint8_t *got = xcalloc(w->segment_bytes, 1);

	for (uint32_t s = 0; s < NR_SEGMENTS; s++) {
		to_host(got, w->device[s], w->segment_bytes);
		assert_memory_equal(got, w->host[s], w->segment_bytes);
	}
	free(got);
}

/* Appends the same rows on both sides. */
static void append_rows(struct world *w, const struct kv_seq *seqs,
			uint32_t nr_seqs, uint32_t nr_rows, const void *k,
			const void *v, uint32_t *nonfinite)
{
	size_t k_stride = (size_t)w->nr_heads * w->k_dim;
	size_t v_stride = (size_t)w->nr_heads * w->v_dim;
	uint32_t size = dtype_bytes(w->dtype);
	struct kv_append_args a = { .bases = (void *const *)w->host,
				    .pages = w->pages,
				    .seqs = seqs,
				    .nr_seqs = nr_seqs,
				    .nr_rows = nr_rows,
				    .layer = 1,
				    .dtype = w->dtype,
				    .k = k,
				    .v = v,
				    .k_stride = k_stride,
				    .v_stride = v_stride,
				    .nonfinite = nonfinite,
				    .nr_threads = 1 };
	uint32_t *flags = xcalloc(nr_seqs, 4);
	cu_ptr d[6];

	memcpy(a.layouts, w->layouts, sizeof(a.layouts));
	d[0] = to_device(w->device, sizeof(w->device));
	d[1] = to_device(w->pages, w->nr_pages * sizeof(*w->pages));
	d[2] = to_device(seqs, nr_seqs * sizeof(*seqs));
	d[3] = to_device(k, nr_rows * k_stride * size);
	d[4] = to_device(v, nr_rows * v_stride * size);
	d[5] = to_device(nonfinite, nr_seqs * 4);
	host_kernels_ref.append(&a);
	a.bases = (void *const *)(uintptr_t)d[0];
	a.pages = (void *)(uintptr_t)d[1];
	a.seqs = (void *)(uintptr_t)d[2];
	a.k = (void *)(uintptr_t)d[3];
	a.v = (void *)(uintptr_t)d[4];
	a.nonfinite = (void *)(uintptr_t)d[5];
	assert_int_equal(kv_cuda_append(kc, &a, NULL), 0);
	to_host(flags, d[5], nr_seqs * 4);
	assert_memory_equal(flags, nonfinite, nr_seqs * 4);
	free(flags);
	for (int i = 0; i < 6; i++)
		must(cu->cuMemFree(d[i]));
}

/* A prompt of @n tokens for sequence @s, whose pages start at first_page. */
static void fill(struct world *w, struct kv_seq *s, uint32_t n)
{
	struct kv_seq all = *s;
	void *k = random_rows(w, (size_t)n * w->nr_heads * w->k_dim);
	void *v = random_rows(w, (size_t)n * w->nr_heads * w->v_dim);
	uint32_t bad = 0;

	all.nr_rows = n;
	all.first_row = 0;
	all.pos = 0;
	append_rows(w, &all, 1, n, k, v, &bad);
	assert_int_equal(bad, 0);
	free(k);
	free(v);
}

static uint32_t value_dim(const struct world *w)
{
	return w->v_dim ? w->v_dim : w->k_dim;
}

static void attend_args(struct world *w, struct kv_attend_args *a,
			const struct kv_seq *seqs, uint32_t nr_seqs,
			uint32_t nr_rows)
{
	*a = (struct kv_attend_args){
		.seqs = seqs,
		.nr_seqs = nr_seqs,
		.nr_rows = nr_rows,
		.layer = 1,
		.dtype = w->dtype,
		.nr_q_heads = w->nr_q_heads,
		.window = w->window,
		.scale = 1.0f / sqrtf((float)w->k_dim),
		.softcap = w->softcap,
		.q_stride = (uint64_t)w->nr_q_heads * w->k_dim,
		.out_stride = (uint64_t)w->nr_q_heads * value_dim(w),
	};
	memcpy(a->layouts, w->layouts, sizeof(a->layouts));
}

/* What an attention gave. */
struct answer {
	void *out;
	float *lse;
	size_t out_bytes;
	size_t nr_lse;
};

static void answer_free(struct answer *r)
{
	free(r->out);
	free(r->lse);
}

static void answer_init(const struct world *w, struct answer *r,
			uint32_t nr_rows)
{
	r->nr_lse = (size_t)nr_rows * w->nr_q_heads;
	r->out_bytes = r->nr_lse * value_dim(w) * dtype_bytes(w->dtype);
	r->out = xcalloc(r->out_bytes, 1);
	r->lse = xcalloc(r->nr_lse, 4);
}

static void attend_host(struct world *w, const struct kv_seq *seqs,
			uint32_t nr_seqs, uint32_t nr_rows, const void *q,
			struct answer *r)
{
	struct kv_attend_args a;

	attend_args(w, &a, seqs, nr_seqs, nr_rows);
	answer_init(w, r, nr_rows);
	a.bases = (const void *const *)w->host;
	a.pages = w->pages;
	a.q = q;
	a.out = r->out;
	a.lse = r->lse;
	a.sinks = w->sinks ? w->sink_logits : NULL;
	assert_int_equal(host_kernels_ref.attend(&a), 0);
}

static void attend_cuda(struct world *w, const struct kv_seq *seqs,
			uint32_t nr_seqs, uint32_t nr_rows, const void *q,
			int scratch, struct answer *r)
{
	struct kv_cuda_scratch sc = { 0 };
	struct kv_attend_args a;
	cu_ptr d[7];

	attend_args(w, &a, seqs, nr_seqs, nr_rows);
	answer_init(w, r, nr_rows);
	d[0] = to_device(w->device, sizeof(w->device));
	d[1] = to_device(w->pages, w->nr_pages * sizeof(*w->pages));
	d[2] = to_device(seqs, nr_seqs * sizeof(*seqs));
	d[3] = to_device(q, nr_rows * a.q_stride * dtype_bytes(w->dtype));
	d[4] = to_device(r->out, r->out_bytes);
	d[5] = to_device(r->lse, r->nr_lse * 4);
	d[6] = to_device(w->sink_logits, w->nr_q_heads * 4);
	a.bases = (void *)(uintptr_t)d[0];
	a.pages = (void *)(uintptr_t)d[1];
	a.seqs = (void *)(uintptr_t)d[2];
	a.q = (void *)(uintptr_t)d[3];
	a.out = (void *)(uintptr_t)d[4];
	a.lse = (void *)(uintptr_t)d[5];
	a.sinks = w->sinks ? (void *)(uintptr_t)d[6] : NULL;
	for (uint32_t i = 0; i < nr_seqs; i++) {
		if (seqs[i].pos + seqs[i].nr_rows > sc.batch.max_tokens)
			sc.batch.max_tokens = seqs[i].pos + seqs[i].nr_rows;
		if (seqs[i].nr_rows > sc.batch.max_rows)
			sc.batch.max_rows = seqs[i].nr_rows;
	}
	sc.bytes = scratch ? kv_cuda_attend_bytes(kc, &a, &sc.batch) : 0;
	must(cu->cuMemAlloc(&sc.ptr, sc.bytes + 1));
	must(cu->cuMemsetD8Async(sc.ptr, GARBAGE, sc.bytes, NULL));
	assert_int_equal(kv_cuda_attend(kc, &a, &sc, NULL), 0);
	to_host(r->out, d[4], r->out_bytes);
	to_host(r->lse, d[5], r->nr_lse * 4);
	must(cu->cuMemFree(sc.ptr));
	for (int i = 0; i < 7; i++)
		must(cu->cuMemFree(d[i]));
}

/* Within rounding of the output's type, of float sums and of exp. */
static void close_to(const struct world *w, const struct answer *got,
		     const struct answer *want)
{
	float eps = w->dtype == KVD_DTYPE_BF16 ? 1e-2f :
		    w->dtype == KVD_DTYPE_F16  ? 1e-3f :
						 2e-5f;

	for (size_t i = 0; i < got->nr_lse * value_dim(w); i++) {
		float x = dtype_load(w->dtype, got->out, i);
		float y = dtype_load(w->dtype, want->out, i);

		if (!(fabsf(x - y) <= eps * (1 + fabsf(y))))
			fail_msg("out[%zu] is %g, not %g", i, x, y);
	}
	for (size_t i = 0; i < got->nr_lse; i++)
		if (!(fabsf(got->lse[i] - want->lse[i]) <=
		      2e-5f * (1 + fabsf(want->lse[i]))))
			fail_msg("lse[%zu] is %g, not %g", i, got->lse[i],
				 want->lse[i]);
}

static void same_bits(const struct answer *a, const struct answer *b)
{
	assert_memory_equal(a->out, b->out, a->out_bytes);
	assert_memory_equal(a->lse, b->lse, a->nr_lse * 4);
}

static void attend_check(struct world *w, const struct kv_seq *seqs,
			 uint32_t nr_seqs, uint32_t nr_rows)
{
	void *q = random_rows(w, (size_t)nr_rows * w->nr_q_heads * w->k_dim);
	struct answer want, serial, split;

	attend_host(w, seqs, nr_seqs, nr_rows, q, &want);
	attend_cuda(w, seqs, nr_seqs, nr_rows, q, 0, &serial);
	attend_cuda(w, seqs, nr_seqs, nr_rows, q, 1, &split);
	close_to(w, &serial, &want);
	same_bits(&serial, &split);
	answer_free(&want);
	answer_free(&serial);
	answer_free(&split);
	free(q);
}

/* ---- tests ---- */

static const uint32_t formats[] = { KVD_F16, KVD_BF16, KVD_INT8 };

static struct world small(uint32_t format)
{
	return (struct world){ .page_tokens = 32,
			       .nr_heads = 2,
			       .nr_q_heads = 4,
			       .k_dim = 32,
			       .v_dim = 24,
			       .k_format = format,
			       .v_format = format,
			       .dtype = KVD_DTYPE_F32,
			       .seed = run_seed + 7 + format };
}

/* Three sequences interleaved in one call, each input type. */
static void test_append(void **state)
{
	for (uint32_t f = 0; f < 3; f++)
		for (uint32_t dtype = 0; dtype < KVD_NR_DTYPES; dtype++) {
			struct world w = small(formats[f]);
			const struct kv_seq seqs[] = {
				{ 0, 5, 40, 0 }, { 3, 0, 5, 31 }, { 6, 45, 1, 63 },
			};
			uint32_t bad[3] = { 0 };
			void *k, *v;

			w.dtype = dtype;
			world_init(&w, 9);
			k = random_rows(&w, 46 * 2 * 32);
			v = random_rows(&w, 46 * 2 * 24);
			append_rows(&w, seqs, 3, 46, k, v, bad);
			assert_memory_equal(bad, ((uint32_t[3]){ 0 }), 12);
			same_pages(&w);
			free(k);
			free(v);
			world_fini(&w);
		}
}

/* What no format, or not every format, can hold. */
static void test_extremes(void **state)
{
	static const float values[] = { NAN,	 INFINITY, -INFINITY, 65504,
					65519,	 65520,	   -70000,    1e-8f,
					6.0e-8f, 3e38f,	   3.4e38f,   -0.0f,
					0.0f,	 1e-40f,   2.98e-8f,  -65504 };
	const uint32_t n = sizeof(values) / sizeof(values[0]);

	for (uint32_t f = 0; f < 3; f++) {
		struct world w = small(formats[f]);

		world_init(&w, n);
		for (uint32_t i = 0; i < n; i++) {
			struct kv_seq s = { i, 0, 3, 7 };
			float *k = random_rows(&w, 3 * 2 * 32);
			float *v = random_rows(&w, 3 * 2 * 24);
			uint32_t bad = 0;

			k[32 + 5] = values[i];
			for (uint32_t d = 0; d < 24; d++) /* one whole row */
				v[2 * 24 + d] = values[i];
			append_rows(&w, &s, 1, 3, k, v, &bad);
			free(k);
			free(v);
		}
		same_pages(&w);
		world_fini(&w);
	}
}

/* Every length of tail, with garbage behind it. */
static void test_tails(void **state)
{
	for (uint32_t f = 0; f < 3; f++) {
		struct world w = small(formats[f]);
		struct kv_seq s = { 0 };

		w.nr_q_heads = 6;
		world_init(&w, 4);
		for (uint32_t n = 1; n <= 2 * w.page_tokens + 1; n++) {
			fill(&w, &s, n);
			s.pos = n - 1;
			s.nr_rows = 1;
			attend_check(&w, &s, 1, 1);
		}
		world_fini(&w);
	}
}

/* A prompt longer than a split, cut in several ways and row by row. */
static void test_chunks(void **state)
{
	static const uint32_t cuts[] = { 700, 64, 33, 1 };
	const uint32_t first = 470, n = 100;

	for (uint32_t f = 0; f < 3; f++) {
		struct world w = small(formats[f]);
		struct kv_seq s = { 0, 0, n, first };
		struct answer whole;
		char *q;

		w.page_tokens = f == 1 ? 128 : 64;
		world_init(&w, 10);
		fill(&w, &s, first + n);
		attend_check(&w, &s, 1, n);
		q = random_rows(&w, (size_t)n * 4 * 32);
		attend_cuda(&w, &s, 1, n, q, 0, &whole);
		for (uint32_t c = 0; c < 4; c++)
			for (uint32_t at = 0; at < n; at += cuts[c]) {
				uint32_t m = n - at < cuts[c] ? n - at : cuts[c];
				struct kv_seq part = { 0, 0, m, first + at };
				struct answer r;

				attend_cuda(&w, &part, 1, m, q + at * 4 * 32 * 4,
					    1, &r);
				assert_memory_equal(r.out, (char *)whole.out +
							at * 4 * 24 * 4,
						    r.out_bytes);
				answer_free(&r);
			}
		answer_free(&whole);
		free(q);
		world_fini(&w);
	}
}

/* Several sequences; windows, caps, sinks; dims, groups and types. */
static void test_shapes(void **state)
{
	static const struct world shapes[] = {
		{ 32, 1, 1, 8, 8, .dtype = KVD_DTYPE_F16 },
		{ 64, 2, 10, 64, 64, .window = 50, .dtype = KVD_DTYPE_BF16 },
		{ 128, 1, 8, 128, 128, .softcap = 5, .sinks = 1 },
		{ 32, 2, 6, 40, 0, KVD_INT8, KVD_INT8, .window = 1 },
		{ 32, 1, 3, 576, 512, KVD_INT8, KVD_F16, .sinks = 1 },
		{ 32, 1, 2, 1024, 1024, KVD_BF16, KVD_BF16 },
		{ 64, 2, 4, 32, 16, KVD_F16, KVD_F16, KVD_INT8, .mixed = 1,
		  .window = 100, .sinks = 1 },
		{ 32, 2, 4, 32, 16, KVD_BF16, KVD_INT8, KVD_F16, .mixed = 1 },
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct world w = shapes[i];
		struct kv_seq seqs[] = { { 0, 3, 2, 130 },
					 { 6, 0, 3, 0 },
					 { 8, 5, 1, 77 } };

		w.seed = run_seed + 99;
		world_init(&w, 12);
		fill(&w, &seqs[0], 132);
		fill(&w, &seqs[1], 3);
		fill(&w, &seqs[2], 78);
		attend_check(&w, seqs, 3, 6);
		world_fini(&w);
	}
}

static void test_dequant(void **state)
{
	for (uint32_t f = 0; f < 3; f++) {
		struct world w = small(formats[f]);
		struct kv_seq s = { 0 };
		float want[32 * 32], got[32 * 32];
		cu_ptr out;

		world_init(&w, 1);
		fill(&w, &s, 32);
		out = to_device(want, sizeof(want));
		for (uint32_t v = 0; v < 2; v++) {
			struct kv_cuda_dequant d = {
				.layout = &w.layouts[0],
				.page = w.device[0] + w.pages[0].offset,
				.layer = 1,
				.head = 1,
				.is_v = v,
				.nr_tokens = 32,
				.out = out
			};

			host_kernels_ref.dequant(&w.layouts[0],
						 w.host[0] + w.pages[0].offset,
						 1, 1, (int)v, 32, NULL, want);
			assert_int_equal(kv_cuda_dequant(kc, &d, NULL), 0);
			to_host(got, out, sizeof(got));
			assert_memory_equal(got, want,
					    32 * (v ? 24 : 32) * sizeof(float));
		}
		must(cu->cuMemFree(out));
		world_fini(&w);
	}
}

static int setup(void **state)
{
	char why[256] = "";
	const char *s = getenv("KVD_TEST_SEED");
	cu_context ctx;

	run_seed = s ? (uint32_t)strtoul(s, NULL, 0) : 0;
	printf("KVD_TEST_SEED=%u\n", run_seed);
	cu = cuda_driver(why, sizeof(why));
	if (!cu || cu->cuInit(0) || cu->cuDevicePrimaryCtxRetain(&ctx, 0) ||
	    cu->cuCtxSetCurrent(ctx) || kv_cuda_new(cu, &kc, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	kv_cuda_free(kc);
	return cu->cuDevicePrimaryCtxRelease(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append), cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_tails),  cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_shapes), cmocka_unit_test(test_dequant),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
