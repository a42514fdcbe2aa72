// SPDX-License-Identifier: Apache-2.0
/*
 * append.c - rows stored in pages on CUDA: the reference's bytes and flags,
 * for every format that is appended in place and every basis of open pages,
 * in either order of codes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "kernels/host/host.h"
#include "tests/cuda/records.h"

#define NR(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_SEQS 40u
#define GAP 3u /* elements between rows of the caller's */

/* A format, and one that says the basis. */
struct kind {
	uint32_t format, of;
};

static const struct kind kinds[] = {
	{ KVD_F16, KVD_F16 },	     { KVD_BF16, KVD_BF16 },
	{ KVD_INT8, KVD_INT8 },	     { KVD_FP8_E4M3, KVD_FP8_E4M3 },
	{ KVD_FP8_E5M2, KVD_FP8_E5M2 }, { KVD_INT4, KVD_INT4 },
	{ KVD_INT4H, KVD_INT4H },    { KVD_F16, KVD_KVARN4 },
	{ KVD_BF16, KVD_KVARN2 },    { KVD_F16, KVD_OSCAR2 },
	{ KVD_BF16, KVD_OSCAR2 },    { KVD_F16, KVD_KVQUANT3 },
	{ KVD_INT8, KVD_OSCAR2 },    { KVD_INT4, KVD_KVARN4 },
};

/* Sequences in pages, on both sides; even and odd pages are of two kinds. */
struct world {
	struct kind k, v;
	uint32_t order;
	uint32_t tokens, k_dim, v_dim;
	uint32_t dtype;
	uint32_t nr_pages;

	struct kvd_geometry g;
	struct tables tables;
	struct page_layout row[KV_MAX_LAYOUTS], l[KV_MAX_LAYOUTS];
	uint32_t page_bytes;
	struct kv_page_ref *pages;
	uint32_t *filled; /* tokens of each page */
	uint8_t *host, *image;
	cu_ptr segment;
};

static void world_init(struct world *w, uint32_t nr_pages)
{
	struct kvd_geometry tiled;
	uint32_t i;

	w->g = records_geometry(w->k.of, w->v.of, w->tokens, w->k_dim,
				w->v_dim);
	tables_init(&w->tables, &w->g);
	tiled = w->g;
	tiled.tile_order = w->order;
	assert_null(kvd_geometry_check(&tiled));
	w->page_bytes = 0;
	for (i = 0; i < 2; i++) { /* the second is of bf16 */
		uint32_t k = i ? (uint32_t)KVD_BF16 : w->k.format;
		uint32_t v = i ? (uint32_t)KVD_BF16 : w->v.format;

		assert_int_equal(page_layout_init(&w->row[i], &w->g, 0, k, v),
				 0);
		assert_int_equal(page_layout_init(&w->l[i], &tiled, 0, k, v),
				 0);
		if (w->row[i].page_bytes > w->page_bytes)
			w->page_bytes = w->row[i].page_bytes;
	}
	w->nr_pages = nr_pages;
	w->pages = xcalloc(nr_pages, sizeof(*w->pages));
	w->filled = xcalloc(nr_pages, sizeof(*w->filled));
	for (i = 0; i < nr_pages; i++)
		w->pages[i] = (struct kv_page_ref){
			.offset = (uint64_t)w->page_bytes * (nr_pages - 1 - i),
			.layout = i % 4 == 3,
		};
	w->host = xcalloc(w->page_bytes, nr_pages);
	w->image = xcalloc(w->page_bytes, nr_pages);
	memset(w->host, RECORDS_GARBAGE, (size_t)w->page_bytes * nr_pages);
	w->segment = gpu_copy(w->host, (size_t)w->page_bytes * nr_pages);
}

static void world_fini(struct world *w)
{
	tables_fini(&w->tables);
	gpu_free(w->segment);
	free(w->pages);
	free(w->filled);
	free(w->host);
	free(w->image);
}

static void pages_check(struct world *w)
{
	gpu_read(w->image, w->segment, (size_t)w->page_bytes * w->nr_pages);
	for (uint32_t i = 0; i < w->nr_pages; i++) {
		const struct kv_page_ref *p = &w->pages[i];

		page_same(&w->row[p->layout], w->host + p->offset,
			  &w->l[p->layout], w->image + p->offset,
			  w->filled[i]);
	}
}

