/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.h - where a prefix may be shared: tenant x model x geometry x rank.
 *
 * A space has an index and statistics that its tenant's clients map, and one
 * size class per page class. A group of layers whose pages are sealed in other
 * formats than they are filled in has two classes, and a block of the index a
 * page of each at most. It outlives its clients; one without clients
 * whose pages are all CACHED is recycled when there are too many, the one with
 * the fewest pages first. A tenant may have a quarter of them.
 */
#ifndef DAEMON_MEM_SPACE_H
#define DAEMON_MEM_SPACE_H

#include "daemon/mem/index.h"
#include "daemon/mem/slab.h"
#include "daemon/mem/tenant.h"
#include "kernels/page.h"

struct mem_space {
	struct mem *m;
	struct tenant *tenant;
	uint32_t id;			/* record number + 1 */
	uint64_t serial;		/* of no other space since the start */
	uint32_t nr_clients;
	struct mem_space_key key;	/* unused groups zeroed */
	uint64_t fingerprint;
	uint32_t nr_classes;
	struct mem_class classes[MEM_MAX_CLASSES];
	struct size_class *sizes[MEM_MAX_CLASSES];
	uint8_t sealed[KVD_MAX_GROUPS];	/* class of a group's sealed pages, */
	uint32_t demoted[KVD_MAX_GROUPS]; /* and of those made smaller, or
					   * PAGE_NO_CLASS */
	struct index index;
	struct shm_stats *stats;
	int stats_fd;			/* read-only, for clients */
	struct tally tally;		/* FREE is always 0 */
	uint64_t class_pages[MEM_MAX_CLASSES][PAGE_NR_STATES];
	uint64_t origin;		/* of its pages in tiers: save.h; 0: not
					 * known yet */
	uint32_t emptied;		/* the next block, where its record is wanted */
	void *watch;			/* told of blocks, see watch.h; or NULL */
};

/* From record @nr of an adopted table. Return: 0, -EINVAL, or -errno. */
int space_restore(struct mem *m, uint32_t nr, struct tenant *t);

/* One without clients and pages; forgets its record. */
void space_destroy(struct mem_space *s);

/* The same, for this process alone: a successor finds the record. */
void space_free(struct mem_space *s);

/* Counts a page that went through the space, for clients to read. */
static inline void space_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
