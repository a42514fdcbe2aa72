// SPDX-License-Identifier: Apache-2.0
/*
 * stats.c - time now, and what a set of samples says.
 */
#include <assert.h>
#include <stdlib.h>
#include <time.h>
#include "tools/kvbench/stats.h"

uint64_t stats_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void stats_sort(double *samples, size_t nr)
{
	qsort(samples, nr, sizeof(*samples), compare);
}

double stats_percentile(const double *sorted, size_t nr, double percent)
{
	size_t rank = (size_t)((double)nr * percent / 100);

	assert(nr > 0);
	return sorted[rank < nr ? rank : nr - 1];
}

double stats_median(double *samples, size_t nr)
{
	assert(nr > 0);
	stats_sort(samples, nr);
	return (samples[nr / 2] + samples[(nr - 1) / 2]) / 2;
}
