// SPDX-License-Identifier: Apache-2.0
/* batch.c - the items of an append or attend, as kernels take them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/error.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

static int item_check(struct kvd_space *sp, const struct kvd_item *it,
		      size_t i)
{
	struct kvd_seq *seq = it->seq;

	if (!seq || seq->sp != sp)
		return fail(sp->k, -EINVAL, "item %zu is not a sequence of "
			    "this space", i);
	if (seq->mark == sp->mark)
		return fail(sp->k, -EINVAL, "item %zu has a sequence that came "
			    "before", i);
	seq->mark = sp->mark;
	if (it->nr_tokens > SEQ_MAX_TOKENS - seq->nr_tokens)
		return fail(sp->k, -EINVAL, "item %zu: %u tokens are too many",
			    i, it->nr_tokens);
	return seq_usable(seq);
}

int batch_check(struct kvd_space *sp, const struct batch_args *a)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;
	uint64_t rows = 0;
	int r;

	if (a->group >= geo->nr_groups)
		return fail(sp->k, -EINVAL, "there are %u groups",
			    geo->nr_groups);
	if (a->layer >= geo->groups[a->group].nr_layers)
		return fail(sp->k, -EINVAL, "group %u has %u layers", a->group,
			    geo->groups[a->group].nr_layers);
	if (a->dtype >= KVD_NR_DTYPES)
		return fail(sp->k, -EINVAL, "dtype %u is unknown", a->dtype);
	if (a->nr_items && !a->items)
		return fail(sp->k, -EINVAL, "items are missing");
	sp->mark++;
	for (size_t i = 0; i < a->nr_items; i++) {
		r = item_check(sp, &a->items[i], i);
		if (r)
			return r;
		rows += a->items[i].nr_tokens;
	}
	if (rows > SEQ_MAX_TOKENS)
		return fail(sp->k, -EINVAL, "the batch has too many rows");
	return 0;
}

static int batch_room(struct batch *b, size_t nr_seqs, size_t nr_pages)
{
	void *p;

	if (nr_seqs > b->room_seqs) {
		p = realloc(b->seqs, 2 * nr_seqs * sizeof(*b->seqs));
		if (!p)
			return -ENOMEM;
		b->seqs = p;
		p = realloc(b->nonfinite, 2 * nr_seqs * sizeof(uint32_t *));
		if (!p)
			return -ENOMEM;
		b->nonfinite = p;
		b->room_seqs = (uint32_t)(2 * nr_seqs);
	}
	if (nr_pages > b->room_pages) {
		p = realloc(b->pages, 2 * nr_pages * sizeof(*b->pages));
		if (!p)
			return -ENOMEM;
		b->pages = p;
		b->room_pages = (uint32_t)(2 * nr_pages);
	}
	return 0;
}

/* Entries of the block table that positions below the item's end are in. */
static uint32_t item_pages(const struct kvd_space *sp,
			   const struct kvd_item *it)
{
	return blocks_of(sp, it->seq->nr_tokens + it->nr_tokens);
}

int batch_build(struct kvd_space *sp, const struct batch_args *a)
{
	struct batch *b = &sp->batch;
	size_t pages = 0;

	for (size_t i = 0; i < a->nr_items; i++)
		pages += item_pages(sp, &a->items[i]);
	if (pages > UINT32_MAX / 2 || a->nr_items > UINT32_MAX / 2 ||
	    batch_room(b, a->nr_items, pages))
		return fail(sp->k, -ENOMEM, "out of memory");
	b->nr_seqs = b->nr_pages = b->nr_rows = 0;
	for (size_t i = 0; i < a->nr_items; i++) {
		const struct kvd_item *it = &a->items[i];
		struct kvd_seq *seq = it->seq;
		uint32_t nr = item_pages(sp, it);

		if (!it->nr_tokens)
			continue;
		b->seqs[b->nr_seqs] = (struct kv_seq){
			.first_page = b->nr_pages,
			.first_row = b->nr_rows,
			.nr_rows = it->nr_tokens,
			.pos = seq->nr_tokens,
		};
		b->nonfinite[b->nr_seqs++] = &seq->flag->word;
		memcpy(b->pages + b->nr_pages, seq->tables[a->group].refs,
		       nr * sizeof(*b->pages));
		b->nr_pages += nr;
		b->nr_rows += it->nr_tokens;
	}
	return 0;
}

void batch_fini(struct batch *b)
{
	free(b->seqs);
	free(b->nonfinite);
	free(b->pages);
}
