/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - the writer of a space's prefix index.
 */
#include "daemon/mem/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "daemon/util/memfd.h"

static uint32_t round_up_pow2(uint32_t n)
{
	uint32_t p = 64;

	while (p < n)
		p *= 2;
	return p;
}

int index_init(struct index *ix, uint32_t nr_blocks, uint32_t page_tokens,
	       uint32_t nr_classes)
{
	struct shm_index h = {
		.magic = SHM_INDEX_MAGIC,
		.version = SHM_VERSION,
		.page_tokens = page_tokens,
		.nr_classes = nr_classes,
		.nr_buckets = round_up_pow2(nr_blocks),
		.nr_blocks = nr_blocks,
		.block_bytes = (uint32_t)shm_block_bytes(page_tokens),
	};
	void *p;
	int r;

	h.buckets_off = (sizeof(h) + 63) & ~63ULL;
	h.blocks_off = h.buckets_off + 4ULL * h.nr_buckets;
	h.bytes = h.blocks_off + (uint64_t)nr_blocks * h.block_bytes;
	ix->links = calloc((size_t)nr_blocks + 1, sizeof(*ix->links));
	if (!ix->links)
		return -ENOMEM;
	r = memfd_share("kvd-index", h.bytes, &ix->fd, &p);
	if (r < 0) {
		free(ix->links);
		*ix = (struct index)INDEX_NULL;
		return r;
	}
	ix->shm = p;
	*ix->shm = h;
	return 0;
}

void index_fini(struct index *ix)
{
	if (!ix->shm)
		return;
	munmap(ix->shm, ix->shm->bytes);
	close(ix->fd);
	free(ix->links);
	*ix = (struct index)INDEX_NULL;
}

/* ---- the sequence word ---- */

