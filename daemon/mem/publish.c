/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - sealing pages and putting blocks in the index.
 *
 * Everything that can be refused is refused before anything changes. Of two
 * pages of one name the first stays: the second is sealed for its owner and
 * the owner gets a hold on the first. A name has one page of each class: where
 * a group has two, an exact one and a sealed one, published together or one
 * after the other. Two prefixes of one name (they would
 * need the tenant's key to be made) are told apart: the second is not shared.
 * Neither is one more of a bucket that is crowded.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/demote.h"
#include "daemon/mem/hold.h"
#include "daemon/mem/watch.h"

/* The block's page of @class, checked; NULL with *err 0: absent. */
static struct page *publish_page(const struct mem_client *c,
				 const struct mem_space *s,
				 const struct mem_block *b, uint32_t class,
				 int *err)
{
	struct page *p;

	*err = 0;
	if (!b->pages[class])
		return NULL;
	p = page_get(c->m, b->pages[class]);
	if (!p || p->space != s || !hold_count(c, p))
		*err = -ESTALE;
	else if (p->class != class)
		*err = -EINVAL;
	return p;
}

static int publish_check(const struct mem_client *c, const struct mem_space *s,
			 const struct mem_block *b, struct page **pages)
{
	for (uint32_t i = 0; i < s->nr_classes; i++) {
		int err;

		pages[i] = publish_page(c, s, b, i, &err);
		if (err)
			return err;
	}
	return 0;
}

static struct prefix publish_prefix(const struct mem_space *s,
				    const struct mem_block *b)
{
	uint32_t nr = s->key.geometry.page_tokens;
	struct prefix p = { .parent = b->parent, .extra = b->extra };

	memcpy(p.tokens, b->tokens, nr * sizeof(p.tokens[0]));
	p.name = name_block(&s->tenant->name_key, &b->parent, &b->extra,
			    b->tokens, nr);
	return p;
}

/* Names @p, or finds that another has the name. Return: who has it. */
static struct page *publish_one(struct mem_client *c, struct page *p,
				const struct prefix *prefix, uint32_t block,
				uint32_t depth)
{
	struct mem_space *s = p->space;
	handle_t kept = index_page(&s->index, block, p->class);

	if (!kept) {
		page_seal(p, prefix, block, depth);
		space_count(&s->stats->published, 1);
		s->m->stat.published++;
		return p;
	}
	if (kept == page_handle(p))
		return p;
	page_seal(p, NULL, 0, 0);
	p = page_get(s->m, kept);
	hold_sealed(c, p, 1);
	page_count_use(p);
	space_count(&s->stats->deduplicated, 1);
	s->m->stat.deduplicated++;
	return p;
}

/* There is a shelf for the pages of each class. */
static bool publish_has_shelves(const struct mem_space *s, int priority)
{
	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (size_class_make_shelf(s->sizes[i], priority) < 0)
			return false;
	return true;
}

/* Up to the first that has as much: no child's is higher than its parent's. */
static void publish_raise(struct mem_space *s, uint32_t block, int priority)
{
	while (block && s->index.links[block].priority < priority) {
		s->index.links[block].priority = (int8_t)priority;
		page_reprioritize(s, block);
		block = index_parent(&s->index, block);
	}
}

static uint32_t publish_block(struct mem_space *s, const struct prefix *prefix,
			      uint32_t depth)
{
	const struct kvd_geometry *g = &s->key.geometry;
	uint32_t block = index_add(&s->index, prefix, depth, g->k_format,
				   g->v_format);
	uint32_t up = index_parent(&s->index, block);

	s->index.links[block].priority = MEM_LOW;
	if (up && !index_block(&s->index, block)->sibling)
		page_followed(s, up);
	return block;
}

/* A page has one name for life: is there one that has another? */
static bool publish_renames(const struct mem_space *s, uint32_t block,
			    struct page *const *pages)
{
	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (pages[i] && pages[i]->block && pages[i]->block != block)
			return true;
	return false;
}

static bool publish_has_page(const struct mem_space *s,
			     struct page *const *pages)
{
	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (pages[i])
			return true;
	return false;
}

/* Replaces each page by the one that has the name. */
static int publish_named(struct mem_client *c, struct mem_space *s,
			 const struct mem_block *b, struct page **pages)
{
	struct prefix prefix = publish_prefix(s, b);
	uint32_t block = index_find(&s->index, &prefix.name);
	uint32_t had = s->watch && block ? watch_classes(s, block) : 0;

	if (block ? !index_same(&s->index, block, &prefix) :
		    index_is_crowded(&s->index, &prefix.name))
		return -EEXIST;
	if (publish_renames(s, block, pages))
		return -EINVAL;
	if (map_reserve(&c->holds, s->nr_classes) < 0)
		return -ENOMEM;
	if (!block && publish_has_page(s, pages))
		block = publish_block(s, &prefix, b->depth);
	publish_raise(s, block, publish_has_shelves(s, b->priority) ?
					b->priority : MEM_NORMAL);
	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (pages[i])
			pages[i] = publish_one(c, pages[i], &prefix, block,
					       b->depth);
	if (s->watch && block)
		watch_given(s, block, had);
	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (pages[i])
			demote_replaced(s, block, s->classes[i].group);
	return 0;
}

static void publish_private(const struct mem_space *s, struct page **pages)
{
	for (uint32_t i = 0; i < s->nr_classes; i++)
		if (pages[i] && pages[i]->state == PAGE_OPEN)
			page_seal(pages[i], NULL, 0, 0);
}

int mem_publish(struct mem_client *c, struct mem_space *s,
		const struct mem_block *b, bool private, handle_t *handles,
		place_t *places)
{
	struct page *pages[MEM_MAX_CLASSES];
	int r;

	r = publish_check(c, s, b, pages);
	if (r < 0)
		return r;
	if (!private)
		r = publish_named(c, s, b, pages);
	if (private || r == -EEXIST)
		publish_private(s, pages);
	else if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->nr_classes; i++) {
		handles[i] = pages[i] ? page_handle(pages[i]) : 0;
		places[i] = pages[i] ? page_place(pages[i]) : 0;
	}
	return 0;
}
