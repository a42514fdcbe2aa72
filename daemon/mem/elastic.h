/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elastic.h - mem.h's part about pools that grow and shrink.
 *
 * A pool has a size, and may be given another up to the maximum it was made
 * for. It grows as it always does, by segments, when they are needed. Made
 * smaller, it empties segments and gives them back (shrink.h): what is cached
 * there is copied to others, what is held stays until it is released. A segment
 * that is empty, and that a client may have mapped, is REVOKED: mem_ops.revoked
 * is told of each client that may, and the segment stays in its tenant's charge
 * until mem_unmapped() has been called for each, or its process is dead.
 */
#ifndef DAEMON_MEM_ELASTIC_H
#define DAEMON_MEM_ELASTIC_H

#include "daemon/mem/mem.h"

struct mem_size {
	uint64_t bytes;		/* what the pool may have */
	uint64_t max;		/* what it may be given */
	uint64_t segments;	/* bytes of them; above bytes while it shrinks */
	uint64_t draining;	/* of those that are to go */
	uint64_t revoked;	/* of these, those only their mappings keep */
	uint64_t moved;		/* pages copied out of them, since start */
	uint64_t taken;		/* grows with each page that is allocated */
};

void mem_size(const struct mem *m, struct mem_size *ret);

/**
 * mem_resize() - the pool may have @bytes from here on
 *
 * Rounded down to DEV_GRANULE. Smaller than what its segments have it shrinks
 * by mem_trim() and mem_tick(), and nothing is cut into new segments before it
 * has. A page that is cached goes where there is no room for it any more, but
 * not what a tenant's min keeps. May call ops.room. Return: 0; -EINVAL less
 * than DEV_GRANULE, or more than the maximum; -ERANGE less than is promised to
 * tenants; -EAGAIN in the grace time. Nothing has changed after an error.
 */
int mem_resize(struct mem *m, uint64_t bytes);

/*
 * @c has unmapped the segment that it was told is revoked; of any other nothing
 * is said. May call ops.room.
 */
void mem_unmapped(struct mem_client *c, uint32_t segment);

#endif
