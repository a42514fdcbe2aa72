/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.h - random numbers from the kernel.
 */
#ifndef DAEMON_UTIL_RANDOM_H
#define DAEMON_UTIL_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills @buf; waits at boot until the kernel has gathered enough. */
void random_bytes(void *buf, size_t nr);

/* A random number that is not 0. */
uint64_t random_u64(void);

#endif
