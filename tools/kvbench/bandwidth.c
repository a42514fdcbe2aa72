/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bandwidth.c - how fast the machine's memory can be read, by these threads.
 *
 * Plain loads in address order: the hardware's prefetchers do that best. On
 * Zen 3 software prefetch made it 10 to 20 % slower.
 */
#include <omp.h>
#include "tools/kvbench/bandwidth.h"
#include "tools/kvbench/stats.h"

#define STEP 256u

/* What was read has to matter to someone, or it would not be read. */
static volatile uint64_t sink;

double bandwidth_read_gbps(const void *p, size_t bytes, unsigned nr_threads)
{
	size_t share = bytes / nr_threads / STEP * STEP;
	uint64_t start = stats_now_ns(), sum = 0, ns;

#pragma omp parallel num_threads((int)nr_threads) reduction(^ : sum)
	sum ^= bandwidth_read((const char *)p + share * omp_get_thread_num(),
			      share);
	ns = stats_now_ns() - start;
	sink = sum;
	return (double)(share * nr_threads) / (double)ns;
}
