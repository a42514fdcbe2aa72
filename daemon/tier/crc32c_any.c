// SPDX-License-Identifier: Apache-2.0
/* crc32c_any.c - where no processor is known to help. */
#include "daemon/tier/crc32c.h"

uint32_t crc32c(uint32_t crc, const void *buf, size_t bytes)
{
	return crc32c_plain(crc, buf, bytes);
}
