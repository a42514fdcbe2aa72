// SPDX-License-Identifier: Apache-2.0
/*
 * fixed_new.c - makes and frees batches: what is where, in how much memory.
 *
 * The block has, each 16-byte aligned: a word, where the step's words for NaN
 * begin; of each group the sequences of append, those of attend where they
 * differ, and pages to be quantized; last the pages of all groups, of which
 * only those in use are sent.
 */
#include <errno.h>
#include <stdlib.h>
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/fixed_new.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

#define MAX_ITEMS  (1u << 16)
#define MAX_ROWS   (1u << 20)
#define MAX_TOKENS (1u << 24)	/* of a sequence: a grid's last dimension */
#define MAX_PAGES  (1u << 26)	/* of all groups */

static int opts_check(struct kvd_space *sp, const struct kvd_batch_opts *o)
{
	if (!o->max_items || o->max_items > MAX_ITEMS)
		return fail(sp->k, -EINVAL, "max_items must be 1 to %u",
			    MAX_ITEMS);
	if (o->max_item_rows > MAX_ROWS || o->max_rows > MAX_ROWS ||
	    (uint64_t)o->max_items * o->max_item_rows < o->max_rows)
		return fail(sp->k, -EINVAL, "max_rows and max_item_rows must "
			    "be at most %u, and max_rows no more than all "
			    "items have", MAX_ROWS);
	if (!o->max_tokens || o->max_tokens > MAX_TOKENS)
		return fail(sp->k, -EINVAL, "max_tokens must be 1 to %u",
			    MAX_TOKENS);
	if (o->max_q_heads > KVD_MAX_HEADS * 64u)
		return fail(sp->k, -EINVAL, "max_q_heads must be at most %u",
			    KVD_MAX_HEADS * 64u);
	return 0;
}

