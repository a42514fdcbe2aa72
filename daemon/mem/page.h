/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.h - a page, and its changes of state.
 *
 * One function per change. Each moves state, list, counters, charge and the
 * durable identity together, and asserts the state it starts from. Nobody
 * else writes p->state or p->link.
 *
 *	FREE -> OPEN -> SEALED <-> CACHED -> FREE
 *	         |  \-> QUARANTINED -> OPEN | FREE
 *	         \-> FREE
 *
 * A page of an open class, where its group has a sealed class as well, is an
 * exact copy while its block has a page of that class too. When the sealed
 * page comes or goes, a copy that is CACHED changes its list; it counts as
 * used then. A demoted page (demote.h) is a copy while its block has the sealed
 * page.
 */
#ifndef DAEMON_MEM_PAGE_H
#define DAEMON_MEM_PAGE_H

#include "daemon/mem/slab.h"
#include "daemon/mem/space.h"

struct writer;

enum saved {			/* of a page that is CACHED: save.h */
	SAVED_NOT,
	SAVED_SOON,		/* a copy is being made */
	SAVED			/* the tiers have it */
};

struct page {
	struct list link;	/* by state: see pool.h */
	struct mem_space *space;
	struct slab *slab;
	struct mem_client *client; /* OPEN: its writer */
	struct writer *writer;	/* QUARANTINED, or OPEN and unclaimed */
	struct charge charge;
	uint64_t holds;
	uint64_t stamp;		/* CACHED: mem.tick when it became so */
	uint32_t generation;
	uint32_t cell;		/* of its slab */
	uint32_t block;		/* of its space's index, 0: unnamed */
	uint32_t depth;		/* of that block */
	uint8_t state;
	uint8_t class;		/* of its space */
	bool copy;		/* CACHED: it is listed as one, or */
	int8_t priority;	/* on the shelf of this */
	bool pinned;		/* one of the holds is its pins': pin.h */
	uint8_t saved;		/* CACHED: enum saved */
	bool demoting;		/* OPEN: it is hidden; else one of the holds
				 * is demote.h's */
	bool demotes_not;	/* that was tried, and cannot be */
	bool awaited;		/* a tier was asked for it, or for what follows
				 * it, by who has yet to find it here */
	uint8_t uses;		/* since it was named, at most 255 */
	uint8_t queue, freq;	/* of policy_s3fifo.c */
};

/* The page of a handle that is not stale, not FREE; else NULL. */
struct page *page_get(const struct mem *m, handle_t handle);
uint32_t page_nr(const struct page *p);

/* The page that @handle was once of; of none that could be, page 0. */
static inline const struct page *page_at(const struct mem *m, handle_t handle)
{
	uint32_t nr = handle_nr(handle);

	return &m->pages[nr > m->nr_touched ? 0 : nr];
}

handle_t page_handle(const struct page *p);
place_t page_place(const struct page *p);

static inline uint32_t page_bytes(const struct page *p)
{
	return p->space->classes[p->class].page_bytes;
}

/* The class of the sealed pages of its group; often its own. */
static inline uint32_t page_sealed_class(const struct page *p)
{
	return p->space->sealed[p->space->classes[p->class].group];
}

/* The class of what is demoted in its group; PAGE_NO_CLASS: nothing is. */
static inline uint32_t page_demoted_class(const struct page *p)
{
	return p->space->demoted[p->space->classes[p->class].group];
}

static inline bool page_is_demoted(const struct page *p)
{
	return p->class == page_demoted_class(p);
}

/* Has its block a page that is wanted more and does without it? */
bool page_is_copy(const struct page *p);

/* Is there something in the index that cannot be found without it? */
bool page_is_followed(const struct page *p);

/* Of a named page. */
const struct name *page_name(const struct page *p);

/* Somebody has found it by its name. */
void page_count_use(struct page *p);

/* FREE -> OPEN, held by @c. A number and a cell are there. */
struct page *page_take(struct mem_client *c, struct mem_space *s,
		       uint32_t class);

/*
 * OPEN -> SEALED, and named for @prefix as @block's page of its class, of
 * which there is none yet, unless that is 0. A SEALED page may get its name
 * later.
 */
void page_seal(struct page *p, const struct prefix *prefix, uint32_t block,
	       uint32_t depth);

/*
 * FREE -> OPEN, of nobody, found by nobody; the table has it FREE. Held for
 * demote.h or vacate.h, which fills it. A number and a cell are there.
 */
struct page *page_take_hidden(struct mem_space *s, uint32_t class);

/*
 * Such a page -> SEALED, under the name of @from, which loses it and is FREE;
 * nobody holds either any more.
 */
void page_demote(struct page *p, struct page *from);

/*
 * Such a page of the class of @from, which is CACHED and then FREE, is CACHED
 * in its place.
 */
void page_move(struct page *p, struct page *from);

/*
 * Where its name is remembered and its uses are learned: the shelf that it is
 * on, or will be when it is demoted, for that is where it is given up.
 */
struct shelf *page_home(const struct page *p);

/* SEALED, no holds, named -> CACHED. */
void page_cache(struct page *p);

/* The pages of @block, whose first follower has come or whose last has gone. */
void page_followed(struct mem_space *s, uint32_t block);

/* The pages of @block, whose priority has changed. They count as used. */
void page_reprioritize(struct mem_space *s, uint32_t block);

/*
 * @to, OPEN and a copy of @from, has its name from here on: it is SEALED, as
 * @from stays, which has none any more. Both are held, by one client.
 */
void page_replace(struct page *from, struct page *to);

/* CACHED -> SEALED: somebody is about to hold it. */
void page_wake(struct page *p);

/* OPEN -> QUARANTINED until @w is dead; also one that @w did not claim. */
void page_quarantine(struct page *p, struct writer *w);

/* QUARANTINED, or OPEN and unclaimed or @p->client's, -> OPEN, held by @c. */
void page_reopen(struct page *p, struct mem_client *c);

/* Anything without holds -> FREE. */
void page_free(struct page *p);

/* ---- restarts ---- */

/* This process is done with it; the table keeps what it is. */
void page_forget(struct page *p);

/*
 * A page as the table's entry @nr says, in slab cell @cell: SEALED without a
 * name, or OPEN of @w.
 */
struct page *page_restore(struct mem *m, uint32_t nr, struct mem_space *s,
			  struct slab *slab, uint32_t cell, struct writer *w);

/* Gives a SEALED page back the name its identity has, and its block. */
void page_restore_name(struct page *p, uint32_t block);

/* Entry @nr is FREE, of a generation that must not come again. */
void page_restore_free(struct mem *m, uint32_t nr);

#endif
