/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin_look.c - where a prefix ends, and what a pin of it would cover.
 */
#include "daemon/mem/pin.h"

#include <errno.h>
#include <string.h>
#include "daemon/mem/page.h"

static bool block_in_use(const struct mem_space *s, uint32_t block)
{
	static const struct name none;

	return block && block <= s->index.nr_touched &&
	       !name_equal(&index_block(&s->index, block)->name, &none);
}

uint32_t pin_block_up(const struct mem_space *s, uint32_t block)
{
	static const struct name none;
	const struct shm_block *b = index_block(&s->index, block);
	uint32_t up = index_parent(&s->index, block);

	if (up || name_equal(&b->parent, &none))
		return up;
	return index_find(&s->index, &b->parent);
}

static bool block_is_first(const struct mem_space *s, uint32_t block)
{
	static const struct name none;

	return name_equal(&index_block(&s->index, block)->parent, &none);
}

bool pin_wants(const struct page *p, bool covered, bool end)
{
	return covered && (end || !page_is_copy(p));
}

static void cover_block(const struct mem_space *s, uint32_t block, bool end,
			struct mem_pin_stat *ret)
{
	for (uint32_t i = 0; i < s->nr_classes; i++) {
		const struct page *p;

		p = page_get(s->m, index_page(&s->index, block, i));
		if (!p || !pin_wants(p, true, end))
			continue;
		ret->pages++;
		ret->bytes += page_bytes(p);
		if (!p->pinned)
			ret->new_bytes += page_bytes(p);
	}
}

int mem_pin_look(const struct mem_space *s, uint32_t block,
		 struct mem_pin_stat *ret)
{
	uint32_t at = block, up;

	memset(ret, 0, sizeof(*ret));
	if (!block_in_use(s, block))
		return -ENOENT;
	ret->space = s->id;
	ret->block = block;
	ret->tenant = s->tenant->name;
	for (;;) {
		cover_block(s, at, at == block, ret);
		ret->blocks++;
		if (ret->blocks > PIN_MAX_BLOCKS)
			return -E2BIG;
		up = pin_block_up(s, at);
		if (!up)
			break;
		at = up;
	}
	ret->root = at;
	ret->tokens = (uint64_t)ret->blocks * s->key.geometry.page_tokens;
	return block_is_first(s, at) ? 0 : -ENOENT;
}

uint32_t mem_pin_find(const struct mem_space *s, const struct name *name)
{
	static const struct name none;

	return name_equal(name, &none) ? 0 : index_find(&s->index, name);
}

uint32_t mem_pin_follow(const struct mem_space *s, uint32_t from,
			const struct name *extra, const uint32_t *tokens,
			uint32_t nr)
{
	uint32_t p = s->key.geometry.page_tokens, at = from;
	struct prefix prefix = { .extra = *extra };

	if (from && !block_in_use(s, from))
		return 0;
	for (; nr >= p; tokens += p, nr -= p) {
		uint32_t next;

		if (at)
			prefix.parent = index_block(&s->index, at)->name;
		memcpy(prefix.tokens, tokens, p * sizeof(*tokens));
		prefix.name = name_block(&s->tenant->name_key, &prefix.parent,
					 extra, tokens, p);
		next = index_find(&s->index, &prefix.name);
		if (!next || !index_same(&s->index, next, &prefix))
			break;
		at = next;
	}
	return at;
}

uint32_t mem_pin_on(const struct mem_space *s, uint32_t block)
{
	if (!block_in_use(s, block))
		return block;
	for (uint32_t i = 0; i < PIN_MAX_BLOCKS; i++) {
		if (index_is_leaf(&s->index, block) ||
		    index_is_shared(&s->index, block))
			break;
		block = atomic_load_explicit(
			&index_block(&s->index, block)->child,
			memory_order_relaxed);
	}
	return block;
}
