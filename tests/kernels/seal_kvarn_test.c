/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kvarn_test.c - what kvarn writes: published vectors, and its laws.
 *
 * Sealing what a page stands for need not give its codes again: values are
 * products with rounded factors, and the balance of a tile of few distinct
 * values is another one.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sealed.h"

#define T 32u
#define D 8u

static const uint32_t formats[] = { KVD_KVARN2, KVD_KVARN3, KVD_KVARN4 };

static void key(char *out, int is_v, const char *name)
{
	snprintf(out, 32, "%c_%s", is_v ? 'V' : 'K', name);
}

/* Bits of f16 against the vector's value: 1 ulp, as its README allows. */
static void check_f16(uint16_t got, float want)
{
	int a = got, b = f16_from_f32(want);

	assert_true((a >> 15) == (b >> 15));
	assert_in_range(a - b + 1, 0, 2);
}

/* Vectors are [row][column]: of K [channel][token], of V [token][channel]. */
static uint32_t at(int is_v, uint32_t t, uint32_t d)
{
	return is_v ? t * D + d : d * T + t;
}

static void check_vector(const char *file, uint32_t format, int is_v,
			 side_store_fn *store)
{
	float m[256], x[256], code[256], scale[T], zero[T], other[T], deq[256];
	static struct sealed p;
	struct side s;
	float got[256];
	uint32_t t, d, i;
	char k[32];

	vector_load(file, is_v ? "V_rot" : "K_rot_T", m, 256);
	key(k, is_v, "code");
	vector_load(file, k, code, 256);
	key(k, is_v, "scale_absorbed");
	vector_load(file, k, scale, T);
	key(k, is_v, "zero_absorbed");
	vector_load(file, k, zero, T);
	key(k, is_v, "other_scale");
	vector_load(file, k, other, T);
	key(k, is_v, "deq");
	assert_int_equal(vector_load(file, k, deq, 256), T * D);
	for (t = 0; t < T; t++)
		for (d = 0; d < D; d++)
			x[t * D + d] = m[at(is_v, t, d)];
	sealed_init(&p, format, T, D);
	s = sealed_side(&p, is_v);
	assert_int_equal(store(&s, x, NULL), 0);
	for (i = 0; i < (is_v ? T : D); i++) {
		check_f16(is_v ? side_affine(&s)[i].scale : side_scales(&s)[i],
			  scale[i]);
		check_f16(is_v ? side_affine(&s)[i].min : side_mins(&s)[i],
			  zero[i]);
	}
	for (i = 0; i < (is_v ? D : T); i++)
		check_f16(side_factors(&s)[i], other[i]);
	sealed_values(&p, is_v, NULL, got);
	for (t = 0; t < T; t++)
		for (d = 0; d < D; d++) {
			i = at(is_v, t, d);
			assert_int_equal(sealed_code(&p, is_v, t, d), code[i]);
			/* three roundings of f16 at most one ulp apart */
			assert_true(fabsf(got[t * D + d] - deq[i]) <=
				    0x1p-10f * (fabsf(deq[i]) +
						(code[i] * scale[is_v ? t : d] +
						 fabsf(zero[is_v ? t : d])) *
							other[is_v ? d : t]));
		}
}

static void test_vectors(void **state)
{
	side_store_fn *store;
	unsigned i;
	int v;

	for (i = 0; (store = seal_nth(SEAL_KVARN, i)); i++)
		for (v = 0; v < 2; v++) {
			check_vector(VECTORS "/kvarn_k2_v2.json", KVD_KVARN2,
				     v, store);
			check_vector(VECTORS "/kvarn_k4_v4.json", KVD_KVARN4,
				     v, store);
		}
}

static void test_same_bytes(void **state)
{
	uint32_t i;

	for (i = 0; i < 3; i++)
		check_same_bytes(SEAL_KVARN, formats[i], NULL);
}

/* Half a step of the code, and what f16 takes from scale, zero and factor. */
static void check_error(struct sealed *p, int is_v, const float *x)
{
	struct side s = sealed_side(p, is_v);
	static float out[SEALED_MAX];
	uint32_t t, d, top = (1u << format_bits(s.format)) - 1;

	sealed_values(p, is_v, NULL, out);
	for (t = 0; t < s.tokens; t++)
		for (d = 0; d < s.dim; d++) {
			float scale = f16_to_f32(is_v ?
							 side_affine(&s)[t].scale :
							 side_scales(&s)[d]);
			float zero = f16_to_f32(is_v ? side_affine(&s)[t].min :
						       side_mins(&s)[d]);
			float f = f16_to_f32(side_factors(&s)[is_v ? d : t]);
			float v = x[(size_t)t * s.dim + d], most;

			most = (scale * 0.5f * (1 + 0x1p-10f) +
				(scale * top + fabsf(zero)) * 0x1p-11f +
				(1.5f + top) * 0x1p-25f) * f +
			       fabsf(v) * 0x1p-10f;
			if (!(fabsf(out[(size_t)t * s.dim + d] - v) <= most))
				fail_msg("%u %u: %g is %g, not within %g", t,
					 d, v, out[(size_t)t * s.dim + d],
					 most);
		}
}

