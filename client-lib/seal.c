// SPDX-License-Identifier: Apache-2.0
/*
 * seal.c - full pages become quantized ones, layer by layer.
 *
 * Where a page is sealed whole, the append that stores a block's last token in
 * a layer quantizes that layer at once, so that the tokens after it, also those
 * of the same call, see what everybody will see. The open page keeps the exact
 * rows until they are committed: fewer tokens may be committed than were
 * appended, and the others then be written again. It also stays until the
 * device has found no NaN and no Inf in it.
 */
#include <errno.h>
#include <string.h>
#include "client-lib/error.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

#define SEAL_PAGES 64u /* in one call of the kernel */

/* Blocks of one group to be quantized, in some layers. */
struct seal {
	struct kvd_space *sp;
	struct kvd_seq *seqs[SEAL_PAGES];
	uint32_t blocks[SEAL_PAGES];
	struct kv_convert_page pages[SEAL_PAGES];
	uint32_t nr;
	uint32_t group;
	uint32_t layer, nr_layers;
	kvd_stream stream;
};

void seal_unflag(struct kvd_seq *seq, struct table *t, uint32_t i)
{
	if (t->refused[i])
		retire(seq->sp, &(struct retire){ .flag = t->refused[i],
						  .idle = seq->closing },
		       seq->stream);
	t->refused[i] = NULL;
}

/* A page that cannot be quantized stays as it is, and is not published. */
static void seal_refuse(struct kvd_seq *seq, uint32_t group, uint32_t block,
			kvd_stream stream)
{
	struct table *t = &seq->tables[group];

	if (!t->opens[block])
		return;
	retire(seq->sp, &(struct retire){ .holds = &t->holds[block], .nr = 1,
					  .idle = seq->closing },
	       stream);
	table_set(seq, group, block, t->opens[block]);
	t->opens[block] = NULL;
	seq->flag->word = 1;
}

/* Where the device is to say that block number @i cannot be quantized. */
static uint32_t *seal_word(struct seal *s, uint32_t i, uint32_t *at_once)
{
	struct table *t = &s->seqs[i]->tables[s->group];
	struct flag **f = &t->refused[s->blocks[i]];

	if (s->sp->device->at_once)
		return at_once;
	if (!*f)
		*f = flag_new();
	return *f ? &(*f)->word : NULL;
}

static int seal_words(struct seal *s, uint32_t *at_once, uint32_t **ret)
{
	for (uint32_t i = 0; i < s->nr; i++) {
		ret[i] = seal_word(s, i, &at_once[i]);
		if (!ret[i])
			return -ENOMEM;
	}
	return 0;
}

static int seal_run(struct seal *s)
{
	struct kvd_space *sp = s->sp;
	uint32_t at_once[SEAL_PAGES] = { 0 }, *nonfinite[SEAL_PAGES];
	struct kv_convert_args a = {
		.pages = s->pages,
		.nr_pages = s->nr,
		.first_layer = s->layer,
		.nr_layers = s->nr_layers,
		.nr_threads = sp->opts.nr_threads,
	};
	int r;

	if (!s->nr)
		return 0;
	space_layouts(sp, s->group, a.layouts);
	r = tables_get(sp, s->group, 0, &a.tables);
	if (!r)
		r = seal_words(s, at_once, nonfinite);
	if (!r)
		r = sp->device->ops->convert(sp->device, &a, nonfinite,
					     s->stream);
	if (r)
		return fail(sp->k, r, "cannot seal pages");
	for (uint32_t i = 0; i < s->nr; i++)
		if (at_once[i])
			seal_refuse(s->seqs[i], s->group, s->blocks[i],
				    s->stream);
	s->nr = 0;
	return 0;
}

/* Block @i of a group, which has both pages. */
static struct kv_convert_page convert_page(const struct kvd_seq *seq,
					   uint32_t group, uint32_t i)
{
	const struct table *t = &seq->tables[group];

	return (struct kv_convert_page){
		.from = page_ref(group, t->opens[i]),
		.to = page_ref(group, t->holds[i]),
		.nr_tokens = space_page_tokens(seq->sp),
	};
}

