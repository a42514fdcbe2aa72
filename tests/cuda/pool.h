/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - a CUDA pool's two sides in two processes, for tests.
 *
 * One makes segments as the daemon does and hands them over, the other maps
 * them as a client does. The test itself never starts CUDA (child.h).
 */
#ifndef TESTS_CUDA_POOL_H
#define TESTS_CUDA_POOL_H

#include "client-lib/device.h"

#define POOL_BYTES (2ull << 20)	/* of a segment */
#define POOL_SEGMENTS 2u

extern const char *pool_spec; /* of the test that runs */

/* @client in a process of its own, beside one that has the segments. */
void pool_run(const char *spec, void (*client)(int));

/* Once with memory of each kind. */
void pool_both(void (*client)(int));

/* In @client: what the other side sends; descriptors are the caller's. */
void pool_receive(struct device_segment *segments);

/* Maps and closes all; the first error. */
int pool_map(struct device *d, const struct device_segment *segments);

#endif
