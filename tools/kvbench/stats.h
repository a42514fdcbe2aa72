/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - time now, and what a set of samples says.
 */
#ifndef TOOLS_KVBENCH_STATS_H
#define TOOLS_KVBENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Of a clock that never jumps. */
uint64_t stats_now_ns(void);

/**
 * stats_sort() - put samples in order, as stats_percentile() wants them
 */
void stats_sort(double *samples, size_t nr);

/**
 * stats_percentile() - the sample that @percent of all do not exceed
 * @sorted:	in ascending order
 * @nr:		at least 1
 * @percent:	0 to 100
 */
double stats_percentile(const double *sorted, size_t nr, double percent);

/**
 * stats_median() - sorts @samples, then the mean of the middle one or two
 */
double stats_median(double *samples, size_t nr);

#endif
