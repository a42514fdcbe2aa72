/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shm.h - layout of what a client maps read-only: prefix index, statistics.
 *
 * One index per space, in a memfd of fixed size that the daemon alone writes
 * (its one loop thread) and the tenant's clients read without asking. Buckets
 * hold the number of the first block of a chain, blocks are linked by number;
 * number 0 means none. A reader copies a block between two reads of its seq
 * word and retries or gives up (a miss) when seq was odd or has changed. It
 * bounds its steps by SHM_MAX_CHAIN, because a block may move to another
 * chain under its feet: a race can only turn a hit into a miss, and the pages
 * a reader finds are its own only after the daemon has granted references.
 *
 * The blocks that follow the same block are linked too, from its child on,
 * newest first; those that begin a sequence, from the header's. A block whose
 * parent came after it, or has gone since, is in no such list.
 */
#ifndef PROTO_SHM_H
#define PROTO_SHM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "proto/name.h"

#define SHM_INDEX_MAGIC 0x7844494b44564bULL /* "KVDKIDx" */
#define SHM_STATS_MAGIC 0x7453544b44564bULL
#define SHM_VERSION 3
#define SHM_MAX_CHAIN 64
#define SHM_MAX_CLASSES 16

/*
 * A page, as everyone but the page table knows it: 32 bits of generation
 * above 32 bits of page number. 0 is no page. A stale one is refused.
 */
typedef uint64_t handle_t;

static inline handle_t handle_make(uint32_t gen, uint32_t nr)
{
	return (uint64_t)gen << 32 | nr;
}

static inline uint32_t handle_nr(handle_t h)
{
	return (uint32_t)h;
}

static inline uint32_t handle_gen(handle_t h)
{
	return (uint32_t)(h >> 32);
}

/* Where a page is: 24 bits of segment id above 40 bits of byte offset. */
typedef uint64_t place_t;

static inline place_t place_make(uint32_t segment, uint64_t offset)
{
	return (uint64_t)segment << 40 | offset;
}

static inline uint32_t place_segment(place_t p)
{
	return (uint32_t)(p >> 40);
}

static inline uint64_t place_offset(place_t p)
{
	return p & ((1ULL << 40) - 1);
}

struct shm_index {
	uint64_t magic;
	uint32_t version;
	uint32_t page_tokens;
	uint32_t nr_classes;	/* of pages: a block has one of each at most */
	uint32_t nr_buckets;	/* a power of two */
	uint32_t nr_blocks;	/* capacity; block numbers are 1..nr_blocks */
	uint32_t block_bytes;	/* from block to block, a multiple of 64 */
	uint64_t buckets_off;	/* of _Atomic uint32_t[nr_buckets] */
	uint64_t blocks_off;	/* of block number 1 */
	uint64_t bytes;		/* of the whole memfd */
	_Atomic uint64_t nr_used; /* blocks now in the index */
	_Atomic uint32_t child;	/* newest block that has no parent */
	_Atomic uint32_t nr_touched; /* blocks beyond were never used */
};

struct shm_block {
	_Atomic uint32_t seq;	/* odd while the daemon writes */
	_Atomic uint32_t next;	/* in the chain of its bucket */
	struct name name;
	struct name parent;
	struct name extra;
	uint32_t depth;		/* blocks before this one */
	uint32_t k_format;	/* the space's, of sealed pages */
	uint32_t v_format;
	_Atomic uint32_t child;	/* newest block that follows this one */
	_Atomic uint32_t sibling; /* next that follows the same one */
	uint32_t reserved;
	_Atomic uint64_t page[SHM_MAX_CLASSES]; /* handle per class, 0 absent */
	uint32_t tokens[];	/* page_tokens of them */
};

_Static_assert(sizeof(struct shm_block) == 208, "shm layout");

/* Counters of one space since it was first opened, in tokens and pages. */
struct shm_stats {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved;
	_Atomic uint64_t hit_tokens;
	_Atomic uint64_t miss_tokens;
	_Atomic uint64_t published;
	_Atomic uint64_t deduplicated; /* published by two, kept once */
	_Atomic uint64_t evicted;
	_Atomic uint64_t nonfinite;    /* pages refused a seal */
};

static inline uint64_t shm_block_bytes(uint32_t page_tokens)
{
	return (sizeof(struct shm_block) + 4ULL * page_tokens + 63) & ~63ULL;
}

static inline struct shm_block *shm_block_at(const struct shm_index *ix,
					     uint32_t nr)
{
	return (struct shm_block *)((char *)(uintptr_t)ix + ix->blocks_off +
				    (uint64_t)(nr - 1) * ix->block_bytes);
}

static inline _Atomic uint32_t *shm_bucket(const struct shm_index *ix,
					   const struct name *n)
{
	return (_Atomic uint32_t *)((char *)(uintptr_t)ix + ix->buckets_off) +
	       (name_hash(n) & (ix->nr_buckets - 1));
}

#endif
