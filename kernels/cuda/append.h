/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.h - what the launcher and the kernel of append agree on.
 *
 * Row order: blocks are (row, head, K or V), of one warp. Tile order: blocks
 * are (tile, head, K or V), where a tile is what a sequence's rows have of 16
 * positions that begin at a multiple of 16: no byte is of two tiles.
 */
#ifndef KERNELS_CUDA_APPEND_H
#define KERNELS_CUDA_APPEND_H

#include "kernels/kernels.h"

#define APPEND_TILE 16u
#define APPEND_TILE_THREADS 128u
#define APPEND_BLOCKS 8u /* on a multiprocessor, at least: 64 registers */

/* Tiles that the rows of one sequence are in. */
KV_INLINE uint32_t append_tiles(uint32_t pos, uint32_t nr_rows)
{
	return nr_rows ? (pos % APPEND_TILE + nr_rows + APPEND_TILE - 1) /
				 APPEND_TILE :
			 0;
}

/* No fewer than append_tiles() of all sequences, wherever they begin. */
KV_INLINE uint32_t append_tiles_most(uint32_t nr_rows, uint32_t nr_seqs)
{
	uint64_t most = ((uint64_t)nr_rows +
			 2ull * (APPEND_TILE - 1) * nr_seqs) / APPEND_TILE;

	return most < nr_rows ? (uint32_t)most : nr_rows;
}

/* A row of floats for each warp, and codes, 16 bits each, of all rows. */
KV_INLINE uint32_t append_shared_bytes(uint32_t warps, uint32_t rows,
				       uint32_t dim)
{
	return dim * (4 * warps + 2 * rows);
}

#endif
