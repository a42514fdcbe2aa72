/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - lookups in a space's prefix index, mapped read-only.
 *
 * No lock and no request: shm.h says how a reader races the daemon safely.
 * What is found is a hint until the daemon has granted a hold on it.
 */
#ifndef CLIENT_LIB_INDEX_H
#define CLIENT_LIB_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/name.h"
#include "proto/shm.h"

/* What its header says is copied when it is mapped, and not read again. */
struct index {
	const struct shm_index *ix;	/* NULL: not mapped */
	size_t bytes;
	const _Atomic uint32_t *buckets; /* [nr_buckets], a power of two */
	const char *blocks;	/* [nr_blocks], of block_bytes each */
	uint32_t nr_buckets;
	uint32_t nr_blocks;
	uint32_t block_bytes;
	uint32_t page_tokens;
	uint32_t nr_classes;	/* pages of a block */
};

/**
 * index_map() - map the index behind @fd, in place of the one mapped before
 * @fd:		stays the caller's
 *
 * Return: 0; -EPROTO when it is not an index of this geometry; -ENOMEM.
 */
int index_map(struct index *x, int fd, uint32_t page_tokens,
	      uint32_t nr_classes);
void index_unmap(struct index *x);

/* What a block is looked up by: all of it is compared. */
struct index_key {
	const struct name *name;
	const struct name *parent;
	const struct name *extra;
	const uint32_t *tokens;	/* page_tokens of them */
};

/**
 * index_find() - the pages of a block
 * @pages:	[nr_classes] filled when found; 0: absent
 *
 * Bounded steps. Return: its number; 0: not found, as in a race with the
 * daemon.
 */
uint32_t index_find(const struct index *x, const struct index_key *key,
		    handle_t *pages);

/**
 * index_follow() - the block after another, by its tokens alone
 * @at:		number of the block before, which @key->parent names; 0: those
 *		that begin. It may be of an index that was here before
 * @key:	but for the name
 * @name:	filled when found: the daemon has computed it
 * @pages:	as for index_find()
 *
 * Nothing is hashed: all that a name is made of is compared instead. Looks at
 * the newest few. Return: its number, 0: it is not among those, and there may
 * yet be one of its name.
 */
uint32_t index_follow(const struct index *x, uint32_t at,
		      const struct index_key *key, struct name *name,
		      handle_t *pages);

/* What a block that is in part alike is looked up by. */
struct index_run {
	const struct name *parent;	/* all zero: blocks that begin */
	const struct name *extra;
	const uint32_t *tokens;	/* that are to follow the parent's */
	uint32_t nr_tokens;
	uint32_t classes;	/* bit c: it must have a page of class c */
};

/**
 * index_find_run() - the block after a parent that begins most alike
 * @pages:	[nr_classes] its pages, when there is one
 *
 * Looks at the newest SHM_MAX_CHAIN at most; of two the newer. Return: tokens
 * of @run that it begins with, page_tokens at most; 0: there is none. A race
 * with the daemon ends the search with what has been found.
 */
uint32_t index_find_run(const struct index *x, const struct index_run *run,
			handle_t *pages);

struct index_copy {		/* of a block, or what it is copied to */
	struct name name;
	struct name parent;
	struct name extra;
	uint32_t depth;
	uint32_t classes;	/* bit c: it has a page of class c */
	uint32_t tokens[];	/* page_tokens of them */
};

/* Numbers up to which there may be blocks; 0 also where a daemon is older. */
uint32_t index_touched(const struct index *x);

/* Copies block number @nr. Return: is there one, which nobody is writing? */
bool index_copy(const struct index *x, uint32_t nr, struct index_copy *copy);

/* Blocks now in the index. */
uint64_t index_used(const struct index *x);

#endif
