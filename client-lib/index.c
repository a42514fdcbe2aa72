// SPDX-License-Identifier: Apache-2.0
/*
 * index.c - lookups in the mapped prefix index.
 *
 * A block is read between two reads of its seq word. Between them nothing is
 * believed: not the link, not the tokens. Steps are bounded by SHM_MAX_CHAIN,
 * looks at one block by MAX_LOOKS. Where things are is believed once: nothing
 * that is written there later leads out of the mapping.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "client-lib/index.h"
#include "client-lib/shared.h"

#define MAX_LOOKS 4
#define POPULATE_READ 22 /* MADV_POPULATE_READ, Linux 5.14 */

/* Is [off, off + nr * each) inside @bytes? Nothing here can overflow. */
static bool inside(uint64_t off, uint64_t nr, uint64_t each, uint64_t bytes)
{
	return off <= bytes && nr <= (bytes - off) / each;
}

/* Is it an index of this geometry, all of it inside @bytes? */
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

/*
 * Into the page tables, up to as many blocks as there are: lookups then fault
 * no more. What has not been written yet is not made to take memory.
 */
static void index_populate(const struct index *x)
{
	uint64_t used = index_used(x);
	uint64_t end;

	if (used > x->nr_blocks)
		used = x->nr_blocks;
	end = (uint64_t)(x->blocks - (const char *)x->ix) +
	      used * x->block_bytes;
	madvise((void *)(uintptr_t)x->ix, end, POPULATE_READ);
}

int index_map(struct index *x, int fd, uint32_t page_tokens,
	      uint32_t nr_classes)
{
	struct shm_index h;
	struct stat st;
	void *p;

	if (shared_check(fd, sizeof(h)) < 0 || fstat(fd, &st) < 0)
		return -EPROTO;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	memcpy(&h, p, sizeof(h));
	if (!index_ok(&h, (uint64_t)st.st_size, page_tokens, nr_classes)) {
		munmap(p, (size_t)st.st_size);
		return -EPROTO;
	}
	index_unmap(x);
	*x = (struct index){
		.ix = p,
		.bytes = (size_t)st.st_size,
		.buckets = (const void *)((const char *)p + h.buckets_off),
		.blocks = (const char *)p + h.blocks_off,
		.nr_buckets = h.nr_buckets,
		.nr_blocks = h.nr_blocks,
		.block_bytes = h.block_bytes,
		.page_tokens = page_tokens,
		.nr_classes = nr_classes,
	};
	index_populate(x);
	return 0;
}

void index_unmap(struct index *x)
{
	if (x->ix)
		munmap((void *)(uintptr_t)x->ix, x->bytes);
	x->ix = NULL;
}

/* ---- looks at a block ---- */

static const struct shm_block *block_at(const struct index *x, uint32_t nr)
{
	return (const void *)(x->blocks + (uint64_t)(nr - 1) * x->block_bytes);
}

/* Number of the first block of the chain of @n. */
static uint32_t bucket_read(const struct index *x, const struct name *n)
{
	return atomic_load_explicit(
		&x->buckets[name_hash(n) & (x->nr_buckets - 1)],
		memory_order_acquire);
}

/*
 * Reads what it wants of a block that may change under its feet: into @ctx,
 * to be used only when nothing did. Return: is it the one?
 */
typedef bool (*read_fn)(const struct index *x, const struct shm_block *b,
			void *ctx);

enum look { LOOK_FOUND, LOOK_OTHER, LOOK_RACE };

static enum look block_look(const struct index *x, const struct shm_block *b,
			    read_fn read, void *ctx)
{
	uint32_t seq = atomic_load_explicit(&b->seq, memory_order_acquire);
	bool found;

	if (seq & 1)
		return LOOK_RACE;
	found = read(x, b, ctx);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&b->seq, memory_order_relaxed) != seq)
		return LOOK_RACE;
	return found ? LOOK_FOUND : LOOK_OTHER;
}

/* Looks at block number @nr till it holds still; LOOK_RACE: it did not. */
static enum look block_read(const struct index *x, uint32_t nr, read_fn read,
			    void *ctx)
{
	enum look look = LOOK_RACE;

	if (nr > x->nr_blocks)
		return LOOK_RACE;
	for (int i = 0; i < MAX_LOOKS && look == LOOK_RACE; i++)
		look = block_look(x, block_at(x, nr), read, ctx);
	return look;
}

