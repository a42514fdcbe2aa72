/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.cu - pages to and from a buffer in one piece, and pages of zeros: what
 * tiers behind the device, and pages that change hands, need.
 *
 * The buffer may be page-locked memory of the host: kernels read and write it
 * where it is, so nothing is staged. Blocks are few (copy.h), so that copies
 * run beside kernels that someone waits for; each has one chunk of 16 KiB on
 * its way, and knows where the next one is before it has come.
 *
 * Moves page_bytes of a page in, once, and out, once; zeros only out. That is
 * the floor: on the device the memory's rate for the sum of both, to the host
 * the link's for one. A block moves 16 KiB each round trip to where it reads.
 */
#include "kernels/cuda/copy.h"
#include <device.cuh>

/* Number @part of page number @page. */
struct chunk {
	uint64_t page;
	uint32_t part;
};

/* What is on its way in a thread. */
struct load {
	u4 x[COPY_LOADS];
};

DEVICE uint32_t chunk_bytes(const struct copy_params &p, uint32_t part)
{
	const uint32_t left = p.page_bytes - part * COPY_CHUNK;

	return left < COPY_CHUNK ? left : COPY_CHUNK;
}

/* Of the thread's load number @i, in a chunk. */
DEVICE uint32_t load_at(uint32_t i)
{
	return (i * COPY_THREADS + threadIdx.x) * COPY_ALIGN;
}

DEVICE void chunk_store(uint8_t *to, const struct load &l, uint32_t bytes)
{
	UNROLL
	for (uint32_t i = 0; i < COPY_LOADS; i++)
		if (load_at(i) < bytes)
			u4_store_once(to + load_at(i), l.x[i]);
}

DEVICE struct load load_zero(void)
{
	struct load l;

	UNROLL
	for (uint32_t i = 0; i < COPY_LOADS; i++)
		l.x[i] = u4_zero();
	return l;
}

/* All loads before the first store: they are on their way together. */
DEVICE void chunk_copy(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	struct load l = load_zero();

	UNROLL
	for (uint32_t i = 0; i < COPY_LOADS; i++)
		if (load_at(i) < bytes)
			l.x[i] = u4_load_once(from + load_at(i));
	chunk_store(to, l, bytes);
}

/* The block's next chunk. */
DEVICE void chunk_step(struct chunk *c, uint32_t parts)
{
	c->page += gridDim.x / parts;
	c->part += gridDim.x % parts;
	if (c->part >= parts) {
		c->part -= parts;
		c->page++;
	}
}

/* @move(address in a page, address in the buffer, bytes) of the block's. */
template <typename MOVE>
DEVICE void chunks_move(const struct copy_params &p, MOVE move)
{
	const uint32_t parts = copy_parts(p.page_bytes);
	const uint32_t nr = *p.nr < p.max_pages ? *p.nr : p.max_pages;
	struct chunk c = { blockIdx.x / parts, blockIdx.x % parts };
	uint64_t page = c.page < nr ? p.pages[c.page] : 0;

	while (c.page < nr) {
		const uint64_t from = page;
		const uint64_t at = (uint64_t)c.part * COPY_CHUNK;
		const uint64_t out = c.page * p.page_bytes + at;
		const uint32_t bytes = chunk_bytes(p, c.part);

		chunk_step(&c, parts);
		page = c.page < nr ? p.pages[c.page] : 0;
		if (from)
			move((uint8_t *)(uintptr_t)(from + at), p.buffer + out,
			     bytes);
	}
}

extern "C" __global__ void __launch_bounds__(COPY_THREADS)
kv_gather(const __grid_constant__ struct copy_params p)
{
	chunks_move(p, [](uint8_t *page, uint8_t *buffer, uint32_t bytes) {
		chunk_copy(buffer, page, bytes);
	});
}

extern "C" __global__ void __launch_bounds__(COPY_THREADS)
kv_scatter(const __grid_constant__ struct copy_params p)
{
	chunks_move(p, [](uint8_t *page, uint8_t *buffer, uint32_t bytes) {
		chunk_copy(page, buffer, bytes);
	});
}

extern "C" __global__ void __launch_bounds__(COPY_THREADS)
kv_zero(const __grid_constant__ struct copy_params p)
{
	chunks_move(p, [](uint8_t *page, uint8_t *, uint32_t bytes) {
		chunk_store(page, load_zero(), bytes);
	});
}
