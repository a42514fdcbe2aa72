/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - struct mem: one pool, and what its chapters share.
 *
 * Reading order: table (what survives), tenant (who pays), limits (how much),
 * segment and slab (where bytes come from), page (states), index and space
 * (names), hold (who keeps a page), pin (what stays without), then alloc,
 * reclaim, demand, publish, survey, shrink, move, mapped, restore, verify.
 *
 * What holds between two calls, for every page number ever used:
 *
 *	FREE		in free_pages; no slab, no holds
 *	OPEN		one hold, by p->client; or, after a restart, none and
 *			in the list of its unclaimed writer
 *	SEALED		holds >= 1, of which one may be its pins'; or, after a
 *			restart, unnamed, no holds and in unclaimed, also
 *			while that is being emptied
 *	CACHED		no holds, named, in its size class: among the copies
 *			when it is one (page.h), else on the shelf
 *	QUARANTINED	no holds, in the list of its writer
 *
 * and: p->block is not 0 exactly when the page is named, and then that block
 * names the page; the table's identity is the page's; every tally is the sum
 * over pages; a tenant's charge is the bytes of its pages that are not FREE,
 * and no more than its max, unless that was lowered below it since.
 * mem_verify() checks all of it.
 *
 * A page that is being made for demote.h or vacate.h is OPEN with its hold, of no
 * client, and FREE in the table. DEMOTED is how figures call the CACHED pages of a
 * demoted class. REVOKED never has pages: its bytes are those of
 * segments that have been emptied and that some process may still have mapped
 * (shrink.h); they are in their tenant's charge until none can.
 */
#ifndef DAEMON_MEM_POOL_H
#define DAEMON_MEM_POOL_H

#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/mem/policy.h"
#include "daemon/mem/table.h"
#include "daemon/mem/tally.h"
#include "daemon/mem/tiers.h"
#include "daemon/util/list.h"
#include "daemon/util/map.h"

#define MEM_FD_TABLE   "kvd-table"
#define MEM_FD_SEGMENT "kvd-seg-"

#define PIN_SLOTS 256u

struct pins {
	struct map all;			/* space and block -> pin */
	struct list wheel[PIN_SLOTS];	/* by the second they end in */
	struct list ending;		/* to be let go of, block by block */
	uint64_t at;			/* second that was looked at last */
	uint64_t bytes;			/* of the pages covered, all tenants' */
	uint32_t percent;		/* of its max that a tenant may pin */
};

struct saves {			/* pages on their way to the tiers: save.h */
	uint32_t nr;
	uint64_t bytes;
	bool full;		/* more was to be saved than there is room for */
};

struct mem {
	const struct mem_ops *ops;
	void *ctx;
	struct dev *dev;
	const struct policy *policy;
	struct list ghosts;		/* one memory for each page size */
	struct table table;
	uint64_t pool_bytes;		/* what it may have now: shrink.h */
	uint64_t pool_max;		/* what it may be given */
	uint64_t kept_max;		/* and the tiers, as far as policies
					 * learn of what they have */
	uint64_t segment_bytes;

	struct page *pages;		/* [nr_entries + 1] */
	uint32_t nr_touched;		/* page numbers beyond were never used */
	uint32_t nr_free;		/* page numbers not in use */
	struct list free_pages;		/* of those touched */

	uint32_t max_spaces;		/* of a tenant; 0: a quarter */
	struct list tenants;
	struct list limits;		/* by name, see limits.h */
	uint64_t min_total;		/* promised to all of them */
	struct list writers;		/* processes that are waited for */
	struct list leaving;		/* clients that have gone: hold.h */
	struct list unclaimed;		/* restored, sealed, unnamed */
	struct mem_space **spaces;	/* [nr_spaces], by record number */
	uint64_t nr_spaces_ever;	/* made or restored */
	struct map segments;		/* id -> struct segment */
	uint64_t segment_total;		/* bytes of segments, made or in making */
	uint32_t nr_making;
	uint32_t nr_leaving;		/* segments on their way to the device */
	uint64_t leaving_bytes;		/* of these */
	uint64_t draining_bytes;	/* of segments that are being emptied */
	uint64_t shrunk_from;		/* there may be so many bytes still */
	bool on_demand;			/* it grows when there is no room */
	struct move *move;		/* pages on their way: move.h */
	uint64_t nr_moved;
	uint64_t nr_taken;		/* pages, since start */

	struct tiers *tiers;		/* behind the pool, or NULL */
	struct saves saves;
	struct list fetches;		/* from them: fetch.h */
	struct mem_tiers_stat tiers_stat;

	struct pins pins;
	struct tally tally;
	struct mem_stat stat;		/* its counters of events */
	uint64_t tick;			/* pages taken, and releases: time */

	bool in_grace;
	bool grow_failed;		/* the device had no memory lately */
	bool wanting;			/* an allocation was refused */
	bool freed;			/* since: a page became FREE or CACHED */
	bool trimming;			/* a tenant may be above its limits */
	bool working;			/* ops->work was told */

	uint32_t nr_demoting;		/* jobs: demote.h */
	bool vacating;			/* a slab is being emptied: vacate.h */
	bool demotes_not;		/* the device cannot */

	struct mem_marks marks;		/* of free room, see water.h */
	bool marks_bounded;
	struct tenant *short_tenant;	/* numbers are wanted for it, or NULL */
	enum mem_reclaim why;		/* what pages are given up for now */
	uint32_t looks;			/* what is left of this step */
};

/*
 * What one call may do, so that no turn of the loop is long: a page given up
 * or let go of costs as much as eight looks at a page, slab or class.
 */
#define STEP_LOOKS	2048u
#define STEP_PAGE_LOOKS 8u

static inline void step_begin(struct mem *m)
{
	m->looks = STEP_LOOKS;
}

static inline void step_look(struct mem *m, uint32_t nr)
{
	m->looks -= nr < m->looks ? nr : m->looks;
}

static inline bool step_is_spent(const struct mem *m)
{
	return m->looks == 0;
}

/* Bytes that are in no segment. */
static inline uint64_t pool_room(const struct mem *m)
{
	return m->pool_bytes > m->segment_total ?
		       m->pool_bytes - m->segment_total : 0;
}

/* And those that it would be given for the asking. */
static inline uint64_t pool_room_on_demand(const struct mem *m)
{
	return pool_room(m) + (m->on_demand ? m->pool_max - m->pool_bytes : 0);
}

/* Has mem_trim() called, where it is not being called anyway. */
void mem_has_work(struct mem *m);

/* Calls ops->room when somebody waits and something was freed: the last step
 * of a call, because ops->room may call back. */
void mem_tell_room(struct mem *m);

#endif
