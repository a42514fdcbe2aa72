/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shrink.h - a pool that is larger than it may be gives segments back.
 *
 * Those with the fewest held pages, and of these with the fewest cached ones,
 * are DRAINING: no page is taken of them, what is cached there moves (move.h),
 * and what is held stays until it is released. Held pages are never moved: who
 * holds one has its place. An empty one goes to the device, if nobody can have
 * it mapped, else it is REVOKED until nobody has (mapped.h). Only as many drain
 * as have to go; when the pool is allowed more again meanwhile, those that are
 * not revoked are as they were.
 *
 *	segment_total > pool_bytes, and no more than shrunk_from
 *
 * is so only while it shrinks: until then no segment is made.
 */
#ifndef DAEMON_MEM_SHRINK_H
#define DAEMON_MEM_SHRINK_H

#include "daemon/mem/elastic.h"
#include "daemon/mem/segment.h"

/* A bounded step. Return: there is more, and it is worth going on at once. */
bool shrink_step(struct mem *m);

/* A draining segment is about to leave its tenant. */
void shrink_forget(struct segment *seg);

/* A pool that grows on demand may have a segment more. Return: it may. */
bool shrink_grow(struct mem *m);

/* What its segments may have in sum. */
uint64_t shrink_most(const struct mem *m);

/* Cells of a draining segment that are free and count for nobody. */
uint64_t shrink_cells(const struct segment *seg);

/* The walker's part. Return: what does not add up, or NULL. */
const char *shrink_verify(const struct mem *m);

#endif
