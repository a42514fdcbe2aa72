/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kvquant_test.c - what kvquant writes: published vectors, and its laws.
 *
 * The vectors take 10 % of a row of 32 as outliers, per token; a page takes
 * 1 % of a head's, wherever they are. So of K codes are compared, and values
 * where there is no outlier in either; with room for all, outliers are exact
 * in both, up to the f16 of a residual. Of V thresholds differ (k is 1, not
 * 2): codes and values are compared with what the page's own scale and offset
 * make of the vector's codebook.
 *
 * Sealing what a page stands for gives the same codes for inliers only: what
 * an outlier's residual made of a value may be another code's.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "kernels/host/kvquant.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sealed.h"

#define T 64u
#define D 32u

static const uint32_t formats[] = { KVD_KVQUANT2, KVD_KVQUANT3, KVD_KVQUANT4 };

static float lut[TABLES_CODES], out_lut[TABLES_CODES];
static float range[256], zero[256];

static const struct kv_tables tables = {
	.nr_heads = 1,
	.k_lut = lut,
	.k_out = out_lut,
	.v_lut = lut,
	.v_out = out_lut,
	.k_zero = zero,
	.k_range = range,
};

/* A codebook of the format under test; some channels have no range. */
static uint32_t nr_codes;

static const struct kv_tables *tables_random(uint32_t dim)
{
	float step = 2.0f / nr_codes;
	uint32_t i;

	for (i = 0; i < nr_codes; i++) {
		lut[i] = -1 + step * (i + 0.5f) +
			 step * 0.2f * (random_normal() > 0);
		out_lut[i] = lut[i] * 1.03f;
	}
	for (i = 0; i < dim; i++) {
		range[i] = random_below(20) ?
				   f16_round(fabsf(random_normal()) * 3) :
				   0;
		zero[i] = f16_round(random_normal());
	}
	return &tables;
}

/* The parts of kvquant_store() by definition, differences in doubles. */
static void nearest(struct kvquant_row *r)
{
	uint32_t d, c;

	for (d = 0; d < r->dim; d++) {
		double best = INFINITY;

		for (c = 0; c < r->nr_codes; c++) {
			float v = r->lut[c] * r->range[d];
			double far;

			v += r->zero[d];
			far = fabs((double)v - r->x[d]);
			if (far < best) {
				best = far;
				r->codes[d] = (uint8_t)c;
			}
		}
	}
}

static float nth_largest(const float *x, uint32_t dim, float sign, uint32_t n)
{
	uint32_t i, j, above, same;

	for (i = 0;; i++) {
		assert_true(i < dim);
		for (above = same = j = 0; j < dim; j++) {
			above += sign * x[j] > sign * x[i];
			same += x[j] == x[i];
		}
		if (above < n && above + same >= n)
			return sign * x[i];
	}
}

static const struct kvquant_ops scalar = { nth_largest, nearest, tile_pack };

/* A side whose list has room for all, and its values. */
struct wide {
	struct side s;
	uint8_t codes[SEALED_MAX];
	uint8_t meta[SEALED_MAX * 4 + 1024];
};

/* As kvquant_store(), with room for @cap outliers. */
static int wide_store(struct wide *w, uint32_t format, uint32_t tokens,
		      uint32_t dim, int is_v, const float *x, uint32_t cap)
{
	static uint64_t keys[SEALED_MAX];
	struct kvquant_heap heap = { keys, cap, 0 };

	w->s = (struct side){
		.format = format,
		.dim = dim,
		.tokens = tokens,
		.row = pack_row_bytes(format_bits(format), dim),
		.is_v = is_v,
		.codes = w->codes,
		.meta = w->meta,
	};
	return kvquant_store(&w->s, x, &tables, &scalar, &heap);
}

static uint32_t wide_code(const struct wide *w, uint32_t t, uint32_t d)
{
	return pack_get(format_bits(w->s.format), w->codes + t * w->s.row,
			w->s.dim, d);
}

/* What is stored for (t, d); *@ret_out: whether it is an outlier. */
static float wide_value(const struct wide *w, uint32_t t, uint32_t d,
			int *ret_out)
{
	const struct sparse_head *h = side_sparse(&w->s);
	const struct sparse_entry *e = (const struct sparse_entry *)(h + 1);
	const struct affine_meta *m = side_affine(&w->s) + t;
	float r = w->s.is_v ? f16_to_f32(m->scale) : range[d];
	float z = w->s.is_v ? f16_to_f32(m->min) : zero[d];
	float v = out_lut[wide_code(w, t, d)] * r;
	uint32_t i;

	v += z;
	*ret_out = 0;
	for (i = 0; i < h->nr; i++)
		if (e[i].at == t * w->s.dim + d) {
			v += f16_to_f32(e[i].value);
			*ret_out = 1;
		}
	return v;
}

