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

int batch_check_layer(struct kvd_space *sp, uint32_t group, uint32_t layer,
		      uint32_t dtype)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;

	if (group >= geo->nr_groups)
		return fail(sp->k, -EINVAL, "there are %u groups",
			    geo->nr_groups);
	if (layer >= geo->groups[group].nr_layers)
		return fail(sp->k, -EINVAL, "group %u has %u layers", group,
			    geo->groups[group].nr_layers);
	if (dtype >= KVD_NR_DTYPES)
		return fail(sp->k, -EINVAL, "dtype %u is unknown", dtype);
	return 0;
}

int batch_check(struct kvd_space *sp, const struct batch_args *a)
{
	uint64_t rows = 0;
	int r = batch_check_layer(sp, a->group, a->layer, a->dtype);

	if (r)
		return r;
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

int batch_check_stored(struct kvd_space *sp, const struct batch_args *a)
{
	for (size_t i = 0; i < a->nr_items; i++) {
		const struct kvd_item *it = &a->items[i];
		const struct table *t = &it->seq->tables[a->group];

		if (it->nr_tokens + it->seq->nr_tokens > t->stored[a->layer])
			return fail(sp->k, -EINVAL, "item %zu: K and V of "
				    "these tokens were not appended in layer "
				    "%u", i, a->layer);
	}
	return 0;
}

/* Then, that none of the items was lost on the way. */
int batch_reserve(struct kvd_space *sp, const struct batch_args *a)
{
	int r = 0;

	for (size_t i = 0; !r && i < a->nr_items; i++)
		r = seq_reserve(a->items[i].seq, a->group,
				a->items[i].seq->nr_tokens +
					a->items[i].nr_tokens);
	for (size_t i = 0; !r && i < a->nr_items; i++)
		r = seq_usable(a->items[i].seq);
	return r;
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

/* Of one item: its blocks, and where they are in the batch's pages. */
struct extent {
	struct kvd_seq *seq;
	const struct table *t;
	uint32_t group;
	uint32_t pos, end;	/* of its rows */
	uint32_t first, last;	/* blocks of these */
	uint32_t from;		/* block that the overlay begins with */
	uint32_t pages;		/* the table's entry in pages[] */
	uint32_t overlay;	/* the overlay's */
};

static struct extent extent_of(const struct kvd_space *sp, uint32_t group,
			       const struct kvd_item *it)
{
	uint32_t p = space_page_tokens(sp);
	struct extent x = {
		.seq = it->seq,
		.t = &it->seq->tables[group],
		.group = group,
		.pos = it->seq->nr_tokens,
		.end = it->seq->nr_tokens + it->nr_tokens,
	};

	x.first = x.pos / p;
	x.last = (x.end - 1) / p;
	x.from = x.first - (x.first && sp->lag);
	return x;
}

bool batch_overlays(const struct kvd_space *sp, uint32_t group)
{
	return sp->whole && space_has_two(sp, group);
}

/* Room for all items, however many sequences and pages they become. */
static int batch_grow(struct kvd_space *sp, const struct batch_args *a)
{
	size_t seqs = 0, pages = 0;

	for (size_t i = 0; i < a->nr_items; i++) {
		const struct kvd_item *it = &a->items[i];
		uint32_t end = it->seq->nr_tokens + it->nr_tokens;
		uint32_t blocks = blocks_of(sp, end) -
				  it->seq->nr_tokens / space_page_tokens(sp);

		pages += blocks_of(sp, end) + blocks + 1;
		seqs += batch_overlays(sp, a->group) ? blocks + 1 : 1;
	}
	if (pages > UINT32_MAX / 2 || seqs > UINT32_MAX / 2 ||
	    batch_room(&sp->batch, seqs, pages))
		return fail(sp->k, -ENOMEM, "out of memory");
	sp->batch.nr_seqs = sp->batch.nr_pages = sp->batch.nr_rows = 0;
	return 0;
}

/* The table, then what lies over it. */
static void put_pages(struct batch *b, struct extent *x, bool overlay)
{
	const struct table *t = x->t;

	x->pages = b->nr_pages;
	memcpy(b->pages + b->nr_pages, t->refs,
	       (x->last + 1) * sizeof(*b->pages));
	b->nr_pages += x->last + 1;
	x->overlay = b->nr_pages;
	for (uint32_t i = x->from; overlay && i <= x->last; i++)
		b->pages[b->nr_pages++] = page_ref(x->group,
						   table_append(t, i));
}

/* Rows [pos, end) of the item, for which pages from block @from on differ. */
static void put_seq(struct batch *b, const struct extent *x, uint32_t pos,
		    uint32_t end, uint32_t from)
{
	struct kv_seq *s = &b->seqs[b->nr_seqs];

	*s = (struct kv_seq){
		.first_page = x->pages,
		.first_row = b->nr_rows,
		.nr_rows = end - pos,
		.pos = pos,
		.overlay_from = from,
		.overlay_page = x->overlay + (from - x->from),
	};
	if (!from)
		s->first_page = s->overlay_page;
	b->nonfinite[b->nr_seqs++] = &x->seq->flag->word;
	b->nr_rows += end - pos;
}

/* All rows of the item, which see the table as it is. */
static void put_table(struct batch *b, const struct extent *x)
{
	put_seq(b, x, x->pos, x->end, x->from);
	b->seqs[b->nr_seqs - 1].overlay_from = 0;
	b->seqs[b->nr_seqs - 1].first_page = x->pages;
}

/* One sequence per block that the rows are in. */
static void put_blocks(struct kvd_space *sp, const struct extent *x)
{
	uint32_t p = space_page_tokens(sp), pos = x->pos;

	for (uint32_t i = x->first; i <= x->last; i++) {
		uint32_t end = (i + 1) * p < x->end ? (i + 1) * p : x->end;

		put_seq(&sp->batch, x, pos, end, i - (i && sp->lag));
		pos = end;
	}
}

static int batch_build(struct kvd_space *sp, const struct batch_args *a,
		       bool by_block)
{
	bool overlay = batch_overlays(sp, a->group);
	int r = batch_grow(sp, a);

	if (r)
		return r;
	for (size_t i = 0; i < a->nr_items; i++) {
		struct extent x;

		if (!a->items[i].nr_tokens)
			continue;
		x = extent_of(sp, a->group, &a->items[i]);
		put_pages(&sp->batch, &x, overlay);
		if (overlay && by_block)
			put_blocks(sp, &x);
		else if (overlay)
			put_seq(&sp->batch, &x, x.pos, x.end, x.from);
		else
			put_table(&sp->batch, &x);
	}
	return 0;
}

int batch_append(struct kvd_space *sp, const struct batch_args *a)
{
	return batch_build(sp, a, false);
}

int batch_attend(struct kvd_space *sp, const struct batch_args *a)
{
	return batch_build(sp, a, true);
}

void batch_fini(struct batch *b)
{
	free(b->seqs);
	free(b->nonfinite);
	free(b->pages);
}