/* Adds a block that has both pages; quantizes when there are many. */
static int seal_add(struct seal *s, struct kvd_seq *seq, uint32_t block)
{
	s->seqs[s->nr] = seq;
	s->blocks[s->nr] = block;
	s->pages[s->nr++] = convert_page(seq, s->group, block);
	return s->nr == SEAL_PAGES ? seal_run(s) : 0;
}

/* Blocks of @seq: those from @from on that end at @end or less. */
static int seal_blocks(struct seal *s, struct kvd_seq *seq, uint32_t from,
		       uint32_t end)
{
	const struct table *t = &seq->tables[s->group];
	uint32_t p = space_page_tokens(s->sp);
	int r = 0;

	for (uint32_t i = from / p; !r && i < end / p; i++)
		if (space_seals(s->sp, s->group, i) && t->opens[i] &&
		    t->holds[i])
			r = seal_add(s, seq, i);
	return r;
}

/* All of that has been quantized. */
static void seal_done(const struct seal *s, struct kvd_seq *seq, uint32_t end)
{
	struct table *t = &seq->tables[s->group];

	for (uint32_t l = s->layer; l < s->layer + s->nr_layers; l++)
		t->sealed[l] = end - end % space_page_tokens(s->sp);
}

static bool seals(const struct kvd_space *sp, uint32_t group)
{
	return sp->whole && space_has_two(sp, group);
}

int seal_append(struct kvd_space *sp, const struct batch_args *args,
		kvd_stream stream)
{
	struct seal s = {
		.sp = sp,
		.group = args->group,
		.layer = args->layer,
		.nr_layers = 1,
		.stream = stream,
	};
	int r = 0;

	if (!seals(sp, args->group))
		return 0;
	for (size_t i = 0; !r && i < args->nr_items; i++) {
		struct kvd_seq *seq = args->items[i].seq;

		r = seal_blocks(&s, seq, seq->nr_tokens,
				seq->nr_tokens + args->items[i].nr_tokens);
	}
	if (!r)
		r = seal_run(&s);
	for (size_t i = 0; !r && i < args->nr_items; i++)
		seal_done(&s, args->items[i].seq,
			  args->items[i].seq->nr_tokens +
				  args->items[i].nr_tokens);
	return r;
}

int seal_list(const struct kvd_item *it, uint32_t group,
	      struct kv_convert_page *pages, struct flag **flags)
{
	struct kvd_seq *seq = it->seq;
	struct table *t = &seq->tables[group];
	uint32_t p = space_page_tokens(seq->sp);
	int nr = 0;

	for (uint32_t i = seq->nr_tokens / p;
	     i < (seq->nr_tokens + it->nr_tokens) / p; i++) {
		if (!space_seals(seq->sp, group, i) || !t->opens[i] ||
		    !t->holds[i])
			continue;
		if (!t->refused[i])
			t->refused[i] = flag_new();
		if (!t->refused[i])
			return -ENOMEM;
		pages[nr] = convert_page(seq, group, i);
		flags[nr++] = t->refused[i];
		t->refused[i]->refs++;
	}
	return nr;
}

/* The next layers in a row, after @s's, that are not quantized up to @end. */
static bool unsealed(struct seal *s, const struct kvd_seq *seq, uint32_t end)
{
	const uint32_t *sealed = seq->tables[s->group].sealed;
	uint32_t all = s->sp->opts.geometry.groups[s->group].nr_layers;

	s->layer += s->nr_layers;
	while (s->layer < all && sealed[s->layer] >= end)
		s->layer++;
	for (s->nr_layers = 0; s->layer + s->nr_layers < all &&
			       sealed[s->layer + s->nr_layers] < end;)
		s->nr_layers++;
	return s->nr_layers;
}