static void tables_load(const char *file)
{
	float up[D], lo[D];
	uint32_t d;

	nr_codes = vector_load(file, "lut", lut, TABLES_CODES);
	memcpy(out_lut, lut, sizeof(lut));
	vector_load(file, "upper_fp16", up, D);
	vector_load(file, "lower_fp16", lo, D);
	for (d = 0; d < D; d++) {
		zero[d] = f16_round(f16_round(up[d] + lo[d]) / 2);
		range[d] = f16_round(f16_round(up[d] - lo[d]) / 2);
	}
}

static void check_keys(const char *file, uint32_t format)
{
	static float x[T * D], code[T * D], clut[D * 16], rec[T * D];
	static struct wide w;
	static struct sealed p;
	side_store_fn *store;
	uint32_t i, t, d;
	int is_out;

	vector_load(file, "K", x, T * D);
	vector_load(file, "K_code", code, T * D);
	vector_load(file, "K_channel_lut", clut, D * 16);
	assert_int_equal(vector_load(file, "K_reconstructed", rec, T * D),
			 T * D);
	for (d = 0; d < D * nr_codes; d++) {
		float v = lut[d % nr_codes] * range[d / nr_codes];

		assert_true(v + zero[d / nr_codes] == clut[d]);
	}
	for (i = 0; (store = seal_nth(SEAL_KVQUANT, i)); i++) {
		struct side s;

		sealed_init(&p, format, T, D);
		s = sealed_side(&p, 0);
		assert_int_equal(store(&s, x, &tables), 0);
		assert_int_equal(side_sparse(&s)->nr, sparse_max(T, D));
		for (t = 0; t < T; t++)
			for (d = 0; d < D; d++)
				assert_int_equal(sealed_code(&p, 0, t, d),
						 code[t * D + d]);
	}
	wide_store(&w, format, T, D, 0, x, T * D);
	for (t = 0; t < T; t++)
		for (d = 0; d < D; d++) {
			float v = wide_value(&w, t, d, &is_out);
			float r = x[t * D + d];

			/* residual: half an ulp of f16 */
			if (is_out)
				assert_true(fabsf(v - r) <=
					    (fabsf(r) + fabsf(v) +
					     fabsf(zero[d]) + range[d]) *
						    0x1p-11f);
			else
				assert_true(v == clut[d * nr_codes +
						      (uint32_t)code[t * D +
								     d]]);
			/* the vector keeps two a side and token at most */
			if (!is_out)
				assert_true(fabsf(v - rec[t * D + d]) <=
					    fabsf(v) * 0x1p-22f);
		}
}

/* Codes are those nearest by the page's own scale and offset. */
static void check_values(const char *file, uint32_t format)
{
	static float x[T * D], want[T * D], outlier[T * D];
	static struct wide w;
	static struct sealed p;
	side_store_fn *store;
	uint32_t t, d, c;
	struct side s;
	int is_out;

	vector_load(file, "V", x, T * D);
	vector_load(file, "V_is_outlier", outlier, T * D);
	assert_int_equal(vector_load(file, "V_code", want, T * D), T * D);
	assert_int_equal(wide_store(&w, format, T, D, 1, x, T * D), 0);
	for (t = 0; t < T; t++) {
		float scale = f16_to_f32(side_affine(&w.s)[t].scale);
		float min = f16_to_f32(side_affine(&w.s)[t].min);
		uint32_t nr = 0;

		for (d = 0; d < D; d++) {
			uint32_t code = wide_code(&w, t, d);
			float r = x[t * D + d];
			float v = wide_value(&w, t, d, &is_out);

			nr += is_out;
			if (is_out) { /* of the vector's, these are some */
				assert_true(outlier[t * D + d] == 1);
				assert_int_equal(code, nr_codes / 2 - 1);
				assert_int_equal(code, want[t * D + d]);
				assert_true(fabsf(v - r) <=
					    (fabsf(r) + scale) * 0x1p-10f);
				continue;
			}
			for (c = 0; c < nr_codes; c++) {
				float u = lut[c] * scale;

				u += min;
				assert_true(fabsf(u - r) >= fabsf(v - r));
			}
		}
		assert_int_equal(nr, 2); /* one above, one below */
	}
	for (c = 0; (store = seal_nth(SEAL_KVQUANT, c)); c++) {
		sealed_init(&p, format, T, D);
		s = sealed_side(&p, 1);
		assert_int_equal(store(&s, x, &tables), 0);
		for (t = 0; t < T * D; t++) {
			wide_value(&w, t / D, t % D, &is_out);
			if (!is_out)
				assert_int_equal(
					sealed_code(&p, 1, t / D, t % D),
					wide_code(&w, t / D, t % D));
		}
	}
}

static void test_vectors(void **state)
{
	static const char *const files[] = { VECTORS "/kvquant_nuq2.json",
					     VECTORS "/kvquant_nuq3.json",
					     VECTORS "/kvquant_nuq4.json" };
	int i;

	for (i = 0; i < 3; i++) {
		tables_load(files[i]);
		check_keys(files[i], formats[i]);
		check_values(files[i], formats[i]);
	}
}