static void opts_fill(struct kvd_batch_opts *o)
{
	uint64_t all;

	if (!o->max_item_rows)
		o->max_item_rows = 1;
	all = (uint64_t)o->max_items * o->max_item_rows;
	if (!o->max_rows)
		o->max_rows = all < MAX_ROWS ? (uint32_t)all : MAX_ROWS;
	all = (uint64_t)o->max_items * o->max_tokens;
	if (!o->max_all_tokens || o->max_all_tokens > all)
		o->max_all_tokens = all;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Pages of a group that a set can have: its table's, and what lies over it. */
static uint64_t pages_most(const struct kvd_batch *b, uint32_t group)
{
	const struct kvd_batch_opts *o = &b->opts;
	uint32_t p = space_page_tokens(b->sp);
	uint64_t n = least((uint64_t)o->max_items *
				   blocks_of(b->sp, o->max_tokens),
			   o->max_all_tokens / p + o->max_items);

	/* Blocks that n rows are in are at most n / p + 2, and a lag. */
	return batch_overlays(b->sp, group) ?
		       n + o->max_rows / p + 3ull * o->max_items :
		       n;
}

/* @n things of @bytes each, in the block from where it now ends. */
static uint32_t take(uint64_t *end, uint64_t n, uint64_t bytes)
{
	uint64_t at = *end;

	*end = (at + n * bytes + 15) / 16 * 16;
	return (uint32_t)at;
}

static void group_plan(struct kvd_batch *b, uint32_t group, uint64_t *end)
{
	const struct kvd_batch_opts *o = &b->opts;
	struct fixed_group *g = &b->groups[group];
	uint64_t p = space_page_tokens(b->sp);

	g->append_at = take(end, o->max_items, sizeof(struct kv_seq));
	g->attend_at = g->append_at;
	g->max_seqs = o->max_items;
	g->convert_word = b->nr_words;
	if (!batch_overlays(b->sp, group))
		return;
	g->max_seqs = (uint32_t)least(o->max_rows,
				      o->max_rows / p + 2ull * o->max_items);
	g->attend_at = take(end, g->max_seqs, sizeof(struct kv_seq));
	if (o->max_item_rows == 1 || b->sp->opts.read_only)
		return;
	g->max_converts = (uint32_t)least(o->max_rows,
					  o->max_rows / p + o->max_items);
	g->convert_at = take(end, g->max_converts,
			     sizeof(struct kv_convert_page));
	b->nr_words += g->max_converts;
}

/* Decides what is where. Return: bytes of the block; 0: too many. */
static uint64_t block_plan(struct kvd_batch *b)
{
	uint64_t end = 16, pages = 0;

	b->nr_words = b->opts.max_items;
	for (uint32_t g = 0; g < space_nr_groups(b->sp); g++) {
		group_plan(b, g, &end);
		pages += pages_most(b, g);
	}
	if (pages > MAX_PAGES || end > UINT32_MAX)
		return 0;
	b->max_pages = (uint32_t)pages;
	b->pages_at = take(&end, pages, sizeof(struct kv_page_ref));
	return end;
}

/* What attention in @group cannot exceed. */
static int attend_most(struct kvd_batch *b, uint32_t group,
		       struct kv_attend_args *a)
{
	struct kvd_space *sp = b->sp;

	*a = (struct kv_attend_args){
		.nr_seqs = b->groups[group].max_seqs,
		.nr_rows = b->opts.max_rows,
		.window = sp->opts.geometry.groups[group].window,
	};
	space_layouts(sp, group, a->layouts);
	return tables_get(sp, group, b->opts.max_tokens, &a->tables);
}

static int block_make(struct kvd_batch *b, uint64_t bytes)
{
	struct device *d = b->sp->device;
	struct kv_attend_args groups[KVD_MAX_GROUPS];
	struct device_fixed_want w = {
		.bytes = bytes,
		.image = b->image,
		.nr_flags = FIXED_STEPS * b->nr_words,
		.nr_groups = space_nr_groups(b->sp),
		.groups = groups,
		.max_q_heads = b->opts.max_q_heads,
		.max_tokens = b->opts.max_tokens,
		.max_rows = b->opts.max_item_rows,
		.share = b->opts.share,
	};
	int r = 0;

	for (uint32_t g = 0; !r && g < w.nr_groups; g++)
		r = attend_most(b, g, &groups[g]);
	if (!r)
		r = d->ops->fixed_new(d, &w, &b->f);
	return r;
}

static int arrays_make(struct kvd_batch *b, uint64_t bytes)
{
	b->image = calloc(1, bytes);
	b->seqs = calloc(b->opts.max_items, sizeof(struct kvd_seq *));
	if (!b->image || !b->seqs)
		return -ENOMEM;
	for (uint32_t i = 0; i < FIXED_STEPS; i++) {
		b->steps[i].flags = calloc(b->nr_words, sizeof(struct flag *));
		if (!b->steps[i].flags)
			return -ENOMEM;
	}
	return block_make(b, bytes);
}

/* No work uses it. */
static void batch_destroy(struct kvd_batch *b)
{
	b->sp->device->ops->fixed_free(b->sp->device, b->f);
	for (uint32_t i = 0; i < FIXED_STEPS; i++)
		free(b->steps[i].flags);
	free(b->seqs);
	free(b->image);
	free(b);
}

int kvd_batch_new(struct kvd_space *sp, const struct kvd_batch_opts *opts,
		  struct kvd_batch **ret)
{
	struct kvd_batch *b;
	uint64_t bytes;
	int r = fail_size(sp->k, opts, sizeof(*opts));

	if (r)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return fail(sp->k, -ENOMEM, "out of memory");
	b->sp = sp;
	b->opts = *opts;
	opts_fill(&b->opts);
	r = opts_check(sp, &b->opts);
	bytes = r ? 0 : block_plan(b);
	if (!r && !bytes)
		r = fail(sp->k, -EINVAL, "the batch would have more than %u "
			 "pages: give max_all_tokens", MAX_PAGES);
	if (!r) {
		r = arrays_make(b, bytes);
		if (r)
			fail(sp->k, r, "no memory for a batch of %llu bytes "
			     "and its scratch", (unsigned long long)bytes);
	}
	if (r) {
		batch_destroy(b);
		return r;
	}
	LIST_INSERT_HEAD(&sp->batches, b, link);
	*ret = b;
	return 0;
}

void kvd_batch_free(struct kvd_batch *b)
{
	if (!b)
		return;
	fixed_end(b);
	LIST_REMOVE(b, link);
	batch_destroy(b);
}