int seal_upto(struct kvd_seq *seq, uint32_t tokens, kvd_stream stream)
{
	struct kvd_space *sp = seq->sp;
	uint32_t end = tokens - tokens % space_page_tokens(sp);
	int r = 0;

	for (uint32_t g = 0; !r && g < space_nr_groups(sp); g++) {
		struct seal s = { .sp = sp, .group = g, .stream = stream };

		if (!seals(sp, g))
			continue;
		while (!r && unsealed(&s, seq, end)) {
			r = seal_blocks(&s, seq, seq->nr_tokens, end);
			if (!r)
				r = seal_run(&s);
			if (!r)
				seal_done(&s, seq, end);
		}
	}
	return r;
}

int seal_undo(struct kvd_seq *seq, uint32_t group, uint32_t i,
	      const struct hold *to, kvd_stream stream)
{
	struct kvd_space *sp = seq->sp;
	struct kv_convert_page page = {
		.from = seq->tables[group].refs[i],
		.to = page_ref(group, to),
		.nr_tokens = space_page_tokens(sp),
	};
	struct kv_convert_args a = {
		.pages = &page,
		.nr_pages = 1,
		.nr_layers = sp->opts.geometry.groups[group].nr_layers,
		.nr_threads = sp->opts.nr_threads,
	};
	int r;

	space_layouts(sp, group, a.layouts);
	r = tables_get(sp, group, 0, &a.tables);
	if (!r)
		r = sp->device->ops->convert(sp->device, &a, NULL, stream);
	return r ? fail(sp->k, r, "cannot open a sealed page") : 0;
}

void seal_settle(struct kvd_seq *seq, uint32_t tokens)
{
	uint32_t full = tokens / space_page_tokens(seq->sp);

	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		struct table *t = &seq->tables[g];

		if (!seals(seq->sp, g))
			continue;
		for (uint32_t i = seq->nr_settled; i < full && i < t->nr; i++) {
			if (t->refused[i] && t->refused[i]->word)
				seal_refuse(seq, g, i, seq->stream);
			flag_put(t->refused[i]);
			t->refused[i] = NULL;
		}
	}
}

/* Is the open page of full block @i of no use any more? */
static bool open_done(const struct kvd_seq *seq, const struct table *t,
		      uint32_t i, uint32_t full)
{
	if (t->refused[i])
		return false;
	if (!seq->sp->lag)
		return true;
	if (i + 1 == full)
		return false;
	/* Followers may want it: publish it first. */
	return i < seq->nr_settled || seq->no_publish || seq->poisoned ||
	       seq->stale;
}

static void open_drop(struct kvd_seq *seq, struct table *t, uint32_t i)
{
	retire(seq->sp, &(struct retire){ .holds = &t->opens[i], .nr = 1,
					  .idle = seq->closing },
	       seq->stream);
	t->opens[i] = NULL;
}

void seal_trim(struct kvd_seq *seq)
{
	uint32_t full = seq->nr_tokens / space_page_tokens(seq->sp);

	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		struct table *t = &seq->tables[g];
		bool all = true;

		if (!seals(seq->sp, g))
			continue;
		for (uint32_t i = t->open_from; i < full && i < t->nr; i++) {
			if (t->opens[i] && !open_done(seq, t, i, full))
				all = false;
			else if (t->opens[i])
				open_drop(seq, t, i);
			if (all)
				t->open_from = i + 1;
		}
	}
}

bool seal_only(const struct kvd_seq *seq, uint32_t group, uint32_t i)
{
	const struct hold *h = seq->tables[group].holds[i];

	if (!h || seq->tables[group].opens[i])
		return false;
	return h->page_class == seq->sp->demoted_class[group] ||
	       (space_seals(seq->sp, group, i) && h->page_class != group);
}

bool seal_lag_lost(const struct kvd_seq *seq)
{
	uint32_t full = seq->nr_tokens / space_page_tokens(seq->sp);

	for (uint32_t g = 0; seq->sp->lag && full &&
			     g < space_nr_groups(seq->sp); g++)
		if (seal_only(seq, g, full - 1))
			return true;
	return false;
}
