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
#include "kernels/host/fp8.h"
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sheet.h"
#include "tests/kernels/world.h"

#define MAX_ROWS 64u
#define SCALE_STEP                                                             \
	(255 * 0x1p-25f) /* what rounding a subnormal scale,                   \
	                  * also to 0, costs code 255 */

static void check_turbomind(const char *file, uint32_t format)
{
	float x[512], code[512], scale[16], min[16], deq[512], got[512];
	uint32_t rows, dim, d0, i, t, bits = format_bits(format);
	const struct host_kernels *k;
	struct sheet s;

	numbers(file, "scale", scale, &rows, &d0);
	numbers(file, "zero_min", min, &rows, &d0);
	numbers(file, "code", code, &rows, &dim);
	numbers(file, "deq_fp16", deq, &rows, &dim);
	numbers(file, "x", x, &rows, &dim);
	assert_int_equal(rows * dim, 8 * 32);
	for (i = 0; (k = host_kernels_nth(i)); i++) {
		sheet_init(&s, format, dim);
		sheet_append(&s, k, KVD_DTYPE_F32, x, rows);
		assert_int_equal(s.nonfinite, 0);
		for (t = 0; t < rows * dim; t++)
			assert_int_equal(
				pack_get(bits, s.page + t / dim * s.l.k_row,
			                 dim, t % dim),
				code[t]);
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

static void test_turbomind(void **state)
{
	check_turbomind(VECTORS "/turbomind_int8.json", KVD_INT8);
	check_turbomind(VECTORS "/turbomind_int4.json", KVD_INT4);
}

/* 16 rows of 16 elements, with a scale and without. */
static void test_fp8_rows(void **state)
{
	static const char file[] = VECTORS "/fp8_e4m3.json";
	float x[256], code[2][256], deq[256], got[256];
	uint32_t rows, dim, i, j, t;
	const struct host_kernels *k;
	struct sheet s;

	numbers(file, "K", x, &rows, &dim);
	numbers(file, "K_code", code[0], &rows, &dim);
	numbers(file, "K_code_scale1", code[1], &rows, &dim);
	numbers(file, "K_deq", deq, &rows, &dim);
	assert_int_equal(rows * dim, 256);
	for (i = 0; (k = host_kernels_nth(i)); i++)
		for (j = 0; j < 2; j++) {
			sheet_init(&s, KVD_FP8_E4M3, dim);
			if (!j)
				s.scale = number(file, "scale_amax_over_448");
			sheet_append(&s, k, KVD_DTYPE_F32, x, rows);
			assert_int_equal(s.nonfinite, 0);
			for (t = 0; t < 256; t++)
				assert_int_equal(s.page[t], code[j][t]);
			k->dequant(&s.l, s.page, 0, 0, 0, rows, NULL, got);
			for (t = 0; t < 256 && !j; t++)
				assert_true(fabsf(got[t] - deq[t]) <=
				            fabsf(deq[t]) * 0x1p-23f);
		}
}

/* Every f32 near a code, and between codes, goes to the nearest one. */
static void test_fp8_nearest(void **state)
{
	float x[64], got, below, above;
	uint32_t f, c, i, d;
	struct sheet s;

	for (f = KVD_FP8_E4M3; f <= KVD_FP8_E5M2; f++)
		for (c = 0; c + 1 < (f == KVD_FP8_E4M3 ? 0x7fu : 0x7cu); c++) {
			below = fp8_to_f32(f, c);
			above = c + 1 < (f == KVD_FP8_E4M3 ? 0x7fu : 0x7cu) ?
			                fp8_to_f32(f, c + 1) :
			                below;
			for (d = 0; d < 64; d++)
				x[d] = (below + (above - below) * (d / 64.0f)) *
				       (d & 1 ? -1 : 1);
			for (i = 0; host_kernels_nth(i); i++) {
				sheet_init(&s, f, 64);
				sheet_append(&s, host_kernels_nth(i),
				             KVD_DTYPE_F32, x, 1);
				for (d = 0; d < 64; d++) {
					uint32_t want = d == 32 ? c + (c & 1) :
					                          c + (d > 32);

					want |= d & 1 ? 0x80 : 0;
					assert_int_equal(s.page[d], want);
				}
				got = fp8_to_f32(f, s.page[0]);
				assert_true(got == below);
			}
		}
}

/*
 * The rotated rows of SAW-INT4 are rounded to bf16 before they are coded and
 * ours to f16, and its metadata are f32: a value may differ by what that
 * makes of half a step.
 */
static void test_saw(void **state)
{
	static const char file[] = VECTORS "/saw_int4_bdr32.json";
	float x[256], deq[256], rot[256], scale[8], got[256];
	uint32_t rows, dim, d0, i, t;
	const struct host_kernels *k;
	struct sheet s;

	numbers(file, "scale", scale, &rows, &d0);
	numbers(file, "rotated_bf16", rot, &rows, &dim);
	numbers(file, "deq_rot", deq, &rows, &dim);
	numbers(file, "x", x, &rows, &dim);
	assert_int_equal(rows * dim, 256);
	for (i = 0; (k = host_kernels_nth(i)); i++) {
		uint32_t far = 0;

		sheet_init(&s, KVD_INT4H, dim);
		sheet_append(&s, k, KVD_DTYPE_F32, x, rows);
		assert_int_equal(s.nonfinite, 0);
		k->dequant(&s.l, s.page, 0, 0, 0, rows, NULL, got);
		for (t = 0; t < 256; t++) {
			float step = scale[t / dim];

			assert_true(fabsf(got[t] - rot[t]) <=
			            step * 0.51f + fabsf(rot[t]) * 0x1p-8f);
			far += fabsf(got[t] - deq[t]) > step * 0.1f;
		}
		assert_true(far <= 256 / 20);
	}
}

/* The edge rows, against what is promised rather than against fp32 codes. */
static void check_edge_cases(uint32_t format)
{
	static const char file[] = VECTORS "/edge_cases.json";
	uint32_t rows, dim, i, t, bits = format_bits(format);
	const struct host_kernels *k;
	float x[512], got[512];
	struct sheet s;

	numbers(file, "x", x, &rows, &dim);
	for (i = 0; (k = host_kernels_nth(i)); i++) {
		sheet_init(&s, format, dim);
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
				assert_int_equal(
					pack_get(bits,
				                 s.page + t / dim * s.l.k_row,
				                 dim, t % dim),
					0);
		}
	}
}

static void test_edge_cases(void **state)
{
	check_edge_cases(KVD_INT8);
	check_edge_cases(KVD_INT4);
}

/* Every row of a page as each set stores it: the same bytes and flag. */
static void compare(uint32_t format, uint32_t dtype, const void *rows,
                    uint32_t n, uint32_t dim, int want_flag)
{
	static const float scales[] = { 1, 0.25f, 0.0123f, 37, 1e-30f };
	float scale = scales[random_below(5)];
	static struct sheet ref, got;
	const struct host_kernels *k;
	uint32_t i;

	sheet_init(&ref, format, dim);
	ref.scale = scale;
	sheet_append(&ref, &host_kernels_ref, dtype, rows, n);
	if (want_flag >= 0)
		assert_int_equal(ref.nonfinite, want_flag);
	for (i = 1; (k = host_kernels_nth(i)); i++) {
		sheet_init(&got, format, dim);
		got.scale = scale;
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
		compare(KVD_INT4, KVD_DTYPE_F32, x, 1, 64, rows[i].bad_int8);
		compare(KVD_FP8_E4M3, KVD_DTYPE_F32, x, 1, 64,
		        !isfinite(rows[i].a) || !isfinite(rows[i].b));
		compare(KVD_INT4H, KVD_DTYPE_F32, x, 1, 64, -1);
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
		for (format = 0; format <= KVD_INT4H; format++)
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
		cmocka_unit_test(test_fp8_rows),
		cmocka_unit_test(test_fp8_nearest),
		cmocka_unit_test(test_saw),
		cmocka_unit_test(test_edge_cases),
		cmocka_unit_test(test_hard_rows),
		cmocka_unit_test(test_tiny_span),
		cmocka_unit_test(test_random_bits),
		cmocka_unit_test(test_places),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
