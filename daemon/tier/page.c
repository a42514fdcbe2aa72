// SPDX-License-Identifier: Apache-2.0
/*
 * page.c - one page outside the pool, aligned for files that are written
 * without a copy.
 */
#include <stdlib.h>
#include <string.h>
#include "daemon/tier/tier.h"

struct tier_page *tier_page_new(uint32_t head_bytes, uint32_t bytes)
{
	uint64_t cost = tier_cost(head_bytes, bytes);
	uint32_t at = tier_data_at(head_bytes);
	struct tier_page *p;

	if (head_bytes > TIER_HEAD_BYTES)
		return NULL;
	p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct tier_page){ .refs = 1,
				 .head_bytes = head_bytes,
				 .bytes = bytes };
	p->block = aligned_alloc(TIER_ALIGN, cost);
	if (!p->block) {
		free(p);
		return NULL;
	}
	memset(p->block, 0, at);
	memset(p->block + at + bytes, 0, cost - at - bytes);
	return p;
}

void tier_page_put(struct tier_page *p)
{
	if (!p || --p->refs)
		return;
	free(p->block);
	free(p);
}
