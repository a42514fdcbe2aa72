/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bandwidth.h - the bandwidth of memory, to measure kernels against.
 */
#ifndef TOOLS_KVBENCH_BANDWIDTH_H
#define TOOLS_KVBENCH_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>
#include "tools/kvbench/memory.h"

struct bandwidth {
	const struct memory *mem; /* more than the caches hold */
	size_t at;                /* where the next sample begins */
	unsigned nr_threads;
};

/**
 * bandwidth_sample() - read memory as fast as can be, in address order
 * @us:		for at least so long: as long as what it is compared with, so
 *		that a busy machine disturbs both alike
 *
 * Return: GB/s of all threads together.
 */
double bandwidth_sample(struct bandwidth *b, double us);

/* So many bytes written for so many read. */
struct bandwidth_mix {
	const struct memory *from; /* more than the caches hold */
	const struct memory *to;
	size_t nr_read, nr_written; /* the proportion */
	unsigned nr_threads;
	bool stream; /* past the caches */
	size_t at;   /* number of the chunk where the next sample begins */
};

/**
 * bandwidth_mix_sample() - read and write memory as fast as can be, in address
 * order, a few KiB at a time
 * @us:		for at least so long
 *
 * Return: GB/s of all threads together, read and written. What a cache reads
 * before it is written to does not count.
 */
double bandwidth_mix_sample(struct bandwidth_mix *m, double us);

/* Reads memory with the widest loads this CPU has; bytes a multiple of 256. */
uint64_t bandwidth_read(const void *p, size_t bytes);

/*
 * Writes @value all over; bytes a multiple of 64. @stream: with stores that go
 * past the caches, where the CPU has them.
 */
void bandwidth_write(void *p, size_t bytes, uint64_t value, bool stream);

#endif
