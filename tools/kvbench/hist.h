/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.h - how long things took, in bounded memory.
 *
 * Counts by octave and 32nd of an octave: a percentile is off by at most a
 * 64th of it. The largest is kept as it was.
 */
#ifndef TOOLS_KVBENCH_HIST_H
#define TOOLS_KVBENCH_HIST_H

#include <stdint.h>

#define HIST_BUCKETS 1920

struct hist {
	uint64_t nr;
	uint64_t max;
	uint64_t sum;
	uint64_t of[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t value);

/* What @from has counted, too. */
void hist_merge(struct hist *h, const struct hist *from);

/* The value that @percent of all do not exceed; 0 when there is none. */
double hist_percentile(const struct hist *h, double percent);

#endif
