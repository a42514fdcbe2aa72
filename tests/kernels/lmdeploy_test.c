/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdeploy_test.c - records go to LMDeploy's engines and come back.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "kernels/host/lmdeploy.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sheet.h"

#define ROWS 8u
#define DIM  32u

static struct sheet sheet, back;

static struct side sheet_side(struct sheet *s)
{
	return side_at(&s->l, s->page, 0, 0, 0);
}

static uint32_t code_of(const struct side *s, uint32_t t, uint32_t d)
{
	return pack_get(format_bits(s->format), s->codes + t * s->row, s->dim,
			d);
}

/* The PyTorch engine's numbers in: the same codes, its values but for f16. */
static void check_pytorch(const char *file, uint32_t format)
{
	float code[256], scale[8], zero[8], deq[256], got[256], meta[16];
	uint8_t codes[256] = { 0 }, out[256];
	float packed[256];
	uint32_t rows, dim, n, t, row = lmdeploy_row_bytes(format, DIM);
	struct lmdeploy_rows r = { .engine = LMDEPLOY_PYTORCH,
				   .dtype = KVD_DTYPE_F32,
				   .codes = codes,
				   .meta = meta,
				   .code_stride = row,
				   .meta_stride = 2 };
	struct side s;

	numbers(file, "scale_f32", scale, &rows, &n);
	numbers(file, "zero_f32", zero, &rows, &n);
	numbers(file, "deq_f32", deq, &rows, &dim);
	numbers(file, "code", code, &rows, &dim);
	assert_int_equal(rows * 100 + dim, ROWS * 100 + DIM);
	memcpy(packed, code, sizeof(packed));
	if (format == KVD_INT4) {
		numbers(file, "packed_halves", packed, &rows, &n);
		assert_int_equal(n, DIM / 2);
	}
	for (t = 0; t < ROWS * row; t++)
		codes[t] = (uint8_t)packed[t];
	for (t = 0; t < ROWS; t++) {
		meta[2 * t] = scale[t];
		meta[2 * t + 1] = zero[t];
	}
	sheet_init(&sheet, format, DIM);
	s = sheet_side(&sheet);
	assert_int_equal(lmdeploy_import(&s, ROWS, &r), 0);
	for (t = 0; t < ROWS * DIM; t++)
		assert_int_equal(code_of(&s, t / DIM, t % DIM), code[t]);
	host_kernels_ref.dequant(&sheet.l, sheet.page, 0, 0, 0, ROWS, NULL,
				 got);
	for (t = 0; t < ROWS * DIM; t++) {
		float a = code[t] * scale[t / DIM];
		float b = zero[t / DIM] * scale[t / DIM];

		assert_true(fabsf(got[t] - deq[t]) <=
			    (fabsf(a) + fabsf(b)) * 0x1.01p-11f);
	}
	/* And out: the same bytes, metadata but for f16. */
	r.codes = out;
	assert_int_equal(lmdeploy_export(&s, ROWS, &r), 0);
	assert_memory_equal(out, codes, ROWS * row);
	for (t = 0; t < ROWS; t++) {
		assert_true(fabsf(meta[2 * t] - scale[t]) <=
			    scale[t] * 0x1p-11f);
		assert_true(fabsf(meta[2 * t + 1] - zero[t]) <=
			    fabsf(zero[t]) * 0x1.01p-10f);
	}
}

static void test_pytorch(void **state)
{
	check_pytorch(VECTORS "/lmdeploy_pt_int8.json", KVD_INT8);
	check_pytorch(VECTORS "/lmdeploy_pt_int4.json", KVD_INT4);
}