static void device_append(struct world *w, struct kv_append_args *a,
			  uint32_t *flags)
{
	const uint32_t size = dtype_bytes(a->dtype);
	cu_ptr d[6];

	d[0] = gpu_copy(&w->segment, sizeof(w->segment));
	d[1] = gpu_copy(w->pages, w->nr_pages * sizeof(*w->pages));
	d[2] = gpu_copy(a->seqs, a->nr_seqs * sizeof(*a->seqs));
	d[3] = gpu_copy(a->k, a->nr_rows * a->k_stride * size);
	d[4] = gpu_copy(a->v, a->nr_rows * a->v_stride * size);
	d[5] = gpu_copy(flags, a->nr_seqs * sizeof(*flags));
	memcpy(a->layouts, w->l, sizeof(a->layouts));
	a->bases = (void *const *)(uintptr_t)d[0];
	a->pages = (void *)(uintptr_t)d[1];
	a->seqs = (void *)(uintptr_t)d[2];
	a->k = (void *)(uintptr_t)d[3];
	a->v = (void *)(uintptr_t)d[4];
	a->nonfinite = (void *)(uintptr_t)d[5];
	a->tables = (void *)(uintptr_t)w->tables.device;
	assert_int_equal(kv_cuda_append(gpu_kernels, a, NULL), 0);
	gpu_read(flags, d[5], a->nr_seqs * sizeof(*flags));
	for (int i = 0; i < 6; i++)
		gpu_free(d[i]);
}

static void *rows_random(const struct world *w, uint32_t nr, uint32_t dim)
{
	const uint32_t wide = RECORDS_HEADS * dim + GAP;
	float *x = xcalloc((size_t)nr * wide, sizeof(*x));
	void *rows = xcalloc((size_t)nr * wide, dtype_bytes(w->dtype));

	if (nr)
		values_random(x, nr, wide);
	for (size_t i = 0; i < (size_t)nr * wide; i++)
		dtype_store(w->dtype, rows, i, x[i]);
	free(x);
	return rows;
}

/* Appends rows at random on both sides. Return: sequences that are flagged. */
static uint32_t append(struct world *w, const struct kv_seq *seqs,
		       uint32_t nr_seqs, uint32_t nr_rows)
{
	uint32_t want[MAX_SEQS] = { 0 }, got[MAX_SEQS] = { 0 }, bad = 0, i, n;
	void *host = w->host;
	struct kv_append_args a = {
		.bases = &host,
		.pages = w->pages,
		.seqs = seqs,
		.nr_seqs = nr_seqs,
		.nr_rows = nr_rows,
		.layer = records_below(RECORDS_LAYERS),
		.dtype = w->dtype,
		.k = rows_random(w, nr_rows, w->k_dim),
		.v = rows_random(w, nr_rows, w->v_dim),
		.k_stride = RECORDS_HEADS * w->k_dim + GAP,
		.v_stride = RECORDS_HEADS * w->v_dim + GAP,
		.tables = &w->tables.host,
		.nonfinite = want,
		.nr_threads = 1,
	};
	const void *k = a.k, *v = a.v;

	memcpy(a.layouts, w->row, sizeof(a.layouts));
	host_kernels_ref.append(&a);
	device_append(w, &a, got);
	for (i = 0; i < nr_seqs; i++) {
		if (got[i] != want[i])
			fail_msg("%s: sequence %u is flagged %u",
				 kvd_format_name(w->k.format), i, got[i]);
		bad += got[i];
		for (n = 0; n < seqs[i].nr_rows; n++) {
			uint32_t pos = seqs[i].pos + n;

			w->filled[kv_seq_page(&seqs[i], pos / w->tokens)] =
				pos % w->tokens + 1;
		}
	}
	free((void *)(uintptr_t)k);
	free((void *)(uintptr_t)v);
	return bad;
}

/* ---- tests ---- */

static struct world small(uint32_t kind, uint32_t order)
{
	return (struct world){ .k = kinds[kind],
			       .v = kinds[kind],
			       .order = order,
			       .tokens = 32,
			       .k_dim = 32,
			       .v_dim = 64,
			       .dtype = records_below(KVD_NR_DTYPES) };
}

