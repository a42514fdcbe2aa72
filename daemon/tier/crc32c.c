// SPDX-License-Identifier: Apache-2.0
/*
 * crc32c.c - by a table of what eight bits do.
 */
#include "daemon/tier/crc32c.h"

#include <pthread.h>

#define REFLECTED 0x82f63b78u

static uint32_t table[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ REFLECTED : c >> 1;
		table[i] = c;
	}
}

uint32_t crc32c_plain(uint32_t crc, const void *buf, size_t bytes)
{
	const uint8_t *p = buf;

	pthread_once(&once, make_table);
	crc = ~crc;
	for (; bytes; bytes--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}
