/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - the rows of one call of the model, and the blocks they are in.
 */
#ifndef KVWORKER_ROWS_H
#define KVWORKER_ROWS_H

#include <stddef.h>

/*
 * Rows of a multiplication (model.c). Divides every page size, so that a block
 * never crosses pages. Fewer make decode cheaper, more make prefill: 16 costs
 * both little.
 */
#define BLOCK 16

struct rows {
	size_t nr_blocks;
	size_t first;		/* row of the first token */
	size_t nr;		/* tokens */
	size_t pos;		/* position of the first token */
};

#endif