/* Every length, of a page and a bit of the next, in one call. */
static void test_tails(void **state)
{
	uint32_t kind, order, n, bad = 0, nr = 0;

	for (kind = 0; kind < NR(kinds); kind++)
		for (order = 0; order < KVD_NR_TILE_ORDERS; order++)
			for (n = 1; n <= 32 + 3; n++) {
				struct world w = small(kind, order);
				struct kv_seq s = { .nr_rows = n };

				world_init(&w, 2);
				bad += append(&w, &s, 1, n);
				pages_check(&w);
				world_fini(&w);
				nr++;
			}
	assert_true(bad && bad < nr); /* some of each */
}

/* The same in several calls: what is there stays. */
static void test_cuts(void **state)
{
	uint32_t kind, order, most;

	for (kind = 0; kind < NR(kinds); kind++)
		for (order = 0; order < KVD_NR_TILE_ORDERS; order++)
			for (most = 1; most <= 40; most *= 3) {
				struct world w = small(kind, order);
				struct kv_seq s = { .pos = 0 };

				world_init(&w, 2);
				for (; s.pos < 32 + 17; s.pos += s.nr_rows) {
					s.nr_rows = most == 1 ?
						1 :
						1 + records_below(most);
					s.nr_rows = s.nr_rows < 64 - s.pos ?
							    s.nr_rows :
							    64 - s.pos;
					append(&w, &s, 1, s.nr_rows);
				}
				pages_check(&w);
				world_fini(&w);
			}
}

static uint32_t random_dim(uint32_t order)
{
	static const uint32_t dims[] = { 8, 24, 40, 72, 80, 200 };

	if (order || records_below(2))
		return 32u << records_below(4);
	return dims[records_below(NR(dims))];
}

static struct world random_world(uint32_t order)
{
	struct world w = { .k = kinds[records_below(NR(kinds))],
			   .v = kinds[records_below(NR(kinds))],
			   .order = order,
			   .tokens = 32u << records_below(3),
			   .dtype = records_below(KVD_NR_DTYPES) };

	w.k_dim = random_dim(order);
	w.v_dim = random_dim(order);
	if (!order && w.k.of != KVD_KVQUANT3 && !records_below(6))
		w.v_dim = 0;
	return w;
}

/* Many sequences in one call, in some order of rows, some with none. */
static void test_batches(void **state)
{
	for (uint32_t i = 0; i < 80; i++) {
		struct world w = random_world(i % 2);
		const uint32_t nr = i < 4 ? MAX_SEQS : 1 + records_below(5);
		struct kv_seq seqs[MAX_SEQS];
		uint32_t rows = 0, pages = 0, n;

		for (n = 0; n < nr; n++) {
			struct kv_seq *s = &seqs[nr - 1 - n];

			*s = (struct kv_seq){
				.first_page = pages,
				.first_row = rows,
				.nr_rows = records_below(4) ?
						   records_below(3) :
						   records_below(50),
				.pos = records_below(2 * w.tokens),
			};
			rows += s->nr_rows;
			pages += (s->pos + s->nr_rows) / w.tokens + 1;
		}
		world_init(&w, pages);
		append(&w, seqs, nr, rows);
		if (rows) /* and where those ended */
			for (n = 0; n < nr; n++)
				seqs[n].pos += seqs[n].nr_rows;
		for (n = rows = 0; n < nr; n++) {
			const struct kv_seq *s = &seqs[n];

			seqs[n].nr_rows = s->pos % w.tokens != 0;
			seqs[n].first_row = rows;
			rows += seqs[n].nr_rows;
		}
		append(&w, seqs, nr, rows);
		pages_check(&w);
		world_fini(&w);
	}
}

/* The widest rows that there are. */
static void test_wide(void **state)
{
	for (uint32_t i = 0; i < NR(kinds); i++) {
		struct world w = { .k = kinds[i],
				   .v = kinds[i],
				   .order = i % 2,
				   .tokens = 32,
				   .k_dim = 1024,
				   .v_dim = 512 };
		struct kv_seq s = { .pos = 5, .nr_rows = 14 };

		world_init(&w, 1);
		append(&w, &s, 1, s.nr_rows);
		pages_check(&w);
		world_fini(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tails),
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_wide),
	};

	records_seed();
	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
