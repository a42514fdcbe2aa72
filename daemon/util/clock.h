/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the monotonic clock.
 */
#ifndef DAEMON_UTIL_CLOCK_H
#define DAEMON_UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
