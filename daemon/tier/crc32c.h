/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - the checksum of iSCSI and ext4, polynomial 0x1edc6f41.
 */
#ifndef DAEMON_TIER_CRC32C_H
#define DAEMON_TIER_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from @crc, which is 0 at first. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t bytes);

/* The same, bit for bit, with nothing but C. */
uint32_t crc32c_plain(uint32_t crc, const void *buf, size_t bytes);

#endif
