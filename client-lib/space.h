/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.h - a space as one connection sees it.
 *
 * It has the index and the statistics mapped, a device with the segments seen
 * so far (map.h), a stock of free pages per class (stock.h), its sequences,
 * and pages that wait for device work to end (retire.h). Class number g is
 * where group g's tokens are appended; kernels/page.h says which group has a
 * second one, and one of pages that kvd has demoted, which are only read.
 */
#ifndef CLIENT_LIB_SPACE_H
#define CLIENT_LIB_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvd/kvd.h>
#include "client-lib/batch.h"
#include "client-lib/device.h"
#include "client-lib/fixed.h"
#include "client-lib/index.h"
#include "client-lib/map.h"
#include "client-lib/retire.h"
#include "client-lib/stock.h"
#include "client-lib/tables.h"
#include "kernels/page.h"
#include "proto/name.h"
#include "proto/shm.h"

LIST_HEAD(seq_list, kvd_seq);

struct kvd_space {
	struct kvd *k;
	LIST_ENTRY(kvd_space) link;
	uint32_t id;		/* the daemon's; changes with a reconnection */
	uint64_t fingerprint;
	uint64_t stock_bytes;
	struct kvd_space_opts opts;
	struct name_key key;
	uint32_t nr_classes;
	struct page_layout layouts[PAGE_MAX_CLASSES];
	uint32_t sealed_class[KVD_MAX_GROUPS];
	uint32_t demoted_class[KVD_MAX_GROUPS]; /* PAGE_NO_CLASS: none */
	bool whole;		/* pages are sealed whole, but exact ones */
	bool lag;		/* and the newest full one is kept exact too */
	struct tables tables;
	struct index index;
	const struct shm_stats *stats;
	struct device *device;
	struct map map;
	struct stock stocks[PAGE_MAX_CLASSES];
	struct seq_list seqs;
	struct seq_list closing;	/* freed, with blocks to be published */
	struct retired_list retired;
	struct batch batch;
	struct fixed_list batches;
	uint64_t nr_steps;	/* that their sets have opened */
	uint64_t mark;		/* of the batch now being checked */
	int64_t hits_due;	/* tokens, to be reported with the next ask; */
	int64_t misses_due;	/* negative when too many were reported */
	uint32_t nonfinite_due;	/* pages */
};

static inline uint32_t space_page_tokens(const struct kvd_space *sp)
{
	return sp->opts.geometry.page_tokens;
}

static inline uint32_t space_nr_groups(const struct kvd_space *sp)
{
	return sp->opts.geometry.nr_groups;
}

/* Has the group a class for exact or open pages besides its own? */
static inline bool space_has_two(const struct kvd_space *sp, uint32_t group)
{
	return sp->sealed_class[group] != group;
}

/* Is block @i of the group filled in an open page, then sealed whole? */
static inline bool space_seals(const struct kvd_space *sp, uint32_t group,
			       uint32_t i)
{
	return sp->whole && space_has_two(sp, group) &&
	       i >= sp->opts.geometry.exact_pages;
}

/* The class in which block @i of the group ends. */
static inline uint32_t space_class(const struct kvd_space *sp, uint32_t group,
				   uint32_t i)
{
	return i < sp->opts.geometry.exact_pages ? group :
						   sp->sealed_class[group];
}

/* Are pages of the class what kvd has demoted, and nobody else makes? */
static inline bool space_class_demoted(const struct kvd_space *sp, uint32_t c)
{
	return sp->demoted_class[geometry_class_group(&sp->opts.geometry, c)] ==
	       c;
}

/* How kernels see the pages of a group: kv_page_ref.layout is an index here. */
static inline void space_layouts(const struct kvd_space *sp, uint32_t group,
				 struct page_layout *layouts)
{
	layouts[0] = sp->layouts[group];
	layouts[1] = sp->layouts[sp->sealed_class[group]];
	if (sp->demoted_class[group] != PAGE_NO_CLASS)
		layouts[2] = sp->layouts[sp->demoted_class[group]];
}

/* What there is to report of lookups, and that it has been reported. */
void space_counts(const struct kvd_space *sp, uint64_t *ret_hit,
		  uint64_t *ret_miss);
void space_counted(struct kvd_space *sp, uint64_t hit, uint64_t miss);

/* It is to be reported again: it may not have come. */
void space_uncounted(struct kvd_space *sp, uint64_t hit, uint64_t miss);

/**
 * space_resume() - open again on a new connection, claim what is held
 * @kept:	the pool has survived; false: nothing has
 *
 * Return: 0, or what the daemon or the mapping of the index returned.
 */
int space_resume(struct kvd_space *sp, bool kept);

/* Publishes and gives back what waited for device work. Never blocks. */
void space_process(struct kvd_space *sp);

#endif
