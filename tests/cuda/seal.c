// SPDX-License-Identifier: Apache-2.0
/*
 * seal.c - pages stored once more on CUDA: the reference's bytes and flags,
 * for every format, in either order of codes.
 *
 * The reference makes pages in the order of rows; of those in tile order every
 * code is compared, and every byte that is not codes.
 */
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
#define PAGES 3u

/* What is stored in what; pages come from layouts 0 and 2 in turn. */
struct job {
	uint32_t from[2];
	uint32_t k_format, v_format;
	uint32_t order;
	uint32_t tokens, k_dim, v_dim;
	uint32_t nr_tokens; /* 0: all */
	uint32_t nr_pages;
};

/* Segment 0 has sources, 1 what becomes of them. */
struct run {
	struct kvd_geometry g;
	struct tables tables;
	struct page_layout row[KV_MAX_LAYOUTS], l[KV_MAX_LAYOUTS];
	uint32_t page_bytes;
	uint8_t *host[2], *image[2];
	struct kv_convert_page pages[PAGES];
	uint32_t nonfinite[PAGES];
};

static void source_put(const struct page_layout *l, uint8_t *page)
{
	float *x = xcalloc(KVD_MAX_PAGE_TOKENS * KVD_MAX_DIM, sizeof(*x));
	uint32_t r, v, i;

	for (r = 0; r < RECORDS_LAYERS * RECORDS_HEADS; r++)
		for (v = 0; v <= (l->v_dim > 0); v++) {
			uint32_t dim = v ? l->v_dim : l->k_dim;
			uint16_t *h = (uint16_t *)(page + r * l->record_bytes +
						   (v ? l->v_codes : 0));

			values_random(x, l->page_tokens, dim);
			for (i = 0; i < l->page_tokens * dim; i++)
				h[i] = (v ? l->v_format : l->k_format) ==
						       KVD_F16 ?
					       f16_from_f32(x[i]) :
					       bf16_from_f32(x[i]);
		}
	free(x);
}

/* Page @i as a source: of 16 bits, or what the reference makes of those. */
static void source_make(struct run *r, uint32_t i, uint32_t layout)
{
	const struct page_layout *l = &r->row[layout];
	uint8_t *page = r->host[0] + (size_t)i * r->page_bytes;
	struct kv_convert_page p = { .from = { 0, 0, 0 },
				     .to = { 0, 1, 1 },
				     .nr_tokens = l->page_tokens };
	struct kv_convert_args a = { .pages = &p,
				     .nr_pages = 1,
				     .nr_layers = RECORDS_LAYERS,
				     .tables = &r->tables.host,
				     .nonfinite = &(uint32_t){ 0 },
				     .nr_threads = 1 };
	void *bases[2] = { NULL, page };

	if (format_coding(l->k_format) == CODING_16) {
		source_put(l, page);
		return;
	}
	assert_int_equal(page_layout_init(&a.layouts[0], &r->g, 0, KVD_F16,
					  KVD_BF16), 0);
	a.layouts[1] = *l;
	bases[0] = xcalloc(a.layouts[0].page_bytes, 1);
	a.bases = bases;
	source_put(&a.layouts[0], bases[0]);
	host_kernels_ref.convert(&a);
	free(bases[0]);
}

static void layouts_init(struct run *r, const struct job *j)
{
	const uint32_t k[3] = { j->from[0], j->k_format, j->from[1] };
	const uint32_t v[3] = { j->from[0], j->v_format, j->from[1] };
	struct kvd_geometry tiled = r->g;

	tiled.tile_order = j->order;
	assert_null(kvd_geometry_check(&tiled));
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(page_layout_init(&r->row[i], &r->g, 0, k[i],
						  v[i]), 0);
		assert_int_equal(page_layout_init(&r->l[i], &tiled, 0, k[i],
						  v[i]), 0);
		if (r->row[i].page_bytes > r->page_bytes)
			r->page_bytes = r->row[i].page_bytes;
	}
}

static void run_init(struct run *r, const struct job *j)
{
	const uint32_t nr = j->nr_pages ? j->nr_pages : PAGES;
	uint32_t i;
	size_t bytes;

	*r = (struct run){ .g = records_geometry(j->k_format, j->v_format,
						 j->tokens, j->k_dim,
						 j->v_dim) };
	tables_init(&r->tables, &r->g);
	layouts_init(r, j);
	bytes = (size_t)r->page_bytes * PAGES;
	for (i = 0; i < 2; i++) {
		r->host[i] = xcalloc(r->page_bytes, PAGES);
		r->image[i] = xcalloc(r->page_bytes, PAGES);
		memset(r->host[i], RECORDS_GARBAGE, bytes);
		memset(r->image[i], RECORDS_GARBAGE, bytes);
	}
	for (i = 0; i < nr; i++) {
		uint32_t from = i % 2 * 2;

		r->pages[i] = (struct kv_convert_page){
			.from = { (uint64_t)i * r->page_bytes, 0, from },
			.to = { (uint64_t)(PAGES - 1 - i) * r->page_bytes, 1,
				1 },
			.nr_tokens = j->nr_tokens ? j->nr_tokens : j->tokens,
		};
		source_make(r, i, from);
		page_reorder(&r->row[from],
			     r->host[0] + r->pages[i].from.offset, &r->l[from],
			     r->image[0] + r->pages[i].from.offset);
	}
}

