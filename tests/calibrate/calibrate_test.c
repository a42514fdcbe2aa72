/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate_test.c - rotations, and a profile of made-up rows.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tools/calibrate/calibrate.h"
#include "tools/calibrate/rotation.h"
#include "tests/calibrate/vectors.h"

#define LAYERS 2
#define DIM    32
#define TOKENS 512	/* of a sequence */
#define WIDTH  ((4 + 2 + 2) * DIM)

static void check_orthonormal(const float *r, uint32_t dim)
{
	for (uint32_t i = 0; i < dim; i++)
		for (uint32_t j = 0; j < dim; j++) {
			double dot = 0;

			for (uint32_t k = 0; k < dim; k++)
				dot += (double)r[i * dim + k] * r[j * dim + k];
			assert_true(fabs(dot - (i == j)) < 1e-5);
		}
}

static void test_perm(void **state)
{
	json_t *f = vector_file("oscar_int2");
	double values[DIM];
	uint32_t perm[DIM];

	for (size_t i = 0; i < DIM; i++)
		values[i] = vector_at(f, "eigenvalues", i);
	rotation_perm(values, DIM, perm);
	for (size_t i = 0; i < DIM; i++)
		assert_int_equal(perm[i],
				 (int)vector_at(f, "column_perm", i));
	json_decref(f);
}

/*
 * Of R = U H P: R^T M R has the trace of M, spread evenly: each diagonal
 * element is the mean eigenvalue of its block. A dimension that is no power
 * of two has blocks.
 */
static void check_rotation(uint32_t dim, uint32_t order)
{
	double m[96 * 96], copy[96 * 96], trace = 0, seen = 0;
	float r[96 * 96];

	memset(m, 0, sizeof(m));
	for (int t = 0; t < 300; t++) {
		float x[96];

		for (uint32_t i = 0; i < dim; i++)
			x[i] = random_normal() * (i % 8 ? 1 : 9);
		for (uint32_t i = 0; i < dim * dim; i++)
			m[i] += (double)x[i / dim] * x[i % dim];
	}
	memcpy(copy, m, sizeof(m));
	assert_int_equal(rotation_make(copy, dim, r), 0);
	check_orthonormal(r, dim);
	for (uint32_t j = 0; j < dim; j++) {
		double power = 0;

		for (uint32_t i = 0; i < dim * dim; i++)
			power += r[i / dim * dim + j] * m[i] *
				 r[i % dim * dim + j];
		trace += m[j * dim + j];
		seen += power;
		copy[j] = power;
	}
	assert_true(fabs(seen / trace - 1) < 1e-5);
	for (uint32_t j = 0; order == dim && j < dim; j++)
		assert_true(fabs(copy[j] * dim / trace - 1) < 1e-4);
}

static void test_rotation(void **state)
{
	double bad[4] = { NAN, 0, 0, 1 };
	float r[4];

	random_seed();
	check_rotation(64, 64);
	check_rotation(96, 32);
	assert_int_equal(rotation_make(bad, 2, r), -EIO);
}

/*
 * The same function, other numbers inside: a RoPE pair of the keys of kv head
 * 1 is 4 times as large, and its queries' 4 times as small.
 */
static void rescale(float *rows)
{
	for (int t = 0; t < TOKENS; t++, rows += WIDTH)
		for (int i = 3; i < DIM; i += DIM / 2) {
			rows[2 * DIM + i] /= 4;
			rows[3 * DIM + i] /= 4;
			rows[5 * DIM + i] *= 4;
		}
}

/* Shows a sequence; the first token is a sink that is 50 times as large. */
static void show(struct calibration *c, float *rows, bool outliers)
{
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		struct calibration_rows r = { .layer = layer, .nr = TOKENS / 2,
					      .qkv = rows };

		for (uint32_t i = 0; i < TOKENS * WIDTH; i++)
			rows[i] = random_normal() *
				  (i < WIDTH ? 50 : i % 8 ? 1 : 3);
		if (outliers)
			rescale(rows);
		for (int half = 0; half < 2; half++) {
			r.first = (size_t)half * TOKENS / 2;
			r.qkv = rows + r.first * WIDTH;
			r.rotated = false;
			calibration_add(c, &r);
			r.rotated = true;
			calibration_add(c, &r);
		}
	}
}

static void make(uint64_t seed, bool outliers, struct profile *p,
		 struct calibration_report *reports, float *rows)
{
	struct calibration_shape shape = { LAYERS, 4, 2, DIM };
	struct calibration *c;

