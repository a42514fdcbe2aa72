/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_any.c - bandwidth_read() and _write() where nothing is known of the CPU.
 */
#include "tools/kvbench/bandwidth.h"

typedef uint64_t vec __attribute__((vector_size(16)));

uint64_t bandwidth_read(const void *p, size_t bytes)
{
	const vec *v = p, *end = v + bytes / sizeof(*v);
	vec a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };

	for (; v < end; v += 4) {
		a ^= v[0];
		b ^= v[1];
		c ^= v[2];
		d ^= v[3];
	}
	a ^= b ^ c ^ d;
	return a[0] ^ a[1];
}

void bandwidth_write(void *p, size_t bytes, uint64_t value, bool stream)
{
	vec *v = p, *end = v + bytes / sizeof(*v);
	const vec x = { value, value };

	(void)stream;
	for (; v < end; v++)
		*v = x;
}
