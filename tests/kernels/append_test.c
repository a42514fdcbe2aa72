/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append_test.c - what append writes: published vectors, hard rows, places.
 *
 * Every kernel set must write the bytes that ref writes, whatever it is given.
 */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tests/kernels/world.h"

#define MAX_ROWS 64u
#define PT       64u /* page tokens */
#define SCALE_STEP                                                             \
	(255 * 0x1p-25f) /* what rounding a subnormal scale,                   \
	                  * also to 0, costs code 255 */

/* One head, one page: rows at positions 0.. of one sequence. */
struct sheet {
	struct page_layout l;
	uint8_t page[PT * KVD_MAX_DIM * 4 + PT * 8];
	uint32_t nonfinite;
};

static void sheet_init(struct sheet *s, uint32_t format, uint32_t dim)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = PT,
		.nr_groups = 1,
		.groups = { { 1, 1, 0, dim, dim, 0 } },
	};

	assert_null(kvd_geometry_check(&g));
	assert_int_equal(page_layout_init(&s->l, &g, 0, format, format), 0);
	memset(s->page, 0x5a, sizeof(s->page));
	s->nonfinite = 0;
}

static void sheet_append(struct sheet *s, const struct host_kernels *k,
                         uint32_t dtype, const void *rows, uint32_t n)
{
	void *base = s->page;
	struct kv_page_ref ref = { 0 };
	struct kv_seq seq = { .nr_rows = n };
	struct kv_append_args a = {
		.layouts = { s->l },
		.bases = &base,
		.pages = &ref,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = n,
		.dtype = dtype,
		.k = rows,
		.v = rows,
		.k_stride = s->l.k_dim,
		.v_stride = s->l.v_dim,
		.nonfinite = &s->nonfinite,
		.nr_threads = 1,
	};

	k->append(&a);
}

static const struct affine_meta *sheet_meta(const struct sheet *s, uint32_t t)
{
	return (const struct affine_meta *)(s->page + s->l.k_meta) + t;
}

static json_t *load(const char *file, const char *key, uint32_t *ret_rows,
                    uint32_t *ret_dim)
{
	json_error_t err;
	json_t *root = json_load_file(file, 0, &err), *v;

	if (!root)
		fail_msg("%s:%d: %s", file, err.line, err.text);
	v = json_object_get(root, key);
	assert_non_null(v);
	json_incref(v);
	json_decref(root);
	*ret_rows = json_integer_value(
		json_array_get(json_object_get(v, "shape"), 0));
	*ret_dim = json_integer_value(
		json_array_get(json_object_get(v, "shape"), 1));
	return v;
}

/* Reads [rows][dim] (or [rows] when dim is 0) numbers. */
static void numbers(const char *file, const char *key, float *out,
                    uint32_t *ret_rows, uint32_t *ret_dim)
{
	json_t *v = load(file, key, ret_rows, ret_dim), *row, *x;
	size_t i, j;

	json_array_foreach(json_object_get(v, "data"), i, row)
	{
		if (!json_is_array(row))
			*out++ = json_number_value(row);
		json_array_foreach(row, j, x) *out++ = json_number_value(x);
	}
	json_decref(v);
}

static void test_turbomind(void **state)
{
	static const char file[] = VECTORS "/turbomind_int8.json";
	float x[512], code[512], scale[16], min[16], deq[512], got[512];
	uint32_t rows, dim, d0, i, t;
	const struct host_kernels *k;
	struct sheet s;

	numbers(file, "scale", scale, &rows, &d0);
	numbers(file, "zero_min", min, &rows, &d0);
	numbers(file, "code", code, &rows, &dim);
	numbers(file, "deq_fp16", deq, &rows, &dim);
	numbers(file, "x", x, &rows, &dim);
	assert_int_equal(rows * dim, 8 * 32);
	for (i = 0; (k = host_kernels_nth(i)); i++) {
		sheet_init(&s, KVD_INT8, dim);
		sheet_append(&s, k, KVD_DTYPE_F32, x, rows);
		assert_int_equal(s.nonfinite, 0);
		for (t = 0; t < rows * dim; t++)
			assert_int_equal(s.page[t], code[t]);
		for (t = 0; t < rows; t++) {
			assert_true(f16_to_f32(sheet_meta(&s, t)->scale) ==
			            scale[t]);
			assert_true(f16_to_f32(sheet_meta(&s, t)->min) ==
			            min[t]);
		}
		k->dequant(&s.l, s.page, 0, 0, 1, rows, NULL, got);
		/* Theirs rounds code * scale and the sum to f16. */
		for (t = 0; t < rows * dim; t++)
			assert_true(fabsf(got[t] - deq[t]) <=
			            (fabsf(deq[t]) + fabsf(min[t / dim])) *
			                    0x1p-10f);
	}
}