	random_state = seed;
	assert_int_equal(calibration_new(&shape, 4 * TOKENS, &c), 0);
	for (int i = 0; i < 4; i++)
		show(c, rows, outliers);
	assert_int_equal(calibration_finish(c, p, reports), 0);
	calibration_free(c);
}

static void check_layer(const struct profile *p, uint32_t layer)
{
	const float *range = p->parts[PROFILE_K_RANGE] + layer * 2 * DIM;
	const float *zero = p->parts[PROFILE_K_ZERO] + layer * 2 * DIM;

	/* A sink is in fp8's magnitude alone. */
	for (int h = 0; h < 2; h++)
		assert_true(p->parts[PROFILE_K_AMAX][layer * 2 + h] > 50);
	for (int i = 0; i < 2 * DIM; i++) {
		float scale = i % 8 ? 1 : 3;

		assert_true(fabsf(zero[i]) < .4f * scale);
		assert_true(range[i] > 2.1f * scale &&
			    range[i] < 3.3f * scale);
		assert_true(f16_round(range[i]) == range[i]);
		assert_true(f16_round(zero[i]) == zero[i]);
	}
	check_orthonormal(p->parts[PROFILE_K_ROTATION] + layer * DIM * DIM,
			  DIM);
	check_orthonormal(p->parts[PROFILE_V_ROTATION] + layer * DIM * DIM,
			  DIM);
}

static void test_profile(void **state)
{
	float *rows = malloc(TOKENS * WIDTH * sizeof(float));
	struct calibration_report reports[LAYERS];
	uint8_t *bytes[2];
	struct profile p, q;
	const char *why;

	make(7, false, &p, reports, rows);
	for (uint32_t i = 0; i < LAYERS; i++) {
		check_layer(&p, i);
		assert_true(reports[i].ratio_before > 2.3 &&
			    reports[i].ratio_before < 5);
		assert_true(reports[i].k_mse[0] < reports[i].k_mse[1] &&
			    reports[i].k_mse[1] < reports[i].k_mse[2]);
	}
	bytes[0] = malloc(profile_bytes(&p));
	profile_encode(&p, bytes[0]);
	assert_int_equal(profile_decode(bytes[0], profile_bytes(&p), &q, &why),
			 0);
	profile_fini(&q);
	make(7, false, &q, reports, rows);
	bytes[1] = malloc(profile_bytes(&q));
	profile_encode(&q, bytes[1]);
	assert_memory_equal(bytes[0], bytes[1], profile_bytes(&p));
	profile_fini(&q);
	make(8, false, &q, reports, rows);
	profile_encode(&q, bytes[1]);
	assert_true(p.digest != q.digest);
	profile_fini(&q);
	profile_fini(&p);
	free(bytes[0]);
	free(bytes[1]);
	free(rows);
}

/* What an element weighs is what it does to scores, so nothing changes. */
static void test_outliers(void **state)
{
	float *rows = malloc(TOKENS * WIDTH * sizeof(float));
	struct calibration_report reports[2][LAYERS];
	struct profile p[2];

	make(9, false, &p[0], reports[0], rows);
	make(9, true, &p[1], reports[1], rows);
	for (int part = PROFILE_BOOKS; part < PROFILE_K_ROTATION; part++)
		for (uint32_t i = 0; i < LAYERS * TABLES_CODES; i++)
			assert_true(fabsf(p[0].parts[part][i] -
					  p[1].parts[part][i]) < 1e-6f);
	for (int i = 0; i < LAYERS * 2 * DIM; i++)
		assert_true(p[1].parts[PROFILE_K_RANGE][i] ==
			    p[0].parts[PROFILE_K_RANGE][i] *
				    (i / DIM % 2 && i % 16 == 3 ? 4 : 1));
	assert_true(reports[1][0].ratio_before > reports[0][0].ratio_before);
	profile_fini(&p[0]);
	profile_fini(&p[1]);
	free(rows);
}

static void test_refused(void **state)
{
	struct calibration_shape shape = { LAYERS, 3, 2, DIM };
	struct calibration_report reports[LAYERS];
	struct calibration *c;
	struct profile p;

	assert_int_equal(calibration_new(&shape, 10, &c), -EINVAL);
	shape.nr_heads = 2;
	assert_int_equal(calibration_new(&shape, 10, &c), 0);
	assert_int_equal(calibration_finish(c, &p, reports), -ENODATA);
	calibration_free(c);
	calibration_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_perm),
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_profile),
		cmocka_unit_test(test_outliers),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