/* TurboMind's numbers, from the same rows as ours: bytes and metadata. */
static void check_turbomind(const char *file, uint32_t format)
{
	float x[256], scale[8], min[8], packed[256];
	uint8_t out[256];
	uint16_t meta[16];
	uint32_t rows, dim, n, t, row = lmdeploy_row_bytes(format, DIM);
	struct lmdeploy_rows r = { .engine = LMDEPLOY_TURBOMIND,
				   .dtype = KVD_DTYPE_F16,
				   .codes = out,
				   .meta = meta,
				   .code_stride = row,
				   .meta_stride = 2 };
	struct side s, b;

	numbers(file, "x", x, &rows, &dim);
	assert_int_equal(rows * 100 + dim, ROWS * 100 + DIM);
	numbers(file, "scale", scale, &rows, &n);
	numbers(file, "zero_min", min, &rows, &n);
	sheet_init(&sheet, format, DIM);
	sheet_append(&sheet, &host_kernels_ref, KVD_DTYPE_F32, x, ROWS);
	s = sheet_side(&sheet);
	assert_int_equal(lmdeploy_export(&s, ROWS, &r), 0);
	if (format == KVD_INT4) {
		uint64_t words[32];

		words_read(file, "packed_u32", words);
		for (t = 0; t < 32; t++) {
			uint32_t w;

			memcpy(&w, out + 4 * t, 4);
			assert_int_equal(w, words[t]);
		}
	} else {
		numbers(file, "code", packed, &rows, &n);
		for (t = 0; t < 256; t++)
			assert_int_equal(out[t], packed[t]);
	}
	for (t = 0; t < ROWS; t++) {
		assert_true(f16_to_f32(meta[2 * t]) == scale[t]);
		assert_true(f16_to_f32(meta[2 * t + 1]) == min[t]);
	}
	sheet_init(&back, format, DIM);
	b = sheet_side(&back);
	assert_int_equal(lmdeploy_import(&b, ROWS, &r), 0);
	assert_memory_equal(b.codes, s.codes, ROWS * s.row);
	assert_memory_equal(b.meta, s.meta, ROWS * 4);
}

static void test_turbomind(void **state)
{
	check_turbomind(VECTORS "/turbomind_int8.json", KVD_INT8);
	check_turbomind(VECTORS "/turbomind_int4.json", KVD_INT4);
}

/* There and back with every engine and dtype, rows spread in their memory. */
static void test_round_trip(void **state)
{
	static const uint32_t dims[] = { 64, 72, 80, 128, 256 };
	static uint8_t codes[PT * 300];
	static float meta[PT * 6], x[PT * 256], a[PT * 256], b[PT * 256];
	uint32_t n, i;

	for (n = 0; n < 40; n++) {
		uint32_t dim = dims[n % 5];
		struct lmdeploy_rows r = { .engine = n % 4 > 0,
					   .dtype = n % 4 ? n % 4 - 1 :
							    KVD_DTYPE_F16,
					   .codes = codes,
					   .meta = meta,
					   .code_stride = 256 + n,
					   .meta_stride = 2 + n % 5 };
		float loss = r.engine == LMDEPLOY_TURBOMIND ? 0 :
			     r.dtype == KVD_DTYPE_BF16	    ? 0x1.1p-7f :
							      0x1.1p-9f;
		struct side s, t;

		for (i = 0; i < PT * dim; i++)
			x[i] = random_normal() + n % 3;
		sheet_init(&sheet, n & 8 ? KVD_INT8 : KVD_INT4, dim);
		sheet_init(&back, n & 8 ? KVD_INT8 : KVD_INT4, dim);
		s = sheet_side(&sheet);
		t = sheet_side(&back);
		sheet_append(&sheet, &host_kernels_ref, KVD_DTYPE_F32, x, PT);
		assert_int_equal(lmdeploy_export(&s, PT, &r), 0);
		assert_int_equal(lmdeploy_import(&t, PT, &r), 0);
		assert_memory_equal(s.codes, t.codes, PT * s.row);
		host_kernels_ref.dequant(&sheet.l, sheet.page, 0, 0, 0, PT,
					 NULL, a);
		host_kernels_ref.dequant(&back.l, back.page, 0, 0, 0, PT, NULL,
					 b);
		for (i = 0; i < PT * dim; i++) {
			float min = fabsf(f16_to_f32(
				side_affine(&s)[i / dim].min));

			assert_true(fabsf(a[i] - b[i]) <=
				    loss * (fabsf(a[i]) + 2 * min));
		}
	}
}