/* Its words are another packing; of ours, the codes come back. */
static void test_pack3(void **state)
{
	static const char file[] = VECTORS "/kvquant_pack3.json";
	static struct wide w;
	float codes[4 * 32];
	uint8_t row[32];
	uint32_t t, d;

	assert_int_equal(vector_load(file, "codes", codes, 128), 128);
	w.s = (struct side){ .format = KVD_KVQUANT3,
			     .dim = 32,
			     .row = pack_row_bytes(3, 32),
			     .codes = w.codes };
	for (t = 0; t < 4; t++) {
		for (d = 0; d < 32; d++)
			row[d] = (uint8_t)codes[t * 32 + d];
		tile_pack(&w.s, t, row);
	}
	for (t = 0; t < 4; t++)
		for (d = 0; d < 32; d++)
			assert_int_equal(wide_code(&w, t, d),
					 codes[t * 32 + d]);
}

static void test_same_bytes(void **state)
{
	uint32_t i;

	for (i = 0; i < 3; i++) {
		nr_codes = 1u << format_bits(formats[i]);
		check_same_bytes(SEAL_KVQUANT, formats[i], tables_random);
	}
}

/*
 * Ranges of 0 and zeros of 0: all but zeros of K are outliers, whose residual
 * is the value. Of V, what the list has is within rounding of a residual.
 */
static void test_all_outliers(void **state)
{
	static float x[32 * 64];
	static struct wide w;
	uint32_t i;
	int is_out;

	nr_codes = 4;
	tables_random(64);
	memset(range, 0, sizeof(range));
	memset(zero, 0, sizeof(zero));
	random_tile(x, 32, 64);
	assert_int_equal(wide_store(&w, KVD_KVQUANT2, 32, 64, 0, x, 32 * 64),
			 0);
	for (i = 0; i < 32 * 64; i++)
		assert_true(wide_value(&w, i / 64, i % 64, &is_out) == x[i]);
}

/* With room for none: the nearest entry of the codebook, and no more. */
static void test_no_outliers(void **state)
{
	static float x[32 * 64];
	static struct wide w;
	uint32_t i, c;
	int v, is_out;

	nr_codes = 8;
	tables_random(64);
	memcpy(out_lut, lut, sizeof(lut));
	random_tile(x, 32, 64);
	for (v = 0; v < 2; v++) {
		wide_store(&w, KVD_KVQUANT3, 32, 64, v, x, 0);
		assert_int_equal(side_sparse(&w.s)->nr, 0);
		for (i = 0; i < 32 * 64; i++) {
			const struct affine_meta *m =
				side_affine(&w.s) + i / 64;
			float r = v ? f16_to_f32(m->scale) : range[i % 64];
			float z = v ? f16_to_f32(m->min) : zero[i % 64];
			float got = wide_value(&w, i / 64, i % 64, &is_out);

			for (c = 0; c < nr_codes; c++) {
				float u = lut[c] * r;

				u += z;
				assert_true(fabsf(u - x[i]) >=
					    fabsf(got - x[i]));
			}
		}
	}
}

/* Those in the list have the largest residuals, in order of place. */
static void test_largest_win(void **state)
{
	static float x[SEALED_MAX];
	static struct wide all, few;
	uint32_t tokens, dim, i, j, k;
	int n, v;

	for (n = 0; n < 20; n++) {
		const struct sparse_entry *a, *b;
		uint16_t least = 0xffff;

		v = n % 2;
		nr_codes = 1u << format_bits(formats[n % 3]);
		random_shape(&tokens, &dim);
		tables_random(dim);
		random_tile(x, tokens, dim);
		wide_store(&all, formats[n % 3], tokens, dim, v, x,
			   tokens * dim);
		wide_store(&few, formats[n % 3], tokens, dim, v, x, 11);
		a = (const void *)(side_sparse(&all.s) + 1);
		b = (const void *)(side_sparse(&few.s) + 1);
		k = side_sparse(&few.s)->nr;
		assert_int_equal(k, side_sparse(&all.s)->nr < 11 ?
					    side_sparse(&all.s)->nr :
					    11);
		for (i = 0; i < k; i++) {
			assert_true(!i || b[i].at > b[i - 1].at);
			if ((b[i].value & 0x7fff) < least)
				least = b[i].value & 0x7fff;
		}
		for (i = j = 0; i < side_sparse(&all.s)->nr; i++) {
			if (j < k && a[i].at == b[j].at) {
				assert_int_equal(a[i].value, b[j].value);
				j++;
				continue;
			}
			/* left out: smaller, or as small and later */
			assert_true((a[i].value & 0x7fff) <= least);
		}
		assert_int_equal(j, k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_pack3),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_all_outliers),
		cmocka_unit_test(test_no_outliers),
		cmocka_unit_test(test_largest_win),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