/* The edge rows, against what int8 promises rather than against fp32 codes. */
static void test_edge_cases(void **state)
{
	static const char file[] = VECTORS "/edge_cases.json";
	const struct host_kernels *k;
	uint32_t rows, dim, i, t;
	float x[512], got[512];
	struct sheet s;

	numbers(file, "x", x, &rows, &dim);
	for (i = 0; (k = host_kernels_nth(i)); i++) {
		sheet_init(&s, KVD_INT8, dim);
		sheet_append(&s, k, KVD_DTYPE_F32, x, rows);
		assert_int_equal(s.nonfinite, 0);
		k->dequant(&s.l, s.page, 0, 0, 0, rows, NULL, got);
		for (t = 0; t < rows * dim; t++) {
			float scale =
				f16_to_f32(sheet_meta(&s, t / dim)->scale);

			assert_true(fabsf(got[t] - x[t]) <=
			            scale + fabsf(x[t]) * 0x1p-11f +
			                    SCALE_STEP);
			if (scale == 0)
				assert_int_equal(s.page[t], 0);
		}
	}
}

/* Every row of a page as each set stores it: the same bytes and flag. */
static void compare(uint32_t format, uint32_t dtype, const void *rows,
                    uint32_t n, uint32_t dim, int want_flag)
{
	static struct sheet ref, got;
	const struct host_kernels *k;
	uint32_t i;

	sheet_init(&ref, format, dim);
	sheet_append(&ref, &host_kernels_ref, dtype, rows, n);
	if (want_flag >= 0)
		assert_int_equal(ref.nonfinite, want_flag);
	for (i = 1; (k = host_kernels_nth(i)); i++) {
		sheet_init(&got, format, dim);
		sheet_append(&got, k, dtype, rows, n);
		assert_int_equal(got.nonfinite, ref.nonfinite);
		assert_memory_equal(got.page, ref.page, sizeof(ref.page));
	}
}

static void test_hard_rows(void **state)
{
	static const struct {
		float a, b; /* rows go from a to b, both included */
		int bad_f16, bad_bf16, bad_int8;
	} rows[] = {
		{ 0, 0, 0, 0, 0 },
		{ -0.0f, 0.0f, 0, 0, 0 },
		{ 3.25f, 3.25f, 0, 0, 0 },
		{ -7, -7, 0, 0, 0 },
		{ 0, 6e-8f, 0, 0, 0 },
		{ 1e-7f, 3e-5f, 0, 0, 0 },
		{ 0, 0.002f, 0, 0, 0 },
		{ -0.003f, 0.0005f, 0, 0, 0 },
		{ 0, 60000, 0, 0, 0 },
		{ 0, 65504, 0, 0, 0 },
		{ -60000, 60000, 0, 0, 1 },
		{ -60000, -59000, 0, 0, 0 },
		{ 0, 70000, 1, 0, 1 },
		{ -1e30f, 1, 1, 0, 1 },
		{ 1, INFINITY, 1, 1, 1 },
		{ -INFINITY, -INFINITY, 1, 1, 1 },
		{ NAN, 1, 1, 1, 1 },
		{ -1, -NAN, 1, 1, 1 },
		{ 3.4e38f, 3.4028235e38f, 1, 1, 1 },
	};
	float x[64];
	unsigned i, d;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (d = 0; d < 64; d++)
			x[d] = rows[i].a;
		for (d = 1; d < 63 && isfinite(rows[i].b - rows[i].a); d++)
			x[d] += (rows[i].b - rows[i].a) * (d / 63.0f);
		x[63] = rows[i].b;
		compare(KVD_F16, KVD_DTYPE_F32, x, 1, 64, rows[i].bad_f16);
		compare(KVD_BF16, KVD_DTYPE_F32, x, 1, 64, rows[i].bad_bf16);
		compare(KVD_INT8, KVD_DTYPE_F32, x, 1, 64, rows[i].bad_int8);
	}
}