static void run_fini(struct run *r)
{
	tables_fini(&r->tables);
	for (uint32_t i = 0; i < 2; i++) {
		free(r->host[i]);
		free(r->image[i]);
	}
}

/* On the device; its segments come back in r->image. */
static void device_convert(struct run *r, struct kv_convert_args *a,
			   uint32_t *flags)
{
	const size_t bytes = (size_t)r->page_bytes * PAGES;
	cu_ptr segments[2], d[3];
	uint32_t i;

	memcpy(a->layouts, r->l, sizeof(a->layouts));
	for (i = 0; i < 2; i++)
		segments[i] = gpu_copy(r->image[i], bytes);
	d[0] = gpu_copy(segments, sizeof(segments));
	d[1] = gpu_copy(r->pages, sizeof(r->pages));
	d[2] = gpu_copy(flags, sizeof(*flags) * PAGES);
	a->bases = (void *const *)(uintptr_t)d[0];
	a->pages = (void *)(uintptr_t)d[1];
	a->nonfinite = (void *)(uintptr_t)d[2];
	a->tables = (void *)(uintptr_t)r->tables.device;
	assert_int_equal(kv_cuda_convert(gpu_kernels, a, NULL), 0);
	gpu_read(flags, d[2], sizeof(*flags) * PAGES);
	for (i = 0; i < 2; i++) {
		gpu_read(r->image[i], segments[i], bytes);
		gpu_free(segments[i]);
	}
	for (i = 0; i < 3; i++)
		gpu_free(d[i]);
}

/* Words are where pages say; what has no tokens is no page. */
static void test_none(void **state)
{
	const struct job j = { .from = { KVD_F16, KVD_F16 },
			       .k_format = KVD_KIVI4,
			       .v_format = KVD_INT8,
			       .tokens = 32,
			       .k_dim = 64,
			       .v_dim = 64 };
	struct kv_convert_args a = { .nr_pages = PAGES,
				     .nr_layers = RECORDS_LAYERS };
	uint32_t flags[PAGES] = { 0 }, i, b;
	uint16_t *first;
	struct run r;

	run_init(&r, &j);
	for (i = 0; i < PAGES; i++) {
		first = (uint16_t *)(r.image[0] + r.pages[i].from.offset);
		*first = 0x7e00; /* NaN */
		r.pages[i].nr_tokens = i == 1 ? 32 : 0;
	}
	r.pages[1].word = 1;
	device_convert(&r, &a, flags);
	assert_int_equal(flags[0] | flags[1], 0);
	assert_int_equal(flags[2], 1);
	for (i = 0; i < PAGES; i++)
		for (b = 0; i != 1 && b < r.page_bytes; b++)
			assert_int_equal(r.image[1][r.pages[i].to.offset + b],
					 RECORDS_GARBAGE);
	run_fini(&r);
}

/* Return: how many pages were flagged. */
static uint32_t job_check(const struct job *j)
{
	const uint32_t nr = j->nr_pages ? j->nr_pages : PAGES;
	uint32_t flags[PAGES] = { 0 }, bad = 0, i;
	struct kv_convert_args a = { .nr_pages = nr,
				     .nr_threads = 1 };
	struct run r;

	run_init(&r, j);
	a.first_layer = records_below(3) == 0; /* one layer, or both */
	a.nr_layers = RECORDS_LAYERS - a.first_layer;
	memcpy(a.layouts, r.row, sizeof(a.layouts));
	a.bases = (void *const *)r.host;
	a.pages = r.pages;
	a.nonfinite = r.nonfinite;
	a.tables = &r.tables.host;
	host_kernels_ref.convert(&a);
	device_convert(&r, &a, flags);
	for (i = 0; i < nr; i++) {
		const struct kv_convert_page *p = &r.pages[i];

		page_same(&r.row[p->from.layout], r.host[0] + p->from.offset,
			  &r.l[p->from.layout], r.image[0] + p->from.offset,
			  j->tokens);
		page_same(&r.row[1], r.host[1] + p->to.offset, &r.l[1],
			  r.image[1] + p->to.offset, p->nr_tokens);
		if (flags[i] != r.nonfinite[i])
			fail_msg("%s and %s from %s: page %u is flagged %u",
				 kvd_format_name(j->k_format),
				 kvd_format_name(j->v_format),
				 kvd_format_name(j->from[i % 2]), i, flags[i]);
		bad += flags[i];
	}
	run_fini(&r);
	return bad;
}

/* ---- tests ---- */

static const uint32_t tile_dims[] = { 64, 128, 256, 32, 96 };
static const uint32_t row_dims[] = { 64, 128, 256, 8, 24, 72, 80, 200 };

