// SPDX-License-Identifier: Apache-2.0
/*
 * settle.c - what commit leaves to be done once the device has caught up:
 * full blocks are published, pages that left a window go back.
 *
 * A mark is put in the stream when there is something to do and acted upon
 * when it is seen done; a later one is made only then, so that a caller who
 * keeps the stream full still sees progress. On host devices every mark is
 * done at once.
 */
#include <errno.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/flight.h"
#include "client-lib/request.h"
#include "client-lib/seq.h"

static const struct name root; /* parent of every first block */

/* Blocks of the group's table that may go, of @settled ones. */
static uint32_t window_gone(const struct kvd_seq *seq, uint32_t group,
			    uint32_t tokens)
{
	uint32_t first = seq_first(seq->sp, group, tokens);

	return first < seq->nr_settled ? first : seq->nr_settled;
}

static void window_drop(struct kvd_seq *seq, uint32_t tokens)
{
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		struct table *t = &seq->tables[g];
		uint32_t gone = window_gone(seq, g, tokens);

		while (t->nr_gone < gone) {
			hold_put(t->holds[t->nr_gone]);
			hold_put(t->opens[t->nr_gone]);
			t->opens[t->nr_gone] = NULL;
			table_set(seq, g, t->nr_gone++, NULL);
		}
	}
}

static bool settle_due(const struct kvd_seq *seq)
{
	if (seq->nr_tokens / space_page_tokens(seq->sp) > seq->nr_settled)
		return true;
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++)
		if (seq->tables[g].nr_gone <
		    window_gone(seq, g, seq->nr_tokens))
			return true;
	return false;
}

static void names_make(struct kvd_seq *seq, uint32_t first, uint32_t nr)
{
	uint32_t p = space_page_tokens(seq->sp);

	for (uint32_t i = first; i < first + nr; i++)
		seq->names[i] = name_block(&seq->sp->key,
					   i ? &seq->names[i - 1] : &root,
					   &seq->extra, seq->tokens + i * p,
					   p);
}

/* Tells the daemon of pages that were refused, now: it may be the last. */
static void report_nonfinite(struct kvd_space *sp)
{
	struct publish p = { .nonfinite = sp->nonfinite_due };

	if (sp->k->fd >= 0 && !request_publish(sp, &p))
		sp->nonfinite_due = 0;
}

static void refuse(struct kvd_seq *seq, uint32_t upto)
{
	struct kvd_space *sp = seq->sp;

	if (!seq->poisoned)
		seq->poison_block = seq->nr_settled;
	seq->poisoned = true;
	flight_end(seq);
	sp->nonfinite_due += (upto - seq->nr_settled) * space_nr_groups(sp);
	names_make(seq, seq->nr_settled, upto - seq->nr_settled);
	seq->nr_settled = upto;
	report_nonfinite(sp);
}

/* Where block @i has its page of class @c; NULL: it has none. */
static struct hold **block_page(struct kvd_seq *seq, uint32_t i, uint32_t c)
{
	struct kvd_space *sp = seq->sp;
	uint32_t g = geometry_class_group(&sp->opts.geometry, c);
	struct table *t = &seq->tables[g];

	if (t->holds[i] && t->holds[i]->page_class == c)
		return &t->holds[i];
	if (c == g && t->opens[i])
		return &t->opens[i];
	return NULL;
}

/*
 * The name has another page already: go on with that, and give up our own.
 * Where it cannot be mapped, ours stays; the bytes are the same.
 */
static struct hold *keep(struct kvd_seq *seq, uint32_t i, uint32_t c,
			 handle_t handle, place_t place)
{
	struct kvd_space *sp = seq->sp;
	uint32_t g = geometry_class_group(&sp->opts.geometry, c);
	struct hold **at = block_page(seq, i, c);
	struct hold *own = *at, *kept = hold_find_as(sp, handle, c);

	if (kept) {
		hold_get(kept);
		hold_drop(sp->k, handle);
	} else if (hold_new(sp, handle, place, c, &kept)) {
		hold_drop(sp->k, handle);
		return NULL;
	}
	kept->sealed = true;
	if (at == &seq->tables[g].holds[i])
		table_set(seq, g, i, kept);
	else
		*at = kept;
	return own;
}

/* Blocks [nr_settled, +nr) are sealed; @p says which pages to go on with. */
static void publish_done(struct kvd_seq *seq, const struct publish *p)
{
	uint32_t nr_classes = seq->sp->nr_classes, nr = 0;
	struct hold *given_up[PUBLISH_MAX_BLOCKS * PAGE_MAX_CLASSES];

	for (uint32_t i = 0; i < p->nr_blocks * nr_classes; i++) {
		uint32_t block = seq->nr_settled + i / nr_classes;
		struct hold **own = block_page(seq, block, i % nr_classes);

		if (!own || !p->handles[i])
			continue;
		(*own)->sealed = true;
		if (p->handles[i] != (*own)->handle)
			given_up[nr++] = keep(seq, block, i % nr_classes,
					      p->handles[i], p->places[i]);
	}
	retire(seq->sp, &(struct retire){ .holds = given_up, .nr = nr,
					  .idle = seq->closing },
	       seq->stream);
}

