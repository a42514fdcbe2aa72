/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twin.h - sides, and worlds, once more in the other order of codes.
 */
#ifndef TESTS_KERNELS_TWIN_H
#define TESTS_KERNELS_TWIN_H

#include "kernels/host/order.h"
#include "tests/kernels/world.h"

/* Writes to @to, code by code, what @from holds. */
void twin_side(const struct side *to, const struct side *from);

/* Have both the same codes of tokens from @first to @end - 1? */
int twin_codes(const struct side *a, const struct side *b, uint32_t first,
	       uint32_t end);

/* Have both the same metadata? */
int twin_meta(const struct side *a, const struct side *b);

/*
 * @twin is @w with its pages in @tile_order, for as long as @w lives.
 */
void twin_init(struct world *twin, const struct world *w, uint32_t tile_order);
void twin_fini(struct world *twin);

/* The side in page @page of @w's page table. */
struct side twin_at(const struct world *w, uint32_t page, uint32_t head,
		    int is_v);

#endif
