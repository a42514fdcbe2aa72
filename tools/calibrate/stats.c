/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.c - order statistics. Pure; any thread.
 */
#include <math.h>
#include <stdlib.h>
#include "tools/calibrate/stats.h"

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

void stats_sort(float *x, size_t nr)
{
	qsort(x, nr, sizeof(*x), compare);
}

double stats_quantile(const float *x, size_t nr, double q)
{
	double at = q * (double)(nr - 1);
	size_t i = (size_t)floor(at);

	if (i + 1 >= nr)
		return x[nr - 1];
	return x[i] + ((double)x[i + 1] - x[i]) * (at - (double)i);
}
