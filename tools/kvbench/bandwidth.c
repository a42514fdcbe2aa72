/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bandwidth.c - how fast these threads can read memory, or read and write it.
 *
 * Plain loads in address order: the hardware's prefetchers do that best. On
 * Zen 3 software prefetch made it 10 to 20 % slower.
 */
#include <assert.h>
#include <omp.h>
#include "tools/kvbench/bandwidth.h"
#include "tools/kvbench/stats.h"

#define CHUNK ((size_t)2 << 20) /* of each thread; memory is a multiple */
#define BLOCK ((size_t)8 << 10) /* read before something is written */
#define LINE  64u

/* What was read has to matter to someone, or it would not be read. */
static volatile uint64_t sink;

/* A chunk for each thread, the first at @at. */
static uint64_t read_chunks(const struct bandwidth *b, size_t at)
{
	uint64_t sum = 0;

#pragma omp parallel num_threads((int)b->nr_threads) reduction(^ : sum)
	{
		size_t own = at + CHUNK * (size_t)omp_get_thread_num();

		sum ^= bandwidth_read(b->mem->base + own % b->mem->bytes,
		                      CHUNK);
	}
	return sum;
}

double bandwidth_sample(struct bandwidth *b, double us)
{
	uint64_t start = stats_now_ns(), ns;
	size_t bytes = 0;

	do {
		sink = read_chunks(b, b->at);
		b->at = (b->at + CHUNK * b->nr_threads) % b->mem->bytes;
		bytes += CHUNK * b->nr_threads;
		ns = stats_now_ns() - start;
	} while ((double)ns < us * 1e3);
	return (double)bytes / (double)ns;
}

/* Bytes written after each block that is read. */
static size_t mix_block(const struct bandwidth_mix *m)
{
	return BLOCK * m->nr_written / m->nr_read / LINE * LINE;
}

/* Chunk @nr of the memory read, and what is written for it. */
static uint64_t mix_chunk(const struct bandwidth_mix *m, size_t nr)
{
	const uint8_t *from = m->from->base + nr * CHUNK % m->from->bytes;
	size_t block = mix_block(m), chunk = CHUNK / BLOCK * block, i;
	uint8_t *to = m->to->base;
	uint64_t sum = 0;

	assert(chunk <= m->to->bytes);
	if (chunk)
		to += nr % (m->to->bytes / chunk) * chunk;
	for (i = 0; i < CHUNK / BLOCK; i++) {
		sum ^= bandwidth_read(from + i * BLOCK, BLOCK);
		bandwidth_write(to + i * block, block, sum, m->stream);
	}
	return sum;
}

static void mix_chunks(const struct bandwidth_mix *m, size_t nr)
{
	uint64_t sum = 0;

#pragma omp parallel num_threads((int)m->nr_threads) reduction(^ : sum)
	sum ^= mix_chunk(m, nr + (size_t)omp_get_thread_num());
	sink = sum;
}

double bandwidth_mix_sample(struct bandwidth_mix *m, double us)
{
	size_t chunk = CHUNK + CHUNK / BLOCK * mix_block(m), bytes = 0;
	uint64_t start = stats_now_ns(), ns;

	do {
		mix_chunks(m, m->at);
		m->at += m->nr_threads;
		bytes += chunk * m->nr_threads;
		ns = stats_now_ns() - start;
	} while ((double)ns < us * 1e3);
	return (double)bytes / (double)ns;
}
