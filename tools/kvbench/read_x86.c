/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_x86.c - bandwidth_read() on x86-64, chosen at run time.
 */
#include "tools/kvbench/bandwidth.h"

#define READ(name, target_name, width)                                         \
	typedef uint64_t name##_vec __attribute__((vector_size(width)));       \
	__attribute__((target(target_name))) static uint64_t name(             \
		const void *p, size_t bytes)                                   \
	{                                                                      \
		const name##_vec *v = p, *end = v + bytes / width;             \
		name##_vec a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };         \
                                                                               \
		for (; v < end; v += 4) {                                      \
			a ^= v[0];                                             \
			b ^= v[1];                                             \
			c ^= v[2];                                             \
			d ^= v[3];                                             \
		}                                                              \
		a ^= b ^ c ^ d;                                                \
		return a[0] ^ a[1];                                            \
	}

READ(read_sse2, "sse2", 16)
READ(read_avx2, "avx2", 32)
READ(read_avx512, "avx512f", 64)

uint64_t bandwidth_read(const void *p, size_t bytes)
{
	if (__builtin_cpu_supports("avx512f"))
		return read_avx512(p, bytes);
	if (__builtin_cpu_supports("avx2"))
		return read_avx2(p, bytes);
	return read_sse2(p, bytes);
}