static uint32_t link_read(const _Atomic uint32_t *link)
{
	return atomic_load_explicit(link, memory_order_relaxed);
}

static void pages_read(const struct index *x, const struct shm_block *b,
		       handle_t *pages)
{
	for (uint32_t c = 0; c < x->nr_classes; c++)
		pages[c] = atomic_load_explicit(&b->page[c],
						memory_order_relaxed);
}

/* ---- a block by all that it is looked up by ---- */

struct find {
	const struct index_key *key;
	handle_t *pages;
	uint32_t next;
};

static bool find_read(const struct index *x, const struct shm_block *b,
		      void *ctx)
{
	struct find *f = ctx;
	const struct index_key *key = f->key;

	f->next = link_read(&b->next);
	if (!name_equal(&b->name, key->name) ||
	    !name_equal(&b->parent, key->parent) ||
	    !name_equal(&b->extra, key->extra) ||
	    memcmp(b->tokens, key->tokens, 4ULL * x->page_tokens))
		return false;
	pages_read(x, b, f->pages);
	return true;
}

uint32_t index_find(const struct index *x, const struct index_key *key,
		    handle_t *pages)
{
	struct find f = { .key = key, .pages = pages };
	uint32_t nr = bucket_read(x, key->name);

	for (int step = 0; step < SHM_MAX_CHAIN && nr; step++, nr = f.next) {
		enum look look = block_read(x, nr, find_read, &f);

		if (look != LOOK_OTHER)
			return look == LOOK_FOUND ? nr : 0;
	}
	return 0;
}

/* ---- a block by the one before it ---- */

#define MAX_FOLLOW 4 /* then it is cheaper to compute the name */

struct follow {
	const struct index_key *key;
	uint32_t nr;		/* the block looked at */
	uint32_t fetched;	/* one that is on its way already */
	struct name *name;
	handle_t *pages;
	uint32_t sibling;
};

/* All of a block, which is more than a processor would guess. */
static void block_prefetch(const struct index *x, uint32_t nr)
{
	const char *b;

	if (!nr || nr > x->nr_blocks)
		return;
	b = (const char *)block_at(x, nr);
	for (uint32_t i = 0; i < x->block_bytes; i += 64)
		__builtin_prefetch(b + i);
}

/*
 * The one that is likely next is on its way meanwhile. Where a prefix was
 * published in one go, so is the one after it: their numbers count up.
 */
static void follow_prefetch(const struct index *x, const struct follow *f,
			    uint32_t child)
{
	if (child != f->fetched)
		block_prefetch(x, child);
	if (child == f->nr + 1)
		block_prefetch(x, child + 1);
}

static bool follow_read(const struct index *x, const struct shm_block *b,
			void *ctx)
{
	static const struct name none;
	struct follow *f = ctx;
	const struct index_key *key = f->key;

	f->sibling = link_read(&b->sibling);
	follow_prefetch(x, f, link_read(&b->child));
	if (!name_equal(&b->parent, key->parent) ||
	    !name_equal(&b->extra, key->extra) || name_equal(&b->name, &none) ||
	    memcmp(b->tokens, key->tokens, 4ULL * x->page_tokens))
		return false;
	*f->name = b->name;
	pages_read(x, b, f->pages);
	return true;
}

uint32_t index_follow(const struct index *x, uint32_t at,
		      const struct index_key *key, struct name *name,
		      handle_t *pages)
{
	struct follow f = { .key = key, .name = name, .pages = pages };
	const _Atomic uint32_t *child = &x->ix->child;
	uint32_t nr;

	if (at > x->nr_blocks)
		return 0;
	if (at)
		child = &block_at(x, at)->child;
	nr = atomic_load_explicit(child, memory_order_acquire);
	for (int step = 0; step < MAX_FOLLOW && nr; step++, nr = f.sibling) {
		enum look look;

		f.nr = nr;
		f.fetched = at && nr == at + 1 ? nr + 1 : 0;
		look = block_read(x, nr, follow_read, &f);

		if (look != LOOK_OTHER)
			return look == LOOK_FOUND ? nr : 0;
	}
	return 0;
}

/* ---- the children of a block ---- */

struct first {
	const struct name *parent;
	uint32_t child;
	uint32_t next;
};