static void test_error(void **state)
{
	static float x[SEALED_MAX];
	static struct sealed p;
	uint32_t tokens, dim;
	struct side s;
	int i, v;

	for (i = 0; i < 100; i++) {
		random_shape(&tokens, &dim);
		random_tile(x, tokens, dim);
		sealed_init(&p, formats[i % 3], tokens, dim);
		for (v = 0; v < 2; v++) {
			s = sealed_side(&p, v);
			assert_int_equal(ref_kvarn_store(&s, x, NULL), 0);
			check_error(&p, v, x);
		}
	}
}

/* Of n values at a stride, each divided by the factor of its place. */
static double sd(const float *x, uint32_t n, size_t stride, const double *f)
{
	double mean = 0, var = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		mean += x[i * stride] / f[i] / n;
	for (i = 0; i < n; i++)
		var += pow(x[i * stride] / f[i] - mean, 2) / (n - 1);
	return sqrt(var);
}

/* max / min of deviations of columns, once divided by their factors. */
static double spread(const struct side *s, const float *x, const double *tok,
		     const double *chan, int of_tokens)
{
	uint32_t n = of_tokens ? s->tokens : s->dim, i;
	double mn = INFINITY, mx = 0;

	for (i = 0; i < n; i++) {
		double a = of_tokens ? sd(x + (size_t)i * s->dim, s->dim, 1,
					  chan) / tok[i] :
				       sd(x + i, s->tokens, s->dim, tok) /
					       chan[i];

		mn = fmin(mn, a);
		mx = fmax(mx, a);
	}
	return mx / fmax(mn, 1e-8);
}

/*
 * Rows are free to be divided by their own deviation: with the stored factors
 * of columns, a tile is no less even than it was. Input with a spread of
 * columns and rows to even out.
 */
static void test_imbalance(void **state)
{
	static float x[SEALED_MAX];
	static double one[256], tok[256], chan[256];
	static struct sealed p;
	uint32_t tokens, dim, t, d;
	int i;

	for (i = 0; i < 256; i++)
		one[i] = 1;
	for (i = 0; i < 20; i++) {
		int v = i % 2;
		double before, after;
		struct side s;

		random_shape(&tokens, &dim);
		for (t = 0; t < tokens; t++)
			for (d = 0; d < dim; d++)
				x[(size_t)t * dim + d] = f16_round(
					random_normal() * (1 + d % 7) *
					(1 + t % 5));
		sealed_init(&p, KVD_KVARN4, tokens, dim);
		s = sealed_side(&p, v);
		assert_int_equal(ref_kvarn_store(&s, x, NULL), 0);
		memcpy(tok, one, sizeof(one));
		memcpy(chan, one, sizeof(one));
		for (t = 0; t < (v ? dim : tokens); t++)
			(v ? chan : tok)[t] =
				f16_to_f32(side_factors(&s)[t]);
		before = spread(&s, x, one, one, 0) + spread(&s, x, one, one, 1);
		for (t = 0; t < (v ? tokens : dim); t++)
			(v ? tok : chan)[t] =
				v ? sd(x + (size_t)t * dim, dim, 1, chan) :
				    sd(x + t, tokens, dim, tok);
		after = spread(&s, x, tok, chan, 0) +
			spread(&s, x, tok, chan, 1);
		assert_true(after < before / 2); /* even is 2 */
	}
}

/*
 * A row times 2^k, factors within their limits: the balance is the same, but
 * for a common multiple of all columns and for what 8 rounds have yet to even
 * out. So are codes: those that differ are next to each other, and few.
 */
static void test_scaled_row(void **state)
{
	static float x[64 * 64], y[64 * 64];
	static struct sealed p, q;
	struct side a, b;
	uint32_t i, t, row = 5, v, nr;

	for (v = 0; v < 2; v++) {
		for (i = 0; i < 64 * 64; i++)
			x[i] = y[i] = f16_round(4 * random_normal());
		for (t = 0; t < 64; t++)
			y[v ? row * 64 + t : t * 64 + row] *= 4;
		sealed_init(&p, KVD_KVARN4, 64, 64);
		sealed_init(&q, KVD_KVARN4, 64, 64);
		a = sealed_side(&p, v);
		b = sealed_side(&q, v);
		assert_int_equal(ref_kvarn_store(&a, x, NULL), 0);
		assert_int_equal(ref_kvarn_store(&b, y, NULL), 0);
		for (nr = i = 0; i < 64 * 64; i++) {
			int e = (int)sealed_code(&p, v, i / 64, i % 64) -
				(int)sealed_code(&q, v, i / 64, i % 64);

			assert_in_range(e + 1, 0, 2);
			nr += e != 0;
		}
		assert_true(nr < 4096 / 20); /* of 120 tiles, at most 51 */
	}
}

/* The largest that f16 holds, and columns that divide by less than 1. */
static void test_no_overflow(void **state)
{
	static float x[32 * 64];
	static struct sealed p;
	struct side s;
	uint32_t i;
	int v;

	for (v = 0; v < 2; v++) {
		for (i = 0; i < 32 * 64; i++)
			x[i] = f16_round(random_normal() * 1e-3f);
		for (i = 0; i < (v ? 64 : 32); i++) /* one row */
			x[v ? i : i * 64] = i % 2 ? 65504 : -65504;
		sealed_init(&p, KVD_KVARN2, 32, 64);
		s = sealed_side(&p, v);
		assert_int_equal(ref_kvarn_store(&s, x, NULL), 0);
		check_error(&p, v, x);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_imbalance),
		cmocka_unit_test(test_scaled_row),
		cmocka_unit_test(test_no_overflow),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
