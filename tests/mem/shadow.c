// SPDX-License-Identifier: Apache-2.0
/*
 * shadow.c - a space's blocks, known from what is told of it alone.
 */
#include "tests/mem/shadow.h"

#include <sys/mman.h>
#include <unistd.h>

struct shadow_block *shadow_find(struct shadow *sh, const struct name *name)
{
	for (uint32_t i = 0; i < sh->nr; i++)
		if (name_equal(&sh->blocks[i].name, name))
			return &sh->blocks[i];
	return NULL;
}

/* A block as the index has it. Return: is one there? */
static bool read_block(const struct shm_index *ix, uint32_t nr,
		       struct shadow_block *ret)
{
	const struct shm_block *b = shm_block_at(ix, nr);
	static const struct name none;

	assert_int_equal(ix->page_tokens, SHADOW_TOKENS);
	memset(ret, 0, sizeof(*ret));
	ret->name = b->name;
	ret->parent = b->parent;
	ret->extra = b->extra;
	ret->depth = b->depth;
	memcpy(ret->tokens, b->tokens, sizeof(ret->tokens));
	for (uint32_t i = 0; i < ix->nr_classes; i++)
		if (b->page[i])
			ret->classes |= 1u << i;
	return !name_equal(&b->name, &none);
}

static const struct shm_index *index_map(const struct mem_space *s)
{
	int fd = mem_space_index_fd(s);
	struct shm_index h;
	void *p;

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	p = mmap(NULL, h.bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void index_unmap(const struct shm_index *ix)
{
	munmap((void *)(uintptr_t)ix, ix->bytes);
}

struct shadow *shadow_new(struct mem_space *s)
{
	const struct shm_index *ix = index_map(s);
	struct shadow *sh = calloc(1, sizeof(*sh));

	assert_non_null(sh);
	sh->space = s;
	for (uint32_t i = 1; i <= ix->nr_touched; i++) {
		assert_true(sh->nr < SHADOW_BLOCKS);
		sh->nr += read_block(ix, i, &sh->blocks[sh->nr]);
	}
	index_unmap(ix);
	assert_null(mem_space_watcher(s));
	mem_space_watch(s, sh);
	return sh;
}

void shadow_free(struct shadow *sh)
{
	if (!sh->gone)
		mem_space_watch(sh->space, NULL);
	free(sh);
}

static void stored(struct shadow *sh, const struct mem_change *what)
{
	struct shadow_block *b = shadow_find(sh, what->name);

	sh->nr_stored++;
	if (!b) {
		assert_true(sh->nr < SHADOW_BLOCKS);
		b = &sh->blocks[sh->nr++];
		b->name = *what->name;
	} else {
		/* Said again only because it is another. */
		assert_int_not_equal(b->classes, what->classes);
	}
	assert_int_not_equal(what->classes, 0);
	b->parent = *what->parent;
	b->extra = *what->extra;
	b->depth = what->depth;
	b->classes = what->classes;
	memcpy(b->tokens, what->tokens, sizeof(b->tokens));
}

void shadow_change(void *ctx, void *watch, const struct mem_change *what)
{
	struct shadow *sh = watch;
	struct shadow_block *b;

	assert_false(sh->gone);
	switch (what->kind) {
	case MEM_BLOCK_STORED:
		stored(sh, what);
		break;
	case MEM_BLOCK_REMOVED:
		b = shadow_find(sh, what->name);
		assert_non_null(b); /* what was never stored is not removed */
		*b = sh->blocks[--sh->nr];
		sh->nr_removed++;
		break;
	case MEM_SPACE_GONE:
		sh->gone = true;
		break;
	}
}

void shadow_check(const struct shadow *sh)
{
	const struct shm_index *ix = index_map(sh->space);
	struct shadow_block b;
	uint32_t nr = 0;

	for (uint32_t i = 1; i <= ix->nr_blocks && i <= ix->nr_touched; i++) {
		const struct shadow_block *have;

		if (!read_block(ix, i, &b))
			continue;
		nr++;
		have = shadow_find((struct shadow *)(uintptr_t)sh, &b.name);
		assert_non_null(have);
		assert_memory_equal(have, &b, sizeof(b));
	}
	assert_int_equal(nr, sh->nr);
	assert_int_equal(nr, ix->nr_used);
	index_unmap(ix);
}
