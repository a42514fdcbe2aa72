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

#define CHUNK ((size_t)2 << 20) /* of each thread; memory is a multiple */

/* What was read has to matter to someone, or it would not be read. */
static volatile uint64_t sink;

/* A chunk for each thread, the first at @at. */
static uint64_t read_chunks(const struct bandwidth *b, size_t at)
{
	uint64_t sum = 0;

#pragma omp parallel num_threads((int)b->nr_threads) reduction(^ : sum)
	{
		size_t own = at + CHUNK * (size_t)omp_get_thread_num();

		sum ^= bandwidth_read(b->mem->base + own % b->mem->bytes,
		                      CHUNK);
	}
	return sum;
}

double bandwidth_sample(struct bandwidth *b, double us)
{
	uint64_t start = stats_now_ns(), ns;
	size_t bytes = 0;

	do {
		sink = read_chunks(b, b->at);
		b->at = (b->at + CHUNK * b->nr_threads) % b->mem->bytes;
		bytes += CHUNK * b->nr_threads;
		ns = stats_now_ns() - start;
	} while ((double)ns < us * 1e3);
	return (double)bytes / (double)ns;
}
