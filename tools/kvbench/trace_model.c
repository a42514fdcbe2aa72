// SPDX-License-Identifier: Apache-2.0
/*
 * trace_model.c - what an ideal LRU of the same size would hit.
 *
 * Pages are in a ring through entry 0, the coldest after it, and in chains of
 * buckets by name: a hash of all ids before, and the place in the last block.
 */
#include <errno.h>
#include <stdlib.h>
#include "tools/kvbench/trace_model.h"

struct model_page {
	uint64_t name;
	uint32_t chain; /* in its bucket, 0: the last */
	uint32_t warmer, colder;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

int trace_model_init(struct trace_model *m, uint32_t nr_pages,
                     uint32_t page_tokens, uint32_t longest)
{
	*m = (struct trace_model){ .nr_pages = nr_pages,
		                   .page_tokens = page_tokens,
		                   .nr_buckets = 1 };
	while (m->nr_buckets < nr_pages)
		m->nr_buckets *= 2;
	m->pages = calloc((size_t)nr_pages + 1, sizeof(*m->pages));
	m->buckets = calloc(m->nr_buckets, sizeof(*m->buckets));
	m->used = calloc(longest / page_tokens + 1, sizeof(*m->used));
	return m->pages && m->buckets && m->used ? 0 : -ENOMEM;
}

void trace_model_fini(struct trace_model *m)
{
	free(m->pages);
	free(m->buckets);
	free(m->used);
}

static uint32_t *bucket_of(struct trace_model *m, uint64_t name)
{
	return &m->buckets[name & (m->nr_buckets - 1)];
}

static uint32_t find(struct trace_model *m, uint64_t name)
{
	uint32_t i = *bucket_of(m, name);

	while (i && m->pages[i].name != name)
		i = m->pages[i].chain;
	return i;
}

static void unlink_page(struct trace_model *m, uint32_t i)
{
	const struct model_page *p = &m->pages[i];

	m->pages[p->warmer].colder = p->colder;
	m->pages[p->colder].warmer = p->warmer;
}

/* At the warm end. */
static void link_page(struct trace_model *m, uint32_t i)
{
	struct model_page *end = &m->pages[0], *p = &m->pages[i];

	p->warmer = 0;
	p->colder = end->colder;
	m->pages[end->colder].warmer = i;
	end->colder = i;
}

/* The coldest page, without its name. */
static uint32_t evict(struct trace_model *m)
{
	uint32_t i = m->pages[0].warmer;
	uint32_t *at = bucket_of(m, m->pages[i].name);

	while (*at != i)
		at = &m->pages[*at].chain;
	*at = m->pages[i].chain;
	unlink_page(m, i);
	return i;
}

static uint32_t add(struct trace_model *m, uint64_t name)
{
	uint32_t i = m->nr_taken < m->nr_pages ? ++m->nr_taken : evict(m);
	uint32_t *bucket = bucket_of(m, name);

	m->pages[i].name = name;
	m->pages[i].chain = *bucket;
	*bucket = i;
	link_page(m, i);
	return i;
}

/* Page number @i of the request. */
static uint64_t name_of(const struct trace_model *m,
                        const struct trace_request *r, uint64_t parent,
                        uint32_t i)
{
	uint32_t each = TRACE_BLOCK / m->page_tokens;
	uint64_t id = ~(uint64_t)r->nr; /* output: like nobody else's */

	if ((uint64_t)(i + 1) * m->page_tokens <= r->input)
		id = r->ids[i / each];
	return mix(mix(parent + id) + i);
}

void trace_model_request(struct trace_model *m, const struct trace_request *r)
{
	uint32_t all = (r->input + r->output) / m->page_tokens, i;
	uint32_t most = (r->input - 1) / m->page_tokens, hit = 0;
	uint64_t name = 0;

	for (i = 0; i < all; i++) {
		uint32_t page;

		name = name_of(m, r, name, i);
		page = find(m, name);
		if (page && hit == i && i < most)
			hit++;
		if (page) {
			unlink_page(m, page);
			link_page(m, page);
		}
		m->used[i] = page ? page : add(m, name);
	}
	while (i-- > 0) {
		unlink_page(m, m->used[i]);
		link_page(m, m->used[i]);
	}
	m->hit_tokens += (uint64_t)hit * m->page_tokens;
}
