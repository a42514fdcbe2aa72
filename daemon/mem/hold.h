/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.h - clients, and what they keep from being reclaimed.
 *
 * A client counts its holds per page number in a map; a page counts them over
 * all clients. So a client that goes is undone in time proportional to what
 * it held, in bounded steps: until the last it is a client still, that nobody
 * asks for anything, and holds what it has not given back yet. Of these the
 * newest go first. Pages whose last hold goes are gathered and settled at the
 * end of the step: deeper blocks first, so that a suffix is colder than its
 * prefix.
 */
#ifndef DAEMON_MEM_HOLD_H
#define DAEMON_MEM_HOLD_H

#include "daemon/mem/page.h"

struct mem_client {
	struct list link;	/* tenant.clients */
	struct mem *m;
	struct tenant *tenant;
	struct mem_client_id id;
	void *owner;
	struct map holds;	/* page number -> holds */
	struct map spaces;	/* space id -> times opened */
	struct writer *writer;	/* in reserve, should its pages outlive it */
	uint64_t nr_open;
	uint64_t bytes;		/* of the pages held */
	uint32_t nr_asked;	/* to unmap, and not answered: mapped.h */
	bool opened;		/* a space, at some time */
	bool recalled;		/* asked for its stock, nothing came yet */
	bool succeeded;		/* the next of its series has all it wants */
	bool leaving;		/* it has gone: all that follows counts */
	enum mem_end end;
	struct list leave;	/* mem.leaving */
	struct writer *left;	/* it as a writer, or NULL */
};

/* A process that may still write to pages or map segments, though it is no
 * client. */
struct writer {
	struct list link;	/* mem.writers */
	struct tenant *tenant;
	pid_t pid;
	uint64_t start_time;
	bool dead;		/* its pages are becoming FREE */
	bool late;		/* has not claimed: those OPEN, which are before
				 * all others, are becoming QUARANTINED */
	struct list pages;	/* QUARANTINED, or OPEN and unclaimed */
	uint64_t nr_pages;
};

/**
 * writer_get() - the writer of that process and tenant, found or listed
 * @reserve:	used up when there is none yet; NULL: allocate
 * Return: NULL when out of memory.
 */
struct writer *writer_get(struct tenant *t, pid_t pid, uint64_t start_time,
			  struct writer **reserve);
/* Its pages become FREE and it is forgotten. */
void writer_reap(struct writer *w);

/*
 * What is left of clients that have gone and writers that are dead is given
 * back, within what is left of the step. Return: there is more.
 */
bool clients_step(struct mem *m);
bool writers_step(struct mem *m);

/* Of clients that hold few pages and held many: what it takes to know them. */
void clients_trim(struct mem *m);

/* Is there more of @t to come by such steps? */
bool client_pages_come(const struct tenant *t);

/* Has a client that is going more pages for @w? */
bool writer_is_awaited(const struct writer *w);

/* Holds of @c on @p. */
uint64_t hold_count(const struct mem_client *c, const struct page *p);

/* Adds @n; the map of @c has room where it holds none yet. */
void hold_add(struct mem_client *c, struct page *p, uint64_t n);

/* Takes @n of those that @c has; the page's state stays. */
void hold_drop(struct mem_client *c, struct page *p, uint64_t n);

/* hold_add() on a page that is SEALED or CACHED, for whatever reason. */
void hold_sealed(struct mem_client *c, struct page *p, uint64_t n);

/*
 * A page that was held and is not any more: FREE, or in @cold for
 * page_settle().
 */
void page_unheld(struct page *p, struct list *cold);
void page_settle(struct mem *m, struct list *cold);

#endif