/* What block @i is published with: its pages, and exact copies unless private. */
static void publish_pages(struct kvd_seq *seq, uint32_t i, bool private,
			  handle_t *handles)
{
	for (uint32_t c = 0; c < seq->sp->nr_classes; c++) {
		struct hold **own = block_page(seq, i, c);
		uint32_t g = geometry_class_group(&seq->sp->opts.geometry, c);
		bool copy = own == &seq->tables[g].opens[i];

		handles[c] = own && !(copy && (private || !seq->sp->lag)) ?
				     (*own)->handle : 0;
	}
}

/* The next @nr blocks in one request; @private: sealed, and no more. */
static int publish_some(struct kvd_seq *seq, uint32_t nr, bool private)
{
	struct kvd_space *sp = seq->sp;
	struct publish_block blocks[PUBLISH_MAX_BLOCKS];
	handle_t handles[PUBLISH_MAX_BLOCKS * PAGE_MAX_CLASSES];
	place_t places[PUBLISH_MAX_BLOCKS * PAGE_MAX_CLASSES];
	uint32_t first = seq->nr_settled;
	struct publish p = {
		.private = private,
		.priority = seq->priority,
		.nonfinite = sp->nonfinite_due,
		.flight = seq->flight,
		.nr_blocks = nr,
		.blocks = blocks,
		.handles = handles,
		.places = places,
	};
	int r;

	names_make(seq, first, nr);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t b = first + i;

		blocks[i] = (struct publish_block){
			.parent = b ? &seq->names[b - 1] : &root,
			.extra = &seq->extra,
			.tokens = seq->tokens + b * space_page_tokens(sp),
			.depth = b,
		};
		publish_pages(seq, b, private, handles + i * sp->nr_classes);
	}
	r = request_publish(sp, &p);
	if (r)
		return r;
	sp->nonfinite_due = 0;
	publish_done(seq, &p);
	seq->nr_settled += nr;
	flight_settled(seq, private);
	return 0;
}

/*
 * Blocks [nr_settled, +nr) may have been sealed, though the daemon refused
 * the request or the reply was lost: they are never written again.
 */
static void maybe_sealed(struct kvd_seq *seq, uint32_t nr)
{
	for (uint32_t c = 0; c < seq->sp->nr_classes; c++)
		for (uint32_t i = 0; i < nr; i++) {
			struct hold **h =
				block_page(seq, seq->nr_settled + i, c);

			if (h)
				(*h)->sealed = true;
		}
}

/* How many of the next blocks, up to @upto, go together; are they private? */
static uint32_t publish_span(const struct kvd_seq *seq, uint32_t upto,
			     bool *ret_private)
{
	uint32_t nr = upto - seq->nr_settled;

	*ret_private = seq->no_publish ||
		       seq->nr_settled >= seq->private_block;
	if (!*ret_private && upto > seq->private_block)
		nr = seq->private_block - seq->nr_settled;
	return nr < PUBLISH_MAX_BLOCKS ? nr : PUBLISH_MAX_BLOCKS;
}

static int publish(struct kvd_seq *seq, uint32_t upto)
{
	struct kvd *k = seq->sp->k;
	int r;

	if (upto > seq->nr_settled && seq->flag->word)
		refuse(seq, upto);
	while (seq->nr_settled < upto) {
		bool private;
		uint32_t nr = publish_span(seq, upto, &private);

		r = conn_ready(k, 0);
		if (r)
			return -ENOTCONN;
		r = seq_usable(seq);
		if (!r)
			r = publish_some(seq, nr, private);
		if (!r)
			continue;
		maybe_sealed(seq, nr);
		if (k->fd < 0)
			return -ENOTCONN;
		flight_end(seq);
		seq->stale |= r == -ESTALE;
		if (seq->stale)
			return r;
		seq->nr_settled += nr;
		if (r != -ENOSPC) /* the index is full: good without it */
			return r;
	}
	return 0;
}

int seq_settle(struct kvd_seq *seq)
{
	struct device *d = seq->sp->device;
	int r = 0;

	while (!r && (seq->waiting || (!seq->stale && settle_due(seq)))) {
		if (!seq->waiting) {
			r = d->ops->event_record(d, seq->stream, &seq->event);
			if (r)
				break;
			seq->waiting = true;
			seq->event_tokens = seq->nr_tokens;
		}
		r = d->ops->event_done(d, seq->event);
		if (!r)
			return 0;
		seq_unwait(seq);
		fixed_flags(seq->sp);
		seal_settle(seq, seq->event_tokens);
		if (r > 0)
			r = publish(seq, seq->event_tokens /
					 space_page_tokens(seq->sp));
		window_drop(seq, seq->event_tokens);
		seal_trim(seq);
	}
	return r;
}
