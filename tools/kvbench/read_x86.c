/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_x86.c - bandwidth_read() and _write() on x86-64, chosen at run time.
 */
#include <immintrin.h>
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

#define WRITE(name, target_name, vec, set, store, stream_store)                \
	__attribute__((target(target_name))) static void name(                 \
		void *p, size_t bytes, uint64_t value, bool stream)            \
	{                                                                      \
		vec *v = p, *end = v + bytes / sizeof(*v);                     \
		const vec x = set((long long)value);                           \
                                                                               \
		for (; v < end && stream; v++)                                 \
			stream_store(v, x);                                    \
		for (; v < end; v++)                                           \
			store(v, x);                                           \
	}

WRITE(write_sse2, "sse2", __m128i, _mm_set1_epi64x, _mm_store_si128,
      _mm_stream_si128)
WRITE(write_avx2, "avx2", __m256i, _mm256_set1_epi64x, _mm256_store_si256,
      _mm256_stream_si256)
WRITE(write_avx512, "avx512f", __m512i, _mm512_set1_epi64, _mm512_store_si512,
      _mm512_stream_si512)

void bandwidth_write(void *p, size_t bytes, uint64_t value, bool stream)
{
	if (__builtin_cpu_supports("avx512f"))
		write_avx512(p, bytes, value, stream);
	else if (__builtin_cpu_supports("avx2"))
		write_avx2(p, bytes, value, stream);
	else
		write_sse2(p, bytes, value, stream);
	_mm_sfence();
}
