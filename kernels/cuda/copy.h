/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.h - what the launcher and the kernels that copy and zero whole pages
 * agree on.
 *
 * A page is cut into chunks; block b of n takes chunks b, b + n, ... of all
 * pages in the order of their list. The grid depends on no length: which pages
 * there are, and how many, a kernel reads from memory.
 */
#ifndef KERNELS_CUDA_COPY_H
#define KERNELS_CUDA_COPY_H

#include <stdint.h>
#include "kernels/format.h"

#define COPY_ALIGN 16u	/* of pages, their sizes, and the buffer */
#define COPY_THREADS 256u
#define COPY_LOADS 4u	/* that a thread has on their way, 16 bytes each */
#define COPY_CHUNK (COPY_THREADS * COPY_LOADS * COPY_ALIGN)

/* Blocks for so many multiprocessors, unless said: one in four has one. */
#define COPY_BLOCKS 2u
#define COPY_BLOCKS_OF 8u

struct copy_params {
	const uint64_t *pages; /* addresses; 0: none */
	const uint32_t *nr;
	uint8_t *buffer;       /* [page][page_bytes] */
	uint32_t max_pages;
	uint32_t page_bytes;   /* a multiple of COPY_ALIGN */
};

/* Chunks of a page; the last one may be short. */
KV_INLINE uint32_t copy_parts(uint32_t page_bytes)
{
	return page_bytes / COPY_CHUNK + (page_bytes % COPY_CHUNK != 0);
}

#endif