/* Shape and order at random, as the formats allow. */
static void job_shape(struct job *j)
{
	const uint32_t *dims = j->order ? tile_dims : row_dims;
	const uint32_t nr = j->order ? NR(tile_dims) : NR(row_dims);
	const int pre = format_coding(j->k_format) == CODING_KVQUANT;

	j->k_dim = dims[records_below(nr)];
	j->v_dim = dims[records_below(nr)];
	if (!j->order && !pre && !records_below(8))
		j->v_dim = 0;
}

/* From either of 16 bits, or both, at every length of page. */
static void test_seal(void **state)
{
	uint32_t format, order, i, bad = 0, nr = 0;

	for (format = 0; format < KVD_NR_FORMATS; format++)
		for (order = 0; order < KVD_NR_TILE_ORDERS; order++)
			for (i = 0; i < 3; i++) {
				struct job j = {
					.from = { i & 1, !(i & 2) },
					.k_format = format,
					.v_format = format,
					.order = order,
					.tokens = 32u << i,
					.nr_pages = 3 - i,
				};

				job_shape(&j);
				bad += job_check(&j);
				nr += j.nr_pages;
			}
	assert_true(bad && bad < nr); /* some of each */
}

/* Between any two formats; K and V need not be of the same. */
static void test_requantize(void **state)
{
	static const uint32_t must[][2] = {
		{ KVD_KIVI4, KVD_KIVI2 },     { KVD_KVARN4, KVD_INT8 },
		{ KVD_INT4, KVD_F16 },	      { KVD_KVQUANT4, KVD_KVQUANT2 },
		{ KVD_KVARN4, KVD_KVARN2 },   { KVD_FP8_E5M2, KVD_BF16 },
		{ KVD_FP8_E4M3, KVD_F16 },    { KVD_KVQUANT3, KVD_BF16 },
		{ KVD_OSCAR2, KVD_F16 },      { KVD_KIVI2, KVD_KIVI2 },
		{ KVD_KVARN3, KVD_KVARN3 },   { KVD_KVQUANT3, KVD_KVQUANT3 },
		{ KVD_INT8, KVD_FP8_E4M3 },   { KVD_FP8_E4M3, KVD_FP8_E4M3 },
		{ KVD_INT4H, KVD_INT4H },     { KVD_OSCAR2, KVD_OSCAR2 },
	};

	for (uint32_t i = 0; i < NR(must) + 32; i++) {
		struct job j = {
			.from = { records_below(KVD_NR_FORMATS),
				  records_below(KVD_NR_FORMATS) },
			.k_format = records_below(KVD_NR_FORMATS),
			.v_format = records_below(KVD_NR_FORMATS),
			.order = i % 2,
			.tokens = 32u << records_below(2),
			.nr_pages = 2,
		};

		if (i < NR(must)) {
			j.from[0] = must[i][0];
			j.k_format = j.v_format = must[i][1];
			j.order = records_below(2);
		}
		/* A codebook is of one width; keys of another cannot be. */
		if (format_coding(j.from[1]) == CODING_KVQUANT)
			j.from[1] = KVD_INT8;
		job_shape(&j);
		job_check(&j);
	}
}

/* Not all tokens, where the format lets more be appended. */
static void test_part(void **state)
{
	static const uint32_t formats[] = { KVD_F16,	  KVD_BF16,
					    KVD_INT8,	  KVD_FP8_E4M3,
					    KVD_FP8_E5M2, KVD_INT4,
					    KVD_INT4H };

	for (uint32_t i = 0; i < 2 * NR(formats); i++) {
		const uint32_t format = formats[i % NR(formats)];
		struct job j = {
			.from = { records_below(2), format },
			.k_format = format,
			.v_format = format,
			.order = i / NR(formats),
			.tokens = 64,
			.nr_tokens = 1 + records_below(63),
			.nr_pages = 2,
		};

		job_shape(&j);
		job_check(&j);
	}
}

/* Sides that do not fit in shared memory. */
static void test_large(void **state)
{
	static const struct job jobs[] = {
		{ { KVD_F16 }, KVD_KVARN4, KVD_KIVI2, 1, 128, 256, 512 },
		{ { KVD_BF16 }, KVD_KVARN2, KVD_OSCAR2, 0, 64, 1024, 1024 },
		{ { KVD_F16 }, KVD_KVQUANT2, KVD_KVQUANT2, 1, 128, 512, 512 },
		{ { KVD_KIVI4 }, KVD_KIVI2, KVD_INT4, 1, 128, 128, 256 },
		{ { KVD_INT8 }, KVD_FP8_E5M2, KVD_F16, 0, 64, 576, 0 },
		{ { KVD_KVQUANT4 }, KVD_KVQUANT4, KVD_INT8, 0, 128, 128, 256 },
	};

	for (uint32_t i = 0; i < NR(jobs); i++) {
		struct job j = jobs[i];

		j.nr_pages = 1;
		job_check(&j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_seal),
		cmocka_unit_test(test_requantize),
		cmocka_unit_test(test_part),
		cmocka_unit_test(test_large),
	};

	records_seed();
	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
