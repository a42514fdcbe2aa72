/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey.c - what the index of a space looks like: how deep, how much shared,
 * which prefixes are used most.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/page.h"

/* Blocks looked at in one step: bounds its time. */
#define SURVEY_BLOCKS 2048

/* Of the roots seen so far @top are kept; of equals the one seen first. */
static void survey_root(struct mem_survey *v, uint32_t top, uint32_t block,
			uint32_t uses)
{
	uint32_t i = v->nr_roots;

	if (i < top)
		v->nr_roots++;
	else if (top && v->roots[top - 1].uses < uses)
		i--;
	else
		return;
	for (; i && v->roots[i - 1].uses < uses; i--)
		v->roots[i] = v->roots[i - 1];
	v->roots[i].block = block;
	v->roots[i].uses = uses;
}

static void survey_block(const struct mem_space *s, uint32_t nr, uint32_t top,
			 struct mem_survey *v)
{
	const struct shm_block *b = index_block(&s->index, nr);
	uint32_t pages = 0, uses = 0;

	for (uint32_t i = 0; i < s->nr_classes; i++) {
		const struct page *p;

		p = page_get(s->m, index_page(&s->index, nr, i));
		if (!p)
			continue;
		pages++;
		v->uses += p->uses;
		uses = p->uses > uses ? p->uses : uses;
	}
	if (!pages)
		return; /* not in use */
	v->blocks++;
	v->pages += pages;
	v->depth_sum += b->depth;
	v->depth_max = b->depth > v->depth_max ? b->depth : v->depth_max;
	v->shared += index_is_shared(&s->index, nr);
	if (b->depth == 0)
		survey_root(v, top, nr, uses);
}

int mem_survey(const struct mem_space *s, struct mem_cursor *at, uint32_t top,
	       struct mem_survey *ret)
{
	uint32_t nr = at->block ? at->block : 1, left = SURVEY_BLOCKS;

	if (at->serial && at->serial != s->serial)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	for (; nr <= s->index.nr_touched && left; left--, nr++)
		survey_block(s, nr, top < MEM_MAX_ROOTS ? top : MEM_MAX_ROOTS,
			     ret);
	at->serial = s->serial;
	at->block = nr <= s->index.nr_touched ? nr : 0;
	return 0;
}

uint32_t mem_survey_below(const struct mem_space *s, uint32_t block)
{
	return index_below(&s->index, block, MEM_MAX_BELOW);
}

const uint32_t *mem_survey_tokens(const struct mem_space *s, uint32_t block)
{
	return index_block(&s->index, block)->tokens;
}
