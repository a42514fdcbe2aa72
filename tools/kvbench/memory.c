/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - see memory.h. Cache sizes are those that sysfs tells.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tools/kvbench/memory.h"

#define HUGE_PAGE   ((size_t)2 << 20)
#define UNKNOWN_LLC ((size_t)32 << 20)

int memory_init(struct memory *m, size_t bytes)
{
	size_t size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	uint8_t *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t skip;

	if (p == MAP_FAILED)
		return -errno;
	skip = -(uintptr_t)p % HUGE_PAGE;
	if (skip)
		munmap(p, skip);
	munmap(p + skip + size, HUGE_PAGE - skip);
	m->base = p + skip;
	m->bytes = size;
	m->huge_pages = madvise(m->base, size, MADV_HUGEPAGE) == 0;
	return 0;
}

void memory_fini(struct memory *m)
{
	if (m->base)
		munmap(m->base, m->bytes);
	*m = (struct memory)MEMORY_NULL;
}

/* The number a file in @cpu's cache @index begins with, or -1. */
static long cache_number(int cpu, int index, const char *file)
{
	char path[96];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path),
	         "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", cpu, index,
	         file);
	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

/* The last cache of @cpu, counted where @cpu is the first that shares it. */
static size_t cache_bytes(int cpu)
{
	int index = 0;
	long kib;

	while (cache_number(cpu, index + 1, "level") > 0)
		index++;
	kib = cache_number(cpu, index, "size");
	if (kib <= 0 || cache_number(cpu, index, "shared_cpu_list") != cpu)
		return 0;
	return (size_t)kib << 10;
}

size_t memory_cold_bytes(void)
{
	long cpu, nr = sysconf(_SC_NPROCESSORS_CONF);
	size_t sum = 0;

	for (cpu = 0; cpu < nr; cpu++)
		sum += cache_bytes(cpu);
	return 4 * (sum ? sum : UNKNOWN_LLC);
}

size_t memory_set_bytes(unsigned mib)
{
	return mib ? (size_t)mib << 20 : memory_cold_bytes();
}
