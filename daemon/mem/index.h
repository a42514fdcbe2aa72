/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - the writer of a space's prefix index (proto/shm.h).
 *
 * One writer, the loop thread; readers are clients that map it read-only and
 * check the sequence word. A block is in the index as long as one of its
 * pages is. There are as many blocks as the space can have pages, so a block
 * number is always to be had. Chains are bounded: clients know the key of
 * their names, so one might choose them to collide.
 *
 * Blocks know their parent, and parents their children, as far as the parent
 * was there first and still is.
 */
#ifndef DAEMON_MEM_INDEX_H
#define DAEMON_MEM_INDEX_H

#include <stdint.h>
#include "daemon/mem/table.h"
#include "proto/shm.h"

/* Of a block, besides what readers see. */
struct index_link {
	uint32_t next_free;	/* not in use: the next that is not */
	uint32_t serial;	/* changes when the number is given up */
	uint32_t before;	/* among its siblings; 0: the first, or alone */
	uint32_t up;		/* parent, if its serial is still the same */
	uint32_t up_serial;
	uint32_t pins;		/* that end here, and children with some */
	int8_t priority;	/* mem.h; no child's is higher */
};

struct index {
	struct shm_index *shm;
	int fd;			/* read-only, for clients */
	uint32_t nr_touched;	/* blocks beyond were never used */
	uint32_t first_free;
	struct index_link *links; /* [nr_blocks + 1] */
};

#define INDEX_NULL { .fd = -1 }

/* Return: 0 or -errno. */
int index_init(struct index *ix, uint32_t nr_blocks, uint32_t page_tokens,
	       uint32_t nr_classes);
void index_fini(struct index *ix);

/* Number of the block named @name, 0: none. */
uint32_t index_find(const struct index *ix, const struct name *name);

/* Would another block of this bucket be out of its readers' reach? */
bool index_is_crowded(const struct index *ix, const struct name *name);

/* Was block @nr named for the very prefix, or do only the hashes agree? */
bool index_same(const struct index *ix, uint32_t nr, const struct prefix *p);

/*
 * A block with no page yet; its name is not in the index, its bucket not
 * crowded. Return: number.
 */
uint32_t index_add(struct index *ix, const struct prefix *p, uint32_t depth,
		   uint32_t k_format, uint32_t v_format);

handle_t index_page(const struct index *ix, uint32_t nr, uint32_t class);

/*
 * Sets a page of a block; a block that loses its last page goes. Return: the
 * parent that has thereby lost its last child, else 0.
 */
uint32_t index_set_page(struct index *ix, uint32_t nr, uint32_t class,
			handle_t handle);

/* The parent of block @nr; 0: none that is in the index. */
uint32_t index_parent(const struct index *ix, uint32_t nr);

/*
 * Blocks below block @nr, counted up to @max: that many say there may be more.
 * 0 for one that is not in use.
 */
uint32_t index_below(const struct index *ix, uint32_t nr, uint32_t max);

/* Finds the parents of blocks that were added before them. O(blocks). */
void index_adopt(struct index *ix);

/* Block @nr is in use. */
static inline const struct shm_block *index_block(const struct index *ix,
						  uint32_t nr)
{
	return shm_block_at(ix->shm, nr);
}

/* Do two or more blocks follow block @nr? */
static inline bool index_is_shared(const struct index *ix, uint32_t nr)
{
	uint32_t child = atomic_load_explicit(&index_block(ix, nr)->child,
					      memory_order_relaxed);

	return child && atomic_load_explicit(&index_block(ix, child)->sibling,
					     memory_order_relaxed);
}

/* Does no block follow block @nr? */
static inline bool index_is_leaf(const struct index *ix, uint32_t nr)
{
	return !atomic_load_explicit(&index_block(ix, nr)->child,
				     memory_order_relaxed);
}

#endif
