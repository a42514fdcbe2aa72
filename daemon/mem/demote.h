/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demote.h - cached pages that lose bits before they are lost.
 *
 * Where a space names smaller formats (kvd_geometry.demote_k and demote_v), a
 * page that is CACHED in its sealed class is stored once more on the device's
 * thread, in a page of the demoted class that takes its place under the same
 * name. Until then both are here: the old one SEALED, with a hold of ours,
 * the new one OPEN, of no client, and FREE in the table. So who finds the old
 * one meanwhile keeps it, and a successor finds one of the two, or both: then
 * the smaller is a copy (page.h) and goes first.
 *
 * Room for new pages is what the class has, then granules, then what its
 * coldest pages leave. As long as more than a DEMOTE_KEEP-th of what the tenant
 * has is cached at full size, whole slabs of such pages are demoted, so that
 * their granules can serve the smaller ones; later one page for one page. Where
 * none are left at full size but held ones, slabs of the smaller are emptied
 * for more of those (vacate.h).
 */
#ifndef DAEMON_MEM_DEMOTE_H
#define DAEMON_MEM_DEMOTE_H

#include "daemon/mem/page.h"

#define DEMOTE_KEEP  64u  /* a part of the tenant's bytes */
#define DEMOTE_PAGES 64u  /* in one job, at most, but for a whole slab */
#define DEMOTE_JOBS  8u   /* under way, at most */

/* Is @p, which is CACHED, to be demoted before it is given up? Not if it may go
 * for the first slab of such pages. */
bool demote_takes(const struct page *p);

/**
 * demote_coldest() - has pages of @t demoted, if what goes next can be
 * @nr:	about so many
 *
 * Return: some are under way, or what goes for them is being saved: room comes
 * when that is done.
 */
bool demote_coldest(struct tenant *t, uint64_t nr);

/* The same for room in @sc; where there are none, a slab is emptied for it. */
bool demote_begin(const struct size_class *sc, uint64_t nr);

/* @block has a sealed page of @group: what was demoted is of no use. */
void demote_replaced(struct mem_space *s, uint32_t block, uint32_t group);

/* Moves those of @s, or of all (NULL), from cached to demoted in a sum. */
void demote_counts(const struct mem *m, const struct tenant *t,
		   struct mem_counts *pages, struct mem_counts *bytes);
void demote_space_counts(const struct mem_space *s, struct mem_space_stat *ret);

#endif
