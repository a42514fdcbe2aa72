/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat.c - figures of a pool and of a space.
 */
#include <stdatomic.h>
#include "daemon/mem/demote.h"
#include "daemon/mem/water.h"

void mem_stat(const struct mem *m, struct mem_stat *ret)
{
	uint64_t used;

	*ret = m->stat;
	ret->pages = tally_counts(m->tally.pages);
	ret->bytes = tally_counts(m->tally.bytes);
	demote_counts(m, NULL, &ret->pages, &ret->bytes);
	used = ret->bytes.total - ret->bytes.of[PAGE_FREE];
	ret->bytes.total = m->pool_bytes > m->segment_total ?
				   m->pool_bytes : m->segment_total;
	ret->bytes.of[PAGE_FREE] = ret->bytes.total - used;
	ret->segments = m->segments.nr;
	water_stat(m, ret);
	ret->nr_spaces = 0;
	for (uint32_t i = 0; i < m->table.h->nr_spaces; i++)
		ret->nr_spaces += m->spaces[i] != NULL;
}

void mem_space_stat(const struct mem_space *s, struct mem_space_stat *ret)
{
	*ret = (struct mem_space_stat){
		.id = s->id,
		.tenant = s->tenant->name,
		.key = &s->key,
		.fingerprint = s->fingerprint,
		.clients = s->nr_clients,
		.blocks = atomic_load(&s->index.shm->nr_used),
		.hits = atomic_load(&s->stats->hit_tokens),
		.misses = atomic_load(&s->stats->miss_tokens),
		.pages = tally_counts(s->tally.pages),
	};
	for (uint32_t i = 0; i < s->nr_classes; i++)
		ret->class_pages[i] = tally_counts(s->class_pages[i]);
	demote_space_counts(s, ret);
}
