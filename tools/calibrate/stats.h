/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - order statistics.
 */
#ifndef TOOLS_CALIBRATE_STATS_H
#define TOOLS_CALIBRATE_STATS_H

#include <stddef.h>

/* Ascending, in place. */
void stats_sort(float *x, size_t nr);

/**
 * stats_quantile() - with linear interpolation between order statistics
 * @x:	[nr], ascending; nr >= 1
 * @q:	0 to 1; at (nr - 1) q in the list
 */
double stats_quantile(const float *x, size_t nr, double q);

#endif