/* Rows of tiny span keep their shape: the error is within a code. */
static void test_tiny_span(void **state)
{
	static struct sheet s;
	float x[64], got[64], scale;
	int d, e;

	for (e = -22; e < 0; e++) {
		for (d = 0; d < 64; d++)
			x[d] = ldexpf(d / 63.0f, e);
		sheet_init(&s, KVD_INT8, 64);
		sheet_append(&s, &host_kernels_ref, KVD_DTYPE_F32, x, 1);
		scale = f16_to_f32(sheet_meta(&s, 0)->scale);
		host_kernels_ref.dequant(&s.l, s.page, 0, 0, 0, 1, NULL, got);
		for (d = 0; d < 64; d++)
			assert_true(fabsf(got[d] - x[d]) <=
			            scale + ldexpf(1, e) * 0x1p-10f +
			                    SCALE_STEP);
	}
}

static void test_random_bits(void **state)
{
	static uint32_t x[MAX_ROWS * 256];
	uint32_t n, format, dtype, i, j, dim;

	for (n = 0; n < 60; n++) {
		dim = 8 * (1 + random_below(32));
		for (i = 0; i < MAX_ROWS * 256; i++)
			x[i] = random_u64();
		for (i = 0; i < MAX_ROWS * 256 && n % 3; i++) {
			float f = random_normal() * ldexpf(1, n % 40 - 20);

			if (n % 3 == 1)
				memcpy(&x[i], &f, 4);
			else
				x[i] = f16_from_f32(f) * 0x10001u;
		}
		for (format = 0; format <= KVD_INT8; format++)
			for (dtype = 0; dtype < KVD_NR_DTYPES; dtype++)
				for (j = 0; j < 4; j++)
					compare(format, dtype, x + j * 64,
					        1 + random_below(16), dim, -1);
	}
}

/* Where rows land, and that nothing else is touched. */
static void test_places(void **state)
{
	struct shape s = {
		.k_dim = 72,
		.v_dim = 40,
		.nr_heads = 3,
		.group = 1,
		.page_tokens = 32,
		.format = { { KVD_F16, KVD_F16 }, { KVD_INT8, KVD_BF16 } },
		.nr_seqs = 2,
		.len = { 75, 33 },
	};
	const struct host_kernels *k;
	struct world w, ref;
	uint32_t i, t, h, d;
	float got[128 * 72];

	world_init(&w, &s);
	world_append(&w, &host_kernels_ref, 0, 75, 1);
	for (i = 0; i < 2; i++)
		for (t = 0; t < s.len[i]; t++)
			for (h = 0; h < 3; h++) {
				struct kv_page_ref *r =
					&w.pages[w.seqs[i].first_page + t / 32];
				const float *want =
					w.v +
					(world_row(&w, i, t) * 3 + h) * 40;

				host_kernels_ref.dequant(
					&w.layouts[r->layout],
					w.segments[r->segment] + r->offset,
					WORLD_LAYER, h, 1, t % 32 + 1, NULL, got);
				for (d = 0; d < 40; d++)
					assert_true(fabsf(got[t % 32 * 40 + d] -
					                  want[d]) <=
					            fabsf(want[d]) * 0x1p-8f);
			}
	ref = w;
	for (i = 0; i < 2; i++) {
		ref.segments[i] = malloc(w.segment_bytes);
		memcpy(ref.segments[i], w.segments[i], w.segment_bytes);
	}
	for (i = 0; (k = host_kernels_nth(i)); i++)
		for (t = 1; t < 4; t++) {
			world_wipe(&w);
			world_append(&w, k, 0, 40, t);
			world_append(&w, k, 40, 1, t);
			world_append(&w, k, 41, 34, t);
			assert_memory_equal(w.segments[0], ref.segments[0],
			                    w.segment_bytes);
			assert_memory_equal(w.segments[1], ref.segments[1],
			                    w.segment_bytes);
		}
	free(ref.segments[0]);
	free(ref.segments[1]);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turbomind),
		cmocka_unit_test(test_edge_cases),
		cmocka_unit_test(test_hard_rows),
		cmocka_unit_test(test_tiny_span),
		cmocka_unit_test(test_random_bits),
		cmocka_unit_test(test_places),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
