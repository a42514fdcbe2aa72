/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - memory too large for the caches, and how fast it can be read.
 */
#ifndef TOOLS_KVBENCH_MEMORY_H
#define TOOLS_KVBENCH_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory {
	uint8_t *base; /* 2 MiB aligned */
	size_t bytes;
	bool huge_pages; /* asked for, and the kernel did not refuse */
};

#define MEMORY_NULL                                                            \
	{                                                                      \
		0                                                              \
	}

/**
 * memory_init() - private memory, in huge pages where the kernel allows
 * @bytes:	rounded up to 2 MiB
 *
 * Return: 0 or -errno.
 */
int memory_init(struct memory *m, size_t bytes);
void memory_fini(struct memory *m);

/**
 * memory_cold_bytes() - what a working set needs to come from memory each
 * time it is gone through: 4 times the last-level caches of all CPUs
 */
size_t memory_cold_bytes(void);

/* Of a working set: @mib, or that when it is 0. */
size_t memory_set_bytes(unsigned mib);

#endif
