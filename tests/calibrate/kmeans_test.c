/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kmeans_test.c - codebooks are optimal, and quantiles those of numpy.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/kernels/random.h"
#include "tools/calibrate/codebook.h"
#include "tools/calibrate/kmeans.h"
#include "tools/calibrate/stats.h"
#include "tests/calibrate/vectors.h"

#define TOKENS 64
#define DIM    32

struct point {
	double x, w;
};

static int compare(const void *a, const void *b)
{
	double x = ((const struct point *)a)->x;
	double y = ((const struct point *)b)->x;

	return (x > y) - (x < y);
}

/* Sum of w (x - nearest centroid)^2, by its definition. */
static double cost_of(const double *x, const double *w, size_t nr,
		      const double *c, uint32_t k)
{
	double sum = 0;

	for (size_t i = 0; i < nr; i++) {
		double best = DBL_MAX;

		for (uint32_t j = 0; j < k; j++)
			best = fmin(best, (x[i] - c[j]) * (x[i] - c[j]));
		sum += w[i] * best;
	}
	return sum;
}

/* The inliers' normalised keys of a file, sorted. Return: how many. */
static size_t inliers(const json_t *f, double *x, double *w)
{
	struct point p[TOKENS * DIM];
	size_t nr = 0;

	for (size_t i = DIM; i < TOKENS * DIM; i++) {
		double u = vector_at(f, "upper", i % DIM);
		double l = vector_at(f, "lower", i % DIM);
		double n = (vector_at(f, "K", i) - (u + l) / 2) /
			   ((u - l) / 2);

		if (fabs(n) <= 1)
			p[nr++] = (struct point){ n,
						  vector_at(f, "fisher", i) };
	}
	qsort(p, nr, sizeof(p[0]), compare);
	for (size_t i = 0; i < nr; i++) {
		x[i] = p[i].x;
		w[i] = p[i].w;
	}
	return nr;
}

static void check_optimum(const char *name, uint32_t bits)
{
	json_t *f = vector_file(name);
	double x[TOKENS * DIM], w[TOKENS * DIM], c[16];
	size_t nr = inliers(f, x, w);
	double best = vector_at(f, "dp_optimal_cost", 0), cost;
	struct kmeans *km;

	assert_int_equal(kmeans_new(x, w, nr, 16, &km), 0);
	cost = kmeans_centroids(km, 1u << bits, c);
	assert_true(fabs(cost / best - 1) < 1e-6);
	assert_true(fabs(cost_of(x, w, nr, c, 1u << bits) / best - 1) < 1e-6);
	assert_true(cost <= vector_at(f, "lloyd_cost", 0) * (1 + 1e-6));
	kmeans_free(km);
	json_decref(f);
}

static void test_vectors(void **state)
{
	check_optimum("kvquant_nuq2", 2);
	check_optimum("kvquant_nuq3", 3);
	check_optimum("kvquant_nuq4", 4);
}

/* All ways to cut @nr points into @k runs. */
static double brute(const double *x, const double *w, size_t nr, uint32_t k)
{
	double best = k == 1 || nr == 0 ? DBL_MAX : brute(x, w, nr, k - 1);

	for (size_t from = 0; from < nr; from++) {
		double sw = 0, sx = 0, c, rest;

		if (k == 1 && from)
			break;
		for (size_t i = from; i < nr; i++) {
			sw += w[i];
			sx += w[i] * x[i];
		}
		c = sw > 0 ? sx / sw : 0;
		rest = from ? brute(x, w, from, k - 1) : 0;
		best = fmin(best, rest + cost_of(x + from, w + from,
						 nr - from, &c, 1));
	}
	return nr ? best : 0;
}

static void test_brute(void **state)
{
	random_seed();
	for (int round = 0; round < 300; round++) {
		size_t nr = 1 + random_below(10);
		uint32_t k = 1 + random_below(5);
		double x[10], w[10], c[5], cost, want;
		struct kmeans *km;

		for (size_t i = 0; i < nr; i++) {
			x[i] = (i ? x[i - 1] : -2) + random_below(4);
			w[i] = random_below(4);
		}
		w[0] += 1;
		assert_int_equal(kmeans_new(x, w, nr, k, &km), 0);
		cost = kmeans_centroids(km, k, c);
		want = brute(x, w, nr, k);
		assert_true(fabs(cost - want) < 1e-9);
		assert_true(fabs(cost_of(x, w, nr, c, k) - want) < 1e-9);
		for (uint32_t i = 1; i < k; i++)
			assert_true(c[i] >= c[i - 1]);
		kmeans_free(km);
	}
}

static void test_no_weight(void **state)
{
	double x[2] = { 0, 1 }, w[2] = { 0, 0 };
	struct kmeans *km;

	assert_int_equal(kmeans_new(x, w, 2, 4, &km), -EINVAL);
	assert_int_equal(kmeans_new(x, w, 0, 4, &km), -EINVAL);
}

static void test_quantiles(void **state)
{
	json_t *f = vector_file("kvquant_nuq3");

	for (size_t c = 0; c < DIM; c++) {
		float x[TOKENS - 1];

		for (size_t t = 1; t < TOKENS; t++)
			x[t - 1] = (float)vector_at(f, "K", t * DIM + c);
		stats_sort(x, TOKENS - 1);
		assert_true(fabs(stats_quantile(x, TOKENS - 1, .95) -
				 vector_at(f, "upper", c)) < 1e-5);
		assert_true(fabs(stats_quantile(x, TOKENS - 1, .05) -
				 vector_at(f, "lower", c)) < 1e-5);
		assert_true(stats_quantile(x, TOKENS - 1, 1) ==
			    x[TOKENS - 2]);
		assert_true(stats_quantile(x, 1, .5) == x[0]);
	}
	json_decref(f);
}

/*
 * Binned codebooks cost what the optimum does, and Q-Norm gives back mean and
 * deviation. (The vectors' own figures are those of Lloyd's codebook.)
 */
static void test_codebook(void **state)
{
	json_t *f = vector_file("kvquant_nuq2");
	double x[TOKENS * DIM], w[TOKENS * DIM], c[16], power = 0;
	float fx[TOKENS * DIM], fw[TOKENS * DIM];
	size_t nr = inliers(f, x, w);
	struct samples s = { .nr = nr, .x = fx, .w = fw };
	double m1 = 0, s1 = 0, m2 = 0, s2 = 0;
	struct codebook books[3];

	for (size_t i = 0; i < nr; i++) {
		fx[i] = (float)x[i];
		fw[i] = (float)w[i];
		power += w[i] * x[i] * x[i];
	}
	assert_int_equal(codebook_make(&s, books), 0);
	assert_true(fabs(books[2].mse * power /
			 vector_at(f, "dp_optimal_cost", 0) - 1) < 1e-4);
	assert_true(books[2].out_mse > books[2].mse);
	assert_memory_equal(books[0].lut, books[0].out, sizeof(books[0].lut));
	for (int i = 0; i < 4; i++)
		c[i] = books[2].lut[i];
	for (size_t i = 0; i < nr; i++) {
		int at = 0;

		for (int k = 1; k < 4; k++)
			if (fabs(c[k] - x[i]) < fabs(c[at] - x[i]))
				at = k;
		m1 += x[i];
		s1 += x[i] * x[i];
		m2 += books[2].out[at];
		s2 += (double)books[2].out[at] * books[2].out[at];
	}
	assert_true(fabs(m1 - m2) / (double)nr < 1e-5);
	assert_true(fabs(s1 - s2) / (double)nr < 1e-5);
	json_decref(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_brute),
		cmocka_unit_test(test_no_weight),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_codebook),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
