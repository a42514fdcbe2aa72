// SPDX-License-Identifier: Apache-2.0
/*
 * index.c - lookups in the mapped prefix index.
 *
 * A block is read between two reads of its seq word. Between them nothing is
 * believed: not the link, not the tokens. Steps are bounded by SHM_MAX_CHAIN,
 * looks at one block by MAX_LOOKS.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "client-lib/index.h"

#define MAX_LOOKS 4

/* Is [off, off + nr * each) inside @bytes? Nothing here can overflow. */
static bool inside(uint64_t off, uint64_t nr, uint64_t each, uint64_t bytes)
{
	return off <= bytes && nr <= (bytes - off) / each;
}

static bool index_ok(const struct shm_index *ix, uint64_t bytes,
		     uint32_t page_tokens, uint32_t nr_classes)
{
	return ix->magic == SHM_INDEX_MAGIC && ix->version == SHM_VERSION &&
	       ix->page_tokens == page_tokens && ix->nr_classes == nr_classes &&
	       ix->nr_buckets && !(ix->nr_buckets & (ix->nr_buckets - 1)) &&
	       ix->block_bytes >= shm_block_bytes(page_tokens) &&
	       ix->block_bytes % 64 == 0 && ix->blocks_off % 64 == 0 &&
	       ix->buckets_off % sizeof(uint32_t) == 0 &&
	       inside(ix->buckets_off, ix->nr_buckets, sizeof(uint32_t),
		      bytes) &&
	       inside(ix->blocks_off, ix->nr_blocks, ix->block_bytes, bytes);
}

int index_map(struct index *x, int fd, uint32_t page_tokens,
	      uint32_t nr_classes)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size < sizeof(struct shm_index))
		return -EPROTO;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	if (!index_ok(p, (uint64_t)st.st_size, page_tokens, nr_classes)) {
		munmap(p, (size_t)st.st_size);
		return -EPROTO;
	}
	index_unmap(x);
	*x = (struct index){
		.ix = p,
		.bytes = (size_t)st.st_size,
		.page_tokens = page_tokens,
		.nr_classes = nr_classes,
	};
	return 0;
}

void index_unmap(struct index *x)
{
	if (x->ix)
		munmap((void *)(uintptr_t)x->ix, x->bytes);
	x->ix = NULL;
}

static bool block_equal(const struct index *x, const struct shm_block *b,
			const struct index_key *key)
{
	return name_equal(&b->name, key->name) &&
	       name_equal(&b->parent, key->parent) &&
	       name_equal(&b->extra, key->extra) &&
	       !memcmp(b->tokens, key->tokens, 4ULL * x->page_tokens);
}

enum look { LOOK_FOUND, LOOK_OTHER, LOOK_RACE };

/* One look at a block: is it the one, what does it link to? */
static enum look block_look(const struct index *x, const struct shm_block *b,
			    const struct index_key *key, handle_t *pages,
			    uint32_t *ret_next)
{
	uint32_t seq = atomic_load_explicit(&b->seq, memory_order_acquire);
	bool equal;

	if (seq & 1)
		return LOOK_RACE;
	*ret_next = atomic_load_explicit(&b->next, memory_order_relaxed);
	equal = block_equal(x, b, key);
	for (uint32_t c = 0; equal && c < x->nr_classes; c++)
		pages[c] = atomic_load_explicit(&b->page[c],
						memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&b->seq, memory_order_relaxed) != seq)
		return LOOK_RACE;
	return equal ? LOOK_FOUND : LOOK_OTHER;
}

bool index_find(const struct index *x, const struct index_key *key,
		handle_t *pages)
{
	uint32_t nr, next = 0;

	nr = atomic_load_explicit(shm_bucket(x->ix, key->name),
				  memory_order_acquire);
	for (int step = 0; step < SHM_MAX_CHAIN && nr; step++, nr = next) {
		enum look look = LOOK_RACE;

		if (nr > x->ix->nr_blocks)
			return false;
		for (int i = 0; i < MAX_LOOKS && look == LOOK_RACE; i++)
			look = block_look(x, shm_block_at(x->ix, nr), key,
					  pages, &next);
		if (look != LOOK_OTHER)
			return look == LOOK_FOUND;
	}
	return false;
}

uint64_t index_used(const struct index *x)
{
	return atomic_load_explicit(&x->ix->nr_used, memory_order_relaxed);
}