static bool first_read(const struct index *x, const struct shm_block *b,
		       void *ctx)
{
	struct first *f = ctx;

	(void)x;
	f->next = link_read(&b->next);
	f->child = atomic_load_explicit(&b->child, memory_order_acquire);
	return name_equal(&b->name, f->parent);
}

/* Number of the newest block after the one named @parent; 0: none. */
static uint32_t child_first(const struct index *x, const struct name *parent)
{
	static const struct name root;
	struct first f = { .parent = parent };
	uint32_t nr;

	if (name_equal(parent, &root))
		return atomic_load_explicit(&x->ix->child,
					    memory_order_acquire);
	nr = bucket_read(x, parent);
	for (int step = 0; step < SHM_MAX_CHAIN && nr; step++, nr = f.next) {
		enum look look = block_read(x, nr, first_read, &f);

		if (look != LOOK_OTHER)
			return look == LOOK_FOUND ? f.child : 0;
	}
	return 0;
}

struct child {
	const struct index_run *run;
	handle_t pages[SHM_MAX_CLASSES];
	uint32_t nr_tokens;	/* that it shares */
	uint32_t sibling;
};

/* Has it a page of every class that is asked for? */
static bool child_complete(const struct index *x, const struct child *c)
{
	for (uint32_t i = 0; i < x->nr_classes; i++)
		if (c->run->classes >> i & 1 && !c->pages[i])
			return false;
	return true;
}

static bool child_read(const struct index *x, const struct shm_block *b,
		       void *ctx)
{
	struct child *c = ctx;
	const struct index_run *run = c->run;
	uint32_t most = run->nr_tokens < x->page_tokens ? run->nr_tokens :
							  x->page_tokens;

	c->sibling = link_read(&b->sibling);
	c->nr_tokens = 0;
	if (!name_equal(&b->parent, run->parent) ||
	    !name_equal(&b->extra, run->extra))
		return false;
	pages_read(x, b, c->pages);
	if (!child_complete(x, c))
		return false;
	while (c->nr_tokens < most &&
	       b->tokens[c->nr_tokens] == run->tokens[c->nr_tokens])
		c->nr_tokens++;
	return c->nr_tokens != 0;
}

uint32_t index_find_run(const struct index *x, const struct index_run *run,
			handle_t *pages)
{
	struct child c = { .run = run };
	uint32_t best = 0, nr = child_first(x, run->parent);

	for (int step = 0; step < SHM_MAX_CHAIN && nr; step++, nr = c.sibling) {
		enum look look = block_read(x, nr, child_read, &c);

		if (look == LOOK_RACE)
			break;
		if (look == LOOK_OTHER || c.nr_tokens <= best)
			continue;
		best = c.nr_tokens;
		memcpy(pages, c.pages, x->nr_classes * sizeof(*pages));
	}
	return best;
}

/* ---- all blocks ---- */

/*
 * A block is written for less than a microsecond, but a writer may be made to
 * wait amid that, or be killed. Its turn may come while we give up ours; it is
 * not worth more, a turn of everybody else's each.
 */
#define COPY_TURNS 2

uint32_t index_touched(const struct index *x)
{
	uint32_t nr = atomic_load_explicit(&x->ix->nr_touched,
					   memory_order_acquire);

	return nr < x->nr_blocks ? nr : x->nr_blocks;
}

static bool copy_read(const struct index *x, const struct shm_block *b,
		      void *ctx)
{
	static const struct name none;
	struct index_copy *c = ctx;

	c->name = b->name;
	if (name_equal(&c->name, &none))
		return false;
	c->parent = b->parent;
	c->extra = b->extra;
	c->depth = b->depth;
	c->classes = 0;
	for (uint32_t i = 0; i < x->nr_classes; i++)
		if (atomic_load_explicit(&b->page[i], memory_order_relaxed))
			c->classes |= 1u << i;
	memcpy(c->tokens, b->tokens, 4ULL * x->page_tokens);
	return c->classes;
}

bool index_copy(const struct index *x, uint32_t nr, struct index_copy *copy)
{
	enum look look = block_read(x, nr, copy_read, copy);

	for (int i = 0; i < COPY_TURNS && look == LOOK_RACE; i++) {
		sched_yield();
		look = block_read(x, nr, copy_read, copy);
	}
	return look == LOOK_FOUND;
}

uint64_t index_used(const struct index *x)
{
	return atomic_load_explicit(&x->ix->nr_used, memory_order_relaxed);
}
