/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - which cached page is given up next.
 *
 * A size class has a shelf for each priority (mem.h): its CACHED pages but for
 * the exact copies, which go before all others by themselves (page.h). One of a
 * higher priority is looked at only where those below have nothing, so policies
 * know of none (reclaim.c). The pool's policy puts pages on
 * shelves and says which goes first; what a policy learns is per shelf, so
 * that tenants learn nothing from each other. Of pages that are demoted before
 * they go, the shelf learns that they go from (page_home()). A page that is followed by
 * others in the index should stay as long as they do: without it they cannot
 * be found.
 */
#ifndef DAEMON_MEM_POLICY_H
#define DAEMON_MEM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* What a policy remembers of pages given up, for each that the pool has. */
#define POLICY_GHOSTS 4u

struct ghosts;
struct page;
struct shelf;
struct tier_value;

struct policy {
	const char *name;
	/* A shelf for a pool that has room for @nr_pages of them, and for
	 * @nr_kept with the tiers behind it; it may remember names in @ghosts.
	 * NULL: out of memory. It is empty when it is freed. */
	struct shelf *(*shelf_new)(uint64_t nr_pages, uint64_t nr_kept,
				   struct ghosts *ghosts);
	void (*shelf_free)(struct shelf *s);
	/* @p, which has a name, is CACHED now, at p->stamp. */
	void (*put)(struct shelf *s, struct page *p);
	/* @p is no more: because somebody uses it, or it is given up. */
	void (*take)(struct shelf *s, struct page *p, bool used);
	/* @p, which is not CACHED, has got its name just now. */
	void (*named)(struct shelf *s, struct page *p);
	/* Whether something follows @p has changed. May be NULL. */
	void (*followed)(struct shelf *s, struct page *p);
	/* The page to give up next; NULL: there is none. It stays. */
	struct page *(*next)(struct shelf *s);
	/* What next() is worth, to compare with other shelves' at the time
	 * @now of mem.tick: what is worth less goes. */
	uint64_t (*worth)(struct shelf *s, const struct page *p, uint64_t now);
	/* What pages of @home are worth in the tiers too, and the kind of @p
	 * there. May be NULL: they go as they were given up. */
	struct tier_value *(*value)(struct shelf *home, const struct page *p,
				    uint32_t *ret_kind);
	/* Calls @look for pages, those that go first being first, until it
	 * returns false. It must free none. */
	void (*walk)(struct shelf *s, bool (*look)(struct page *p, void *ctx),
		     void *ctx);
};

/* The first is the default. */
extern const struct policy policy_density, policy_lru, policy_s3fifo;

/* The policy @name, or the default where that is empty; NULL: no such. */
const struct policy *policy_find(const char *name);

#endif
