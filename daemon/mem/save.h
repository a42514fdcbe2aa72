/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.h - what is about to be given up goes to the tiers before.
 *
 * A page that is given up is gone at once, so copies are made ahead. Of each
 * size class the pages that would go next are saved, as many as SAVE_AHEAD
 * says, less what can be had without; then giving one up costs nothing. Where
 * what goes next is not saved yet, whoever wants its room waits for a copy, a
 * few turns of the loop; then it goes without, and is lost. A page that will be
 * demoted (demote.h) is saved as what becomes of it.
 *
 * A copy is made while anything may happen to the page. Its bytes do not change
 * as long as it is the page that it is, so if that is still so afterwards the
 * copy is good, else it is dropped. A large page is copied a part at a time,
 * with others' work on the device between.
 */
#ifndef DAEMON_MEM_SAVE_H
#define DAEMON_MEM_SAVE_H

#include "daemon/mem/page.h"
#include "daemon/tier/tiers.h"

#define SAVE_AHEAD	 16u	/* such a part of the pool's pages, */
#define SAVE_AHEAD_FEWEST 64u
#define SAVE_AHEAD_MOST	 256u
#define SAVE_WAITS	 64u
#define SAVE_CHUNK	 (2u << 20) /* bytes that are copied at once */

/* What a page is, beside its bytes. */
struct save_head {
	uint32_t class;
	uint32_t depth;
	uint8_t uses;
	int8_t priority;
	uint8_t reserved[6];
	char tenant[TABLE_NAME_BYTES];
	struct mem_space_key key;
	struct prefix prefix;	/* tokens behind a page's are 0 */
};

_Static_assert(sizeof(struct save_head) <= TIER_HEAD_BYTES, "a tier's head");

/* Of tenant, model and geometry, under which the tiers have pages of @s; what
 * it stands for is in each head. */
uint64_t save_origin(struct mem_space *s);

/* Under which they have one of them. */
struct tier_key save_key(struct mem_space *s, const struct name *name,
			 uint32_t class);

/* Pages of @sc were taken: those that go next may have to be saved. */
void save_taken(struct size_class *sc);

/*
 * Is something among what goes next for @nr pages of @sc that is being saved, or
 * may be? Whoever wants them waits for a turn, SAVE_WAITS at most.
 */
bool save_is_due(struct size_class *sc, uint32_t nr);

/* The same of the next page that goes, whatever room there is. */
bool save_is_coming(struct size_class *sc);

/* @p is given up. */
void save_evicted(const struct page *p);

/* A bounded part of what is to be saved. */
void save_step(struct mem *m);

#endif
