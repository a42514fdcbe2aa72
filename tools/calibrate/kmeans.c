/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kmeans.c - exact weighted k-means in one dimension. Pure; any thread.
 *
 * best[k][j], the least cost of the first j points with k centroids, is the
 * minimum over i of best[k - 1][i] + cost of one centroid for points i to j.
 * The i that attains it does not decrease with j (the cost of an interval is
 * a concave Monge array), so that solving the middle j splits the search for
 * the others: divide and conquer (Wu 1991; Groenlund et al. 2017).
 */
#include <errno.h>
#include <stdlib.h>
#include "tools/calibrate/kmeans.h"

struct kmeans {
	size_t nr;
	uint32_t max_k;
	double *w, *wx, *wxx;	/* [nr + 1], sums over the points before */
	double *cost;		/* [max_k][nr + 1] */
	uint32_t *start;	/* [max_k][nr + 1], where the last begins */
};

/* One centroid for points @i to @j - 1: their variance times their weight. */
static double interval(const struct kmeans *km, size_t i, size_t j)
{
	double w = km->w[j] - km->w[i], x = km->wx[j] - km->wx[i], c;

	if (!(w > 0))
		return 0;
	c = km->wxx[j] - km->wxx[i] - x * x / w;
	return c > 0 ? c : 0;
}

/* Prefixes @lo to @hi of row @k, whose last cluster begins in [from, to]. */
static void solve(struct kmeans *km, uint32_t k, size_t lo, size_t hi,
		  size_t from, size_t to)
{
	const double *before = km->cost + (k - 1) * (km->nr + 1);
	double *cost = km->cost + k * (km->nr + 1);
	uint32_t *start = km->start + k * (km->nr + 1);
	size_t mid = lo + (hi - lo) / 2, last = mid < to ? mid : to;

	cost[mid] = before[from] + interval(km, from, mid);
	start[mid] = (uint32_t)from;
	for (size_t i = from + 1; i <= last; i++) {
		double c = before[i] + interval(km, i, mid);

		if (c < cost[mid]) {
			cost[mid] = c;
			start[mid] = (uint32_t)i;
		}
	}
	if (mid > lo)
		solve(km, k, lo, mid - 1, from, start[mid]);
	if (mid < hi)
		solve(km, k, mid + 1, hi, start[mid], to);
}

static int alloc(struct kmeans *km)
{
	size_t n = km->nr + 1;

	km->w = calloc(n, sizeof(double));
	km->wx = calloc(n, sizeof(double));
	km->wxx = calloc(n, sizeof(double));
	km->cost = calloc(n * km->max_k, sizeof(double));
	km->start = calloc(n * km->max_k, sizeof(uint32_t));
	return km->w && km->wx && km->wxx && km->cost && km->start ? 0 :
								     -ENOMEM;
}

static void add_up(struct kmeans *km, const double *x, const double *w)
{
	for (size_t i = 0; i < km->nr; i++) {
		km->w[i + 1] = km->w[i] + w[i];
		km->wx[i + 1] = km->wx[i] + w[i] * x[i];
		km->wxx[i + 1] = km->wxx[i] + w[i] * x[i] * x[i];
	}
}

int kmeans_new(const double *x, const double *w, size_t nr, uint32_t max_k,
	       struct kmeans **ret)
{
	struct kmeans *km = calloc(1, sizeof(*km));

	if (!km)
		return -ENOMEM;
	km->nr = nr;
	km->max_k = max_k;
	if (nr >= UINT32_MAX || max_k == 0 || alloc(km)) {
		kmeans_free(km);
		return -ENOMEM;
	}
	add_up(km, x, w);
	if (!(km->w[nr] > 0)) {
		kmeans_free(km);
		return -EINVAL;
	}
	for (size_t j = 0; j <= nr; j++)
		km->cost[j] = interval(km, 0, j);
	for (uint32_t k = 1; k < max_k; k++)
		solve(km, k, 0, nr, 0, nr);
	*ret = km;
	return 0;
}

void kmeans_free(struct kmeans *km)
{
	if (!km)
		return;
	free(km->w);
	free(km->wx);
	free(km->wxx);
	free(km->cost);
	free(km->start);
	free(km);
}

double kmeans_centroids(const struct kmeans *km, uint32_t k, double *out)
{
	size_t row = km->nr + 1, end = km->nr;
	uint32_t empty = 0;	/* clusters to the right of any point */

	for (uint32_t i = k; i-- > 0;) {
		size_t begin = km->start[i * row + end];
		double w = km->w[end] - km->w[begin];

		if (w > 0)
			out[i] = (km->wx[end] - km->wx[begin]) / w;
		else if (i + 1 + empty < k)
			out[i] = out[i + 1];
		else
			empty++;
		end = begin;
	}
	for (uint32_t i = k - empty; i < k; i++)
		out[i] = out[k - empty - 1];
	return km->cost[(k - 1) * row + km->nr];
}