static void block_write_begin(struct shm_block *b)
{
	uint32_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

	atomic_store_explicit(&b->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void block_write_end(struct shm_block *b)
{
	uint32_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

	atomic_store_explicit(&b->seq, seq + 1, memory_order_release);
}

/* ---- lookup ---- */

static uint32_t link_load(const _Atomic uint32_t *link)
{
	return atomic_load_explicit(link, memory_order_relaxed);
}

/* The link that points at the block named @name, or the chain's last. */
static _Atomic uint32_t *index_link(const struct index *ix,
				    const struct name *name)
{
	_Atomic uint32_t *link = shm_bucket(ix->shm, name);

	while (link_load(link)) {
		struct shm_block *b = shm_block_at(ix->shm, link_load(link));

		if (name_equal(&b->name, name))
			break;
		link = &b->next;
	}
	return link;
}

uint32_t index_find(const struct index *ix, const struct name *name)
{
	return link_load(index_link(ix, name));
}

bool index_is_crowded(const struct index *ix, const struct name *name)
{
	uint32_t nr = link_load(shm_bucket(ix->shm, name));
	int length = 0;

	for (; nr; nr = link_load(&shm_block_at(ix->shm, nr)->next))
		length++;
	return length >= SHM_MAX_CHAIN;
}

bool index_same(const struct index *ix, uint32_t nr, const struct prefix *p)
{
	const struct shm_block *b = index_block(ix, nr);

	return name_equal(&b->parent, &p->parent) &&
	       name_equal(&b->extra, &p->extra) &&
	       memcmp(b->tokens, p->tokens, 4 * ix->shm->page_tokens) == 0;
}

handle_t index_page(const struct index *ix, uint32_t nr, uint32_t class)
{
	return atomic_load_explicit(&index_block(ix, nr)->page[class],
				    memory_order_relaxed);
}

/* ---- change ---- */

static uint32_t index_take_number(struct index *ix)
{
	uint32_t nr = ix->first_free;

	if (nr) {
		ix->first_free = ix->links[nr].next_free;
		return nr;
	}
	assert(ix->nr_touched < ix->shm->nr_blocks);
	atomic_store_explicit(&ix->shm->nr_touched, ++ix->nr_touched,
			      memory_order_release);
	return ix->nr_touched;
}

/* ---- parents and children ---- */

static bool name_is_none(const struct name *n)
{
	static const struct name none;

	return name_equal(n, &none);
}

uint32_t index_parent(const struct index *ix, uint32_t nr)
{
	const struct index_link *link = &ix->links[nr];

	return link->up && ix->links[link->up].serial == link->up_serial ?
		       link->up :
		       0;
}

/* Where the siblings of block @nr begin; NULL: it has no parent here. */
static _Atomic uint32_t *index_siblings(const struct index *ix, uint32_t nr)
{
	uint32_t up = index_parent(ix, nr);

	if (up)
		return &shm_block_at(ix->shm, up)->child;
	return name_is_none(&index_block(ix, nr)->parent) ? &ix->shm->child :
							    NULL;
}

/* Puts block @nr before its siblings. */
static void index_link_up(struct index *ix, uint32_t nr)
{
	struct shm_block *b = shm_block_at(ix->shm, nr);
	struct index_link *link = &ix->links[nr];
	_Atomic uint32_t *head;
	uint32_t next;

	link->before = 0;
	link->up = name_is_none(&b->parent) ? 0 : index_find(ix, &b->parent);
	link->up_serial = ix->links[link->up].serial;
	head = index_siblings(ix, nr);
	if (!head)
		return;
	next = link_load(head);
	atomic_store_explicit(&b->sibling, next, memory_order_relaxed);
	if (next)
		ix->links[next].before = nr;
	atomic_store_explicit(head, nr, memory_order_release);
}

/* Its own link stays, for readers that stand on it. */
static void index_unlink_up(struct index *ix, uint32_t nr)
{
	struct shm_block *b = shm_block_at(ix->shm, nr);
	uint32_t next = link_load(&b->sibling), before = ix->links[nr].before;
	_Atomic uint32_t *head = index_siblings(ix, nr);

	if (before)
		head = &shm_block_at(ix->shm, before)->sibling;
	else if (head && link_load(head) != nr)
		head = NULL;
	if (head)
		atomic_store_explicit(head, next, memory_order_release);
	if (next)
		ix->links[next].before = before;
}

/* The block after @at in the tree below @top, all below @at left out. */
static uint32_t index_after(const struct index *ix, uint32_t top, uint32_t at)
{
	for (; at && at != top; at = index_parent(ix, at)) {
		uint32_t next = link_load(&index_block(ix, at)->sibling);

		if (next)
			return next;
	}
	return 0;
}

uint32_t index_below(const struct index *ix, uint32_t nr, uint32_t max)
{
	uint32_t at, child, n = 0;

	if (nr == 0 || nr > ix->nr_touched ||
	    name_is_none(&index_block(ix, nr)->name))
		return 0;
	for (at = link_load(&index_block(ix, nr)->child); at && n < max; n++) {
		child = link_load(&index_block(ix, at)->child);
		at = child ? child : index_after(ix, nr, at);
	}
	return n;
}

void index_adopt(struct index *ix)
{
	for (uint32_t nr = 1; nr <= ix->nr_touched; nr++) {
		struct shm_block *b = shm_block_at(ix->shm, nr);

		if (name_is_none(&b->name) || index_siblings(ix, nr))
			continue;
		block_write_begin(b);
		index_link_up(ix, nr);
		block_write_end(b);
	}
}

/* ---- blocks ---- */

uint32_t index_add(struct index *ix, const struct prefix *p, uint32_t depth,
		   uint32_t k_format, uint32_t v_format)
{
	_Atomic uint32_t *bucket = shm_bucket(ix->shm, &p->name);
	uint32_t nr = index_take_number(ix);
	struct shm_block *b = shm_block_at(ix->shm, nr);

	ix->links[nr].priority = 0;
	block_write_begin(b);
	b->name = p->name;
	b->parent = p->parent;
	b->extra = p->extra;
	b->depth = depth;
	b->k_format = k_format;
	b->v_format = v_format;
	memcpy(b->tokens, p->tokens, 4 * ix->shm->page_tokens);
	atomic_store_explicit(&b->next, link_load(bucket),
			      memory_order_relaxed);
	atomic_store_explicit(&b->child, 0, memory_order_relaxed);
	atomic_store_explicit(&b->sibling, 0, memory_order_relaxed);
	block_write_end(b);
	atomic_store_explicit(bucket, nr, memory_order_release);
	index_link_up(ix, nr);
	atomic_fetch_add_explicit(&ix->shm->nr_used, 1, memory_order_relaxed);
	return nr;
}

/*
 * Its next stays, for readers that stand on it. Its name goes, so that none
 * takes it for what it was.
 */
static void index_del(struct index *ix, uint32_t nr)
{
	struct shm_block *b = shm_block_at(ix->shm, nr);
	_Atomic uint32_t *link = index_link(ix, &b->name);

	assert(link_load(link) == nr);
	atomic_store_explicit(link, link_load(&b->next), memory_order_release);
	index_unlink_up(ix, nr);
	block_write_begin(b);
	memset(&b->name, 0, sizeof(b->name));
	block_write_end(b);
	ix->links[nr].next_free = ix->first_free;
	ix->links[nr].serial++;
	ix->first_free = nr;
	atomic_fetch_sub_explicit(&ix->shm->nr_used, 1, memory_order_relaxed);
}

uint32_t index_set_page(struct index *ix, uint32_t nr, uint32_t class,
			handle_t handle)
{
	struct shm_block *b = shm_block_at(ix->shm, nr);
	uint32_t up;

	block_write_begin(b);
	atomic_store_explicit(&b->page[class], handle, memory_order_relaxed);
	block_write_end(b);
	for (uint32_t c = 0; c < ix->shm->nr_classes; c++)
		if (index_page(ix, nr, c))
			return 0;
	up = index_parent(ix, nr);
	index_del(ix, nr);
	return up && index_is_leaf(ix, up) ? up : 0;
}
