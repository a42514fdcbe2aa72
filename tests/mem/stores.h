/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stores.h - the script of stores.c, and the chapters of it that are apart.
 */
#ifndef TESTS_MEM_STORES_H
#define TESTS_MEM_STORES_H

#include "tests/mem/fixture.h"

#define SPACES	3
#define SHRINKS 2	/* the one whose pages are demoted, */
#define SMALL	1	/* to this class of it */
#define SEQS	4
#define DEPTHS	3
#define CLASSES 3
#define PIDS	2	/* of tenant t: FIRST_PID.. */

extern struct fx primary;	/* the daemon */
extern struct mem_client *clients[PIDS];
extern struct mem_space *spaces[PIDS][SPACES];
extern uint32_t kept_from, kept_to; /* blocks of SHRINKS that have to be there,
				     * in whatever class */

/* Before what may give up pages: nothing is promised that nobody holds. */
void facts_loosen(void);

/* Between two changes what a client finds is promised. */
void facts_settle(void);

/* Block @depth of a prefix, the classes in @classes, each held by @pid. */
void publish(uint32_t pid, uint32_t space, uint32_t seq, uint32_t depth,
	     uint32_t classes);

/* Lets go of what publish() left held. */
void let_go(uint32_t pid, uint32_t space, uint32_t seq, uint32_t depth);

/* ---- stores_demote.c ---- */

/* The first and the last word of a page; and what is in both. */
void page_ends(struct mem_space *s, place_t place, uint32_t class,
	       volatile uint64_t **first, volatile uint64_t **last);
uint64_t content(uint32_t space, uint32_t seq, uint32_t depth, uint32_t class);

/* Pages are demoted, and moved. */
void do_demote(void);

#endif
