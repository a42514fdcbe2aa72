/* SPDX-License-Identifier: Apache-2.0 */
/*
 * water.h - room that is made before it is asked for: three marks, as Linux
 * has them for a zone.
 *
 * A size class is the zone. Its free room is what can be taken from it with
 * no page given up: its free cells, the slabs that fit into what its tenant's
 * segments have free (the one in making too), and what of the pool is in no
 * segment, as far as the tenant may have more. Page numbers, which all classes share, have marks of
 * their own: the same part of them.
 *
 * An allocation that leaves less than low has background reclaim start for its
 * class: a bounded step a turn of the loop, by mem_trim(), until high is
 * reached, or nothing is left that may go. What is below min the allocation
 * makes itself, in a bounded step, when it has its pages: giving up others may
 * cost a class free cells that it has counted on, for an empty slab is given
 * back. Without an allocation nothing starts: a
 * class that is full and wanted by nobody stays full.
 *
 * What goes is what would go for an allocation of that class, in that order;
 * in the background none of a tenant's that its min keeps. Limits of tenants
 * are no zones: who is at its high or max has room here, and gives up its own.
 */
#ifndef DAEMON_MEM_WATER_H
#define DAEMON_MEM_WATER_H

#include "daemon/mem/slab.h"

/* Where marks are chosen: of so many pages at most, and of fewer none. */
#define WATER_MOST_PAGES   4096u
#define WATER_FEWEST_PAGES 16u

/* Bytes of a class's free room, see above. */
uint64_t water_room(const struct size_class *sc);

/* The marks of a class whose pages have @page_bytes; all 0: none. */
struct mem_marks water_marks(const struct mem *m, uint64_t page_bytes);

/*
 * @nr pages of @sc were taken: where that leaves less than min, gives up as
 * many at most, within what is left of the step.
 */
void water_direct(struct size_class *sc, uint32_t nr);

/* Pages of @sc were taken: wakes background reclaim below low. */
void water_taken(struct size_class *sc);

/* Background reclaim, within what is left of the step. Return: there is more
 * to do. */
bool water_step(struct mem *m);

/* Of the class of a tenant with clients that has the least above its high. */
void water_stat(const struct mem *m, struct mem_stat *ret);

#endif
