/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.h - segments cut into pages of one size.
 *
 * A slab is a run of granules of one segment that holds pages of one size
 * class; a size class is a page size of one tenant, shared by all spaces that
 * have pages of that size. The run is the shortest whose waste is at most a
 * sixteenth. A slab with free cells is in partial or, when all are free, in
 * empty; one empty slab per class is kept so that a page that comes and goes
 * does not cut and join granules each time.
 */
#ifndef DAEMON_MEM_SLAB_H
#define DAEMON_MEM_SLAB_H

#include "daemon/mem/pool.h"

struct ghosts;
struct segment;
struct shelf;
struct tenant;
struct page;

#define SLAB_FREE 0x80000000u /* the rest is the number of the next free cell */
#define SLAB_END  0x7fffffffu

struct size_class {
	struct list link;	/* tenant.classes */
	struct tenant *tenant;
	uint32_t page_bytes;
	uint32_t nr_granules;	/* of a slab */
	uint32_t nr_cells;	/* pages of a slab */
	uint32_t refs;		/* classes of spaces */
	uint32_t nr_slabs;
	uint32_t nr_empty;
	uint64_t nr_free;	/* cells */
	uint64_t nr_cached;	/* pages, the copies too */
	uint32_t nr_saves;	/* waited for, in a row: save.h */
	bool low;		/* room is being made for it: water.h */
	struct list partial;
	struct list empty;
	struct list copies;	/* CACHED ones, the coldest first: page.h */
	struct ghosts *ghosts;	/* of pages of this size, all tenants' */
	/* All other CACHED pages, by priority: policy.h. NULL: not needed
	 * yet; that of MEM_NORMAL is always there. */
	struct shelf *shelves[MEM_NR_PRIORITIES];
};

struct slab {
	struct list link;	/* size_class.partial or .empty, or none */
	struct size_class *class;
	struct segment *segment;
	uint32_t first;		/* granule of the segment */
	uint32_t nr_free;
	uint32_t nr_cached;
	uint32_t first_free;
	uint32_t cells[];	/* page number, or SLAB_FREE | next */
};

/**
 * size_class_get() - the class of @page_bytes in tenant @t, found or made
 * Put it with size_class_put(). Return: NULL when out of memory.
 */
struct size_class *size_class_get(struct tenant *t, uint32_t page_bytes);
void size_class_put(struct size_class *sc);

/* The shelf of @priority, MEM_LOW to MEM_HIGH, or NULL. */
static inline struct shelf *size_class_shelf(const struct size_class *sc,
					     int priority)
{
	return sc->shelves[priority - MEM_LOW];
}

/* Makes that shelf, if there is none. Return: 0 or -ENOMEM. */
int size_class_make_shelf(struct size_class *sc, int priority);

/* Gives empty slabs back to their segments until @keep are left. */
void size_class_trim(struct size_class *sc, uint32_t keep);

/* trim() for all classes of a tenant but @but. */
void tenant_trim(struct tenant *t, const struct size_class *but);

/**
 * slab_new() - cut one more slab for @sc
 * Return: 0, -ENOSPC no segment of the tenant has the granules, -ENOMEM.
 */
int slab_new(struct size_class *sc);

/* The same at a given place of a segment. Return: 0, -ENOSPC not free, or
 * not there, -ENOMEM. */
int slab_new_at(struct size_class *sc, struct segment *seg, uint32_t first);
void slab_free(struct slab *slab);

/*
 * Its segment is about to be emptied, and has not been marked so: no page is
 * taken of it from here on, and its free cells count for nobody. Gone, if it
 * is empty. Back again: the segment is not marked any more.
 */
void slab_set_aside(struct slab *slab);
void slab_bring_back(struct slab *slab);

/* The class takes its other free cells before those of @slab. */
void slab_use_last(struct slab *slab);

/* A free cell for page number @nr; the class has one. */
struct slab *slab_get(struct size_class *sc, uint32_t nr, uint32_t *ret_cell);

/*
 * A certain cell, for restored pages; slab_rechain() before the next
 * slab_get(). Return: 0, -EEXIST taken or not there.
 */
int slab_get_cell(struct slab *slab, uint32_t cell, uint32_t nr);
void slab_rechain(struct slab *slab);
void slab_put(struct slab *slab, uint32_t cell);

place_t slab_place(const struct slab *slab, uint32_t cell);

/* Are all of its pages FREE or CACHED? */
static inline bool slab_is_idle(const struct slab *slab)
{
	return slab->nr_free + slab->nr_cached == slab->class->nr_cells;
}

#endif
