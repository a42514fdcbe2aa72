/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stock.h - free pages kept at hand, so that an append rarely asks for one.
 *
 * One stock per class of a space. Its pages are OPEN at the daemon, charged
 * to the tenant and held by this connection with refs 1; the daemon may recall
 * them. A stock is empty or holds at most `limit` pages between calls: the
 * lesser of STOCK_MAX_PAGES and the class's share of the space's stock bytes.
 */
#ifndef CLIENT_LIB_STOCK_H
#define CLIENT_LIB_STOCK_H

#include <stdbool.h>
#include <stdint.h>

#define STOCK_MAX_PAGES 64u
#define STOCK_WAIT_MS 1000u	/* where the caller gives no wait_ms */

struct hold;
struct kvd_space;

struct stock {
	struct hold **holds;	/* [nr]; the newest last */
	uint32_t nr;
	uint32_t room;		/* of holds */
	uint32_t limit;
};

/**
 * stock_init() - set the limits from the space's stock_bytes
 * Return: 0 or -ENOMEM.
 */
int stock_init(struct kvd_space *sp);
void stock_fini(struct kvd_space *sp);

/**
 * stock_take() - @nr open pages, all or none, refs 1 each
 *
 * From the stock if it has them; else the daemon is asked, for more than is
 * needed while it gives more, and waited for up to the space's wait_ms.
 *
 * Return: 0, -ENOMEM, -ENOSPC, -EDQUOT, -ENOTCONN, and what map_place()
 * returns. The daemon may have come back meanwhile without the pool: callers
 * with pages of their own look whether those are stale.
 */
int stock_take(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
	       struct hold **holds);

/**
 * stock_want() - have at least @nr pages of a class in the stock
 *
 * For who takes them before anything else is asked, or calls stock_settle().
 * A recall is not served: that would take what other classes have just got;
 * who wants anything calls conn_serve() before. Return: as stock_take(); the
 * stock is then within its limit.
 */
int stock_want(struct kvd_space *sp, uint32_t page_class, uint32_t nr);

/* Back within the limits, after stock_want(). */
void stock_settle(struct kvd_space *sp);

/* Takes over the caller's use of an OPEN page; false: no room for it. */
bool stock_put(struct hold *h);

/* Releases what exceeds @limit pages of each class, and what is stale. */
void stock_trim(struct kvd_space *sp, uint32_t limit);

#endif
