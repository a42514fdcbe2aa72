/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.h - a small seeded generator. The seed is printed, and taken from
 * KVD_TEST_SEED where a failure is to be seen again.
 */
#ifndef TESTS_KERNELS_RANDOM_H
#define TESTS_KERNELS_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t random_state;

static inline void random_seed(void)
{
	const char *s = getenv("KVD_TEST_SEED");

	random_state = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL);
	printf("KVD_TEST_SEED=%llu\n", (unsigned long long)random_state);
}

static inline uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline uint32_t random_below(uint32_t n)
{
	return random_u64() % n;
}

/* Nearly normal: four uniforms of 16 bits, mean 0, variance 1. */
static inline float random_normal(void)
{
	uint64_t z = random_u64();
	int32_t sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) +
	              (z >> 48);

	return (sum - 131070) * (1.7320508f / 65536);
}

#endif