/* Of a page in tile order: the same, and in; other tokens stay. */
static void test_tile_order(void **state)
{
	static uint8_t codes[2][PT * DIM];
	static float meta[2][PT * 2], x[PT * DIM], a[PT * DIM], b[PT * DIM];
	struct lmdeploy_rows r = { .engine = LMDEPLOY_PYTORCH,
				   .dtype = KVD_DTYPE_F32,
				   .code_stride = DIM,
				   .meta_stride = 2 };
	uint32_t format, i;
	struct side s;

	for (i = 0; i < PT * DIM; i++)
		x[i] = random_normal();
	for (format = KVD_INT8; format <= KVD_INT4; format++) {
		if (format != KVD_INT8 && format != KVD_INT4)
			continue;
		for (i = 0; i < KVD_NR_TILE_ORDERS; i++) {
			sheet_init_in(&sheet, format, DIM, i);
			sheet_append(&sheet, &host_kernels_ref, KVD_DTYPE_F32,
				     x, PT);
			s = sheet_side(&sheet);
			r.codes = codes[i];
			r.meta = meta[i];
			assert_int_equal(lmdeploy_export(&s, PT, &r), 0);
		}
		assert_memory_equal(codes[0], codes[1], sizeof(codes[0]));
		assert_memory_equal(meta[0], meta[1], sizeof(meta[0]));
		host_kernels_ref.dequant(&sheet.l, sheet.page, 0, 0, 0, PT,
					 NULL, a);
		memset(s.codes, 0, 16 * s.row);
		assert_int_equal(lmdeploy_import(&s, 16, &r), 0);
		host_kernels_ref.dequant(&sheet.l, sheet.page, 0, 0, 0, PT,
					 NULL, b);
		for (i = 0; i < PT * DIM; i++)
			assert_true(fabsf(a[i] - b[i]) <= fabsf(a[i]) * 0x1p-9f
							  + 0x1p-9f);
	}
}

static void test_edges(void **state)
{
	uint8_t codes[64];
	float meta[2] = { 1, INFINITY }, x[64], got[64];
	struct lmdeploy_rows r = { .engine = LMDEPLOY_PYTORCH,
				   .dtype = KVD_DTYPE_F32,
				   .codes = codes,
				   .meta = meta,
				   .code_stride = 64,
				   .meta_stride = 2 };
	struct side s;
	uint32_t d;

	memset(codes, 0, sizeof(codes));
	sheet_init(&sheet, KVD_INT8, 64);
	s = sheet_side(&sheet);
	assert_int_equal(lmdeploy_import(&s, 1, &r), -ERANGE);
	host_kernels_ref.dequant(&sheet.l, sheet.page, 0, 0, 0, 1, NULL, got);
	assert_true(isnan(got[0]));
	/* A constant row. */
	for (d = 0; d < 64; d++)
		x[d] = -3.25f;
	sheet_append(&sheet, &host_kernels_ref, KVD_DTYPE_F32, x, 1);
	assert_int_equal(lmdeploy_export(&s, 1, &r), 0);
	assert_true((codes[7] - meta[1]) * meta[0] == -3.25f);
	assert_int_equal(lmdeploy_import(&s, 1, &r), 0);
	host_kernels_ref.dequant(&sheet.l, sheet.page, 0, 0, 0, 1, NULL, got);
	assert_true(got[63] == -3.25f);
	/* A zero of 10^6 is too large for f16. */
	for (d = 0; d < 64; d++)
		x[d] = 32768 + (d & 1) * 32;
	sheet_append(&sheet, &host_kernels_ref, KVD_DTYPE_F32, x, 1);
	assert_int_equal(lmdeploy_export(&s, 1, &r), 0);
	r.dtype = KVD_DTYPE_F16;
	assert_int_equal(lmdeploy_export(&s, 1, &r), -ERANGE);
	/* What LMDeploy has not. */
	r.engine = LMDEPLOY_TURBOMIND;
	r.dtype = KVD_DTYPE_BF16;
	assert_int_equal(lmdeploy_export(&s, 1, &r), -EINVAL);
	sheet_init(&sheet, KVD_INT4H, 64);
	s = sheet_side(&sheet);
	r.dtype = KVD_DTYPE_F16;
	assert_int_equal(lmdeploy_import(&s, 1, &r), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pytorch),
		cmocka_unit_test(test_turbomind),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_tile_order),
		cmocka_unit_test(test_edges),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
