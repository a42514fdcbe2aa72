/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.h - making room by giving up what nobody holds.
 *
 * Only CACHED pages are given up, of a tenant those of the lowest priority
 * first, of these the coldest, and nothing during the
 * grace time. A tenant's exact copies (page.h), of whatever size, go before
 * anything else it has. Same size: page by page. Another size: a whole slab,
 * whose granules then serve any class; of copies, all that one slab has.
 * Another tenant: a whole segment, and only one that nobody can have mapped,
 * and nothing that the other's min keeps.
 */
#ifndef DAEMON_MEM_RECLAIM_H
#define DAEMON_MEM_RECLAIM_H

#include "daemon/mem/page.h"

/* CACHED -> FREE, counted. */
void page_evict(struct page *p);

/* What goes first of @sc but copies, or NULL. */
struct page *reclaim_class_coldest(const struct size_class *sc);

/* The same over the classes of @t of which that is @wanted. */
struct page *reclaim_coldest_of(const struct tenant *t,
				bool (*wanted)(const struct page *p));

/* Gives up all of such a slab. Return: there was one. */
bool reclaim_slab(const struct size_class *sc);

/* A slab without held pages, near the cold end of @sc, or NULL. */
struct slab *reclaim_idle_slab(const struct size_class *sc);

/* Gives up @nr pages of @t, which has them. Return: false when the step is
 * spent before. */
bool reclaim_pages(struct tenant *t, uint64_t nr);

/*
 * A bounded step of giving up pages, of @t or, where that is NULL, of all but
 * what their min keeps, until @given->bytes are @bytes. Return: there is more
 * to give up, and it is wanted.
 */
bool reclaim_some(struct mem *m, struct tenant *t, uint64_t bytes,
		  struct mem_given *given);

/*
 * A bounded step of giving up what @s has cached, from block @from on; added
 * to @given. Return: the block to go on from, 0: that was all.
 */
uint32_t reclaim_blocks(struct mem_space *s, uint32_t from,
			struct mem_given *given);

/*
 * Until @nr page numbers are free: pages of @t, then of others, because all
 * tenants share the numbers. Return: 0; -EAGAIN the step is spent before;
 * -ENOSPC, and nothing done: not to be had.
 */
int reclaim_numbers(struct tenant *t, uint32_t nr);

/*
 * One step towards a free cell of @sc within its tenant: copies, then a page
 * of the class or a slab of another. Return: false when there is nothing to give up.
 */
bool reclaim_step(struct size_class *sc);

/* Could reclaim_step() ever make @nr cells of @sc free? */
bool reclaim_may_help(const struct size_class *sc, uint32_t nr);

/* Takes a segment from another tenant; true: it is on its way, or some of
 * its pages have gone. */
bool reclaim_segment(struct tenant *t);

/*
 * Gives up pages of @t until it is charged no more than @bytes, or has none
 * cached, or the step is spent. Return: only that stopped it.
 */
bool reclaim_down(struct tenant *t, uint64_t bytes);

/*
 * Gives up a page for its number: of @t above its min, else of whoever has the
 * coldest above his. Return: false when there is none.
 */
bool reclaim_number(struct tenant *t);

/* Gives up what @t would give up next, unless its min keeps that. Return:
 * false when there is nothing, or it is being saved (save.h). */
bool reclaim_coldest(struct tenant *t);

#endif
