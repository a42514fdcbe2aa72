// SPDX-License-Identifier: Apache-2.0
/* crc32c_x86.c - by the instruction that SSE4.2 has for it. */
#include <nmmintrin.h>
#include <string.h>
#include "daemon/tier/crc32c.h"

__attribute__((target("sse4.2")))
static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t bytes)
{
	uint64_t c = (uint32_t)~crc, word;

	for (; bytes >= 8; bytes -= 8, p += 8) {
		memcpy(&word, p, 8);
		c = _mm_crc32_u64(c, word);
	}
	for (; bytes; bytes--)
		c = _mm_crc32_u8((uint32_t)c, *p++);
	return ~(uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *buf, size_t bytes)
{
	if (!__builtin_cpu_supports("sse4.2"))
		return crc32c_plain(crc, buf, bytes);
	return crc32c_sse42(crc, buf, bytes);
}
