/* SPDX-License-Identifier: Apache-2.0 */
/*
 * size.h - numbers as people write them: "4G", the number of a space.
 */
#ifndef TOOLS_KVCTL_SIZE_H
#define TOOLS_KVCTL_SIZE_H

#include <stdint.h>

/* A number with K, M, G or T, as kvd.conf takes it; at most 1024T. Return: 0
 * or -EINVAL. */
int size_parse(const char *text, uint64_t *ret);

/* A number with s, min or h, or none: seconds; at most 1000 days. Return: 0 or
 * -EINVAL. */
int time_parse(const char *text, uint64_t *ret_ms);

/* "3:17", of a space and a block, or "3" alone, which leaves *ret_block as it
 * is. Return: 0 or -EINVAL. */
int block_parse(const char *text, uint32_t *ret_space, uint32_t *ret_block);

/* The number of a space, or of a block. Return: 0 or -EINVAL. */
int space_parse(const char *text, uint32_t *ret);

#endif
