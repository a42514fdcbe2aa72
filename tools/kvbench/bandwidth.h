/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bandwidth.h - the read bandwidth to measure kernels against.
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

/* Reads memory with the widest loads this CPU has; bytes a multiple of 256. */
uint64_t bandwidth_read(const void *p, size_t bytes);

#endif
