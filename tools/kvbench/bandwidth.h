/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bandwidth.h - the read bandwidth to measure kernels against.
 */
#ifndef TOOLS_KVBENCH_BANDWIDTH_H
#define TOOLS_KVBENCH_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

/**
 * bandwidth_read_gbps() - read memory once from end to end, as fast as can be
 * @p:		64-byte aligned
 * @bytes:	a multiple of 256 for each thread
 * @nr_threads:	each reads its share
 */
double bandwidth_read_gbps(const void *p, size_t bytes, unsigned nr_threads);

/* Reads memory with the widest loads this CPU has; bytes a multiple of 256. */
uint64_t bandwidth_read(const void *p, size_t bytes);

#endif
