// SPDX-License-Identifier: Apache-2.0
/*
 * blocklog.c - the newest events of a space's blocks, for all who read them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "daemon/net/blocklog.h"

int blocklog_init(struct blocklog *l, uint32_t nr_tokens)
{
	size_t bytes = sizeof(struct block_event) + 4ul * nr_tokens;

	l->slot_bytes = (uint32_t)bytes;
	l->nr_slots = BLOCKLOG_BYTES / l->slot_bytes;
	l->nr_tokens = nr_tokens;
	l->first = l->oldest = l->next = 1;
	l->slots = malloc((size_t)l->nr_slots * l->slot_bytes);
	return l->slots ? 0 : -ENOMEM;
}

void blocklog_fini(struct blocklog *l)
{
	free(l->slots);
	*l = (struct blocklog)BLOCKLOG_NULL;
}

static struct block_event *slot(const struct blocklog *l, uint64_t nr)
{
	uint64_t at = (nr - l->first) % l->nr_slots;

	return (struct block_event *)(l->slots + at * l->slot_bytes);
}

struct block_event *blocklog_add(struct blocklog *l)
{
	uint64_t nr = l->next++;

	if (l->next - l->oldest > l->nr_slots)
		l->oldest++;
	return slot(l, nr);
}

const struct block_event *blocklog_get(const struct blocklog *l, uint64_t nr)
{
	assert(nr >= l->oldest && nr < l->next);
	return slot(l, nr);
}

void blocklog_rewind(struct blocklog *l)
{
	l->first = l->oldest = l->next;
}
