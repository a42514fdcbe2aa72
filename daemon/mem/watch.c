// SPDX-License-Identifier: Apache-2.0
/*
 * watch.c - tells what becomes of a space's blocks, where somebody watches.
 */
#include "daemon/mem/watch.h"

uint32_t watch_classes(const struct mem_space *s, uint32_t nr)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (index_page(&s->index, nr, i))
			bits |= 1u << i;
	return bits;
}

static void watch_tell(struct mem_space *s, const struct mem_change *what)
{
	s->m->ops->changed(s->m->ctx, s->watch, what);
}

static void watch_stored(struct mem_space *s, uint32_t nr, uint32_t classes)
{
	const struct shm_block *b = index_block(&s->index, nr);
	struct mem_change what = {
		.kind = MEM_BLOCK_STORED,
		.name = &b->name,
		.parent = &b->parent,
		.extra = &b->extra,
		.tokens = b->tokens,
		.depth = b->depth,
		.classes = classes,
	};

	watch_tell(s, &what);
}

void watch_given(struct mem_space *s, uint32_t nr, uint32_t had)
{
	uint32_t has = watch_classes(s, nr);

	if (has != had)
		watch_stored(s, nr, has);
}

void watch_taken(struct mem_space *s, uint32_t nr, const struct name *name)
{
	struct mem_change what = { .kind = MEM_BLOCK_REMOVED, .name = name };
	uint32_t has = watch_classes(s, nr);

	if (has)
		watch_stored(s, nr, has);
	else
		watch_tell(s, &what);
}

void watch_gone(struct mem_space *s)
{
	struct mem_change what = { .kind = MEM_SPACE_GONE };

	watch_tell(s, &what);
	s->watch = NULL;
}

void mem_space_watch(struct mem_space *s, void *watch)
{
	s->watch = watch;
}

void *mem_space_watcher(const struct mem_space *s)
{
	return s->watch;
}
