// SPDX-License-Identifier: Apache-2.0
/*
 * seq_edit.c - truncate and fork.
 *
 * Both end with a last page that is partly filled and that appends will write
 * to, and so does a match that ends inside a page. Where that page is sealed,
 * or someone else uses it, it is replaced by a copy. All pages for copies are
 * taken before anything changes.
 */
#include <errno.h>
#include <string.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/flight.h"
#include "client-lib/seq.h"
#include "client-lib/stock.h"

/*
 * A copy, made in stream order, of a page: @stream is then the last to read
 * it. *@ret is the caller's on failure too, unless it is NULL.
 */
static int page_copy(struct kvd_seq *seq, const struct hold *src,
		     kvd_stream stream, struct hold **ret)
{
	struct kvd_space *sp = seq->sp;
	struct device *d = sp->device;
	int r;

	r = stock_take(sp, src->page_class, 1, ret);
	if (r)
		return r;
	seq->stream = stream;
	r = d->ops->copy(d,
			 (struct device_place){ (*ret)->offset,
						(*ret)->segment },
			 (struct device_place){ src->offset, src->segment },
			 sp->layouts[src->page_class].page_bytes, stream);
	if (!r)
		return seq_usable(seq);
	return fail(sp->k, r, "cannot copy a page");
}

/* Takes back copies that were made for nothing. */
static void copies_drop(struct kvd_space *sp, struct hold **copies,
			kvd_stream stream)
{
	retire(sp, &(struct retire){ .holds = copies,
				     .nr = space_nr_groups(sp) }, stream);
	memset(copies, 0, KVD_MAX_GROUPS * sizeof(struct hold *));
}

/* A page to append to, with what is left of block @i: seal_only(). */
static int page_open(struct kvd_seq *seq, uint32_t group, uint32_t i,
		     kvd_stream stream, struct hold **ret)
{
	struct kvd_space *sp = seq->sp;
	uint32_t page_class = space_seals(sp, group, i) ?
				      group : space_class(sp, group, i);
	int r = stock_take(sp, page_class, 1, ret);

	if (r)
		return r;
	seq->stream = stream;
	r = seal_undo(seq, group, i, *ret, stream);
	return r ? r : seq_usable(seq);
}

/*
 * Copies of the page that position @n is in, for each group where @n cuts it
 * and @always or the sequence cannot write to it; NULL for the others. Where
 * only a page is left that nobody appends to, its values are written to one
 * for that.
 */
static int copies_make(struct kvd_seq *seq, uint32_t n, bool always,
		       kvd_stream stream, struct hold **copies)
{
	uint32_t block = n / space_page_tokens(seq->sp);
	int r;

	memset(copies, 0, KVD_MAX_GROUPS * sizeof(struct hold *));
	if (n % space_page_tokens(seq->sp) == 0)
		return 0;
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		const struct hold *h = table_append(&seq->tables[g], block);

		if (!always && hold_writable(h) && !seal_only(seq, g, block))
			continue;
		if (seal_only(seq, g, block))
			r = page_open(seq, g, block, stream, &copies[g]);
		else
			r = page_copy(seq, h, stream, &copies[g]);
		if (r) {
			copies_drop(seq->sp, copies, stream);
			return r;
		}
	}
	return 0;
}

/* Are the pages that a query at position @n sees still there? */
static int window_check(struct kvd_seq *seq, uint32_t n)
{
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++)
		if (seq_first(seq->sp, g, n) < seq->tables[g].nr_gone)
			return fail(seq->sp->k, -EINVAL, "pages that position "
				    "%u sees have left the window of group %u",
				    n, g);
	return 0;
}

/*
 * A clean flag. The old one may be a fork's too, and work under way may set
 * it yet. false: no memory, the old one stays.
 */
static bool flag_renew(struct kvd_seq *seq)
{
	struct flag *f = flag_new();

	if (!f)
		return false;
	retire(seq->sp, &(struct retire){ .flag = seq->flag }, seq->stream);
	seq->flag = f;
	return true;
}

static void table_forget(struct table *t, uint32_t layer, uint32_t n)
{
	if (t->stored[layer] > n)
		t->stored[layer] = n;
	if (t->sealed[layer] > n)
		t->sealed[layer] = n;
}

void seq_forget(struct kvd_seq *seq, uint32_t n)
{
	const struct kvd_geometry *geo = &seq->sp->opts.geometry;
	uint32_t clean = seq->poisoned ? seq->poison_block : seq->nr_settled;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++)
			table_forget(&seq->tables[g], l, n);
	if (n <= clean * geo->page_tokens && flag_renew(seq))
		seq->poisoned = false;
	if (seq->nr_settled > n / geo->page_tokens)
		seq->nr_settled = n / geo->page_tokens;
	if (n <= (uint64_t)seq->private_block * geo->page_tokens)
		seq->private_block = UINT32_MAX;
	for (uint32_t g = 0; g < geo->nr_groups; g++)
		if (seq->tables[g].open_from > n / geo->page_tokens)
			seq->tables[g].open_from = n / geo->page_tokens;
}

/* Is block @i, which would be sealed, in its open page for good? */
static bool table_bare(const struct kvd_seq *seq, uint32_t g, uint32_t i)
{
	const struct hold *h = seq->tables[g].holds[i];

	return h && h->page_class == g;
}

/*
 * Block @i, which is the last, is open again, in @copy unless that is NULL:
 * then in the page it has.
 */
static void truncate_open(struct kvd_seq *seq, uint32_t g, uint32_t i,
			  struct hold *copy)
{
	struct table *t = &seq->tables[g];
	struct hold *old[2] = { NULL };

	if (i >= t->nr)
		return;
	if (seal_only(seq, g, i) && i < seq->private_block)
		seq->private_block = i;
	if (copy && space_seals(seq->sp, g, i) &&
	    copy->page_class == g && !table_bare(seq, g, i)) {
		old[0] = t->opens[i];
		t->opens[i] = copy;
	} else if (copy) {
		old[0] = t->holds[i];
		table_set(seq, g, i, copy);
	}
	seal_unflag(seq, t, i);
	if (t->opens[i]) { /* it will be sealed again */
		old[1] = t->holds[i];
		table_set(seq, g, i, NULL);
	}
	retire(seq->sp, &(struct retire){ .holds = old, .nr = 2 },
	       seq->stream);
}

int seq_cut(struct kvd_seq *seq, uint32_t n, kvd_stream stream)
{
	struct kvd_space *sp = seq->sp;
	struct hold *copies[KVD_MAX_GROUPS];
	int r;

	seq->stream = stream;
	r = copies_make(seq, n, false, stream, copies);
	if (r)
		return r;
	seq_unwait(seq);
	seq_forget(seq, n);
	for (uint32_t g = 0; g < space_nr_groups(sp); g++) {
		table_cut(seq, &seq->tables[g], blocks_of(sp, n));
		truncate_open(seq, g, n / space_page_tokens(sp), copies[g]);
	}
	seq->nr_tokens = n;
	seq->inexact_lag = seal_lag_lost(seq);
	return 0;
}

int kvd_truncate(struct kvd_seq *seq, size_t tokens, kvd_stream stream)
{
	struct kvd_space *sp = seq->sp;
	uint32_t n = (uint32_t)tokens;
	int r;

	r = seq_usable(seq);
	if (r)
		return r;
	if (tokens > seq->nr_tokens)
		return fail(sp->k, -EINVAL, "the sequence has %u tokens",
			    seq->nr_tokens);
	r = window_check(seq, n);
	if (r)
		return r;
	fixed_leave(seq);
	if (n < seq->nr_tokens)
		flight_end(seq);
	if (!sp->opts.read_only)
		return seq_cut(seq, n, stream);
	seq->stream = stream;
	seq->nr_tokens = n;
	return 0;
}

/* Shares the committed pages of one group; the cut one is @copy. */
static int fork_table(struct kvd_seq *src, struct kvd_seq *seq, uint32_t g,
		      struct hold *copy)
{
	const struct table *from = &src->tables[g];
	struct table *t = &seq->tables[g];
	uint32_t nr = blocks_of(src->sp, src->nr_tokens);

	if (table_room(t, nr))
		return -ENOMEM;
	for (t->nr = 0; t->nr < nr; t->nr++) {
		uint32_t i = t->nr;
		bool open = from->opens[i] != NULL;
		struct hold *h = from->holds[i], *o = from->opens[i];

		if (i == nr - 1 && copy) {
			h = open ? NULL : copy;
			o = open ? copy : NULL;
		} else {
			h = h ? hold_get(h) : NULL;
			o = o ? hold_get(o) : NULL;
		}
		table_set(seq, g, i, h);
		t->opens[i] = o;
		t->refused[i] = from->refused[i];
		if (t->refused[i])
			t->refused[i]->refs++;
	}
	t->nr_gone = from->nr_gone;
	t->open_from = from->open_from;
	for (uint32_t l = 0; l < src->sp->opts.geometry.groups[g].nr_layers;
	     l++)
		t->stored[l] = t->sealed[l] = src->nr_tokens;
	return 0;
}

/*
 * A NaN in work still under way is the child's too, so both then look at one
 * flag; else the child has its own.
 */
static void fork_flag(struct kvd_seq *src, struct kvd_seq *seq,
		      kvd_stream stream)
{
	struct device *d = src->sp->device;
	struct device_event *e = NULL;
	bool under_way = d->ops->event_record(d, stream, &e) || e;

	if (under_way) {
		flag_put(seq->flag);
		seq->flag = src->flag;
		seq->flag->refs++;
	} else {
		seq->flag->word = src->flag->word;
	}
	d->ops->event_free(d, e);
}

static int fork_fill(struct kvd_seq *src, struct kvd_seq *seq,
		     struct hold **copies)
{
	uint32_t nr = src->nr_tokens, settled = nr / space_page_tokens(src->sp);
	int r;

	/* In a read-only space truncate leaves more settled than there is. */
	if (settled > src->nr_settled)
		settled = src->nr_settled;
	r = seq_room(seq, nr);
	for (uint32_t g = 0; !r && g < space_nr_groups(src->sp); g++) {
		r = fork_table(src, seq, g, copies[g]);
		if (!r)
			copies[g] = NULL;
	}
	if (r)
		return fail(src->sp->k, r, "out of memory");
	if (nr)
		memcpy(seq->tokens, src->tokens, nr * sizeof(*src->tokens));
	if (settled)
		memcpy(seq->names, src->names, settled * sizeof(*src->names));
	seq->nr_tokens = nr;
	seq->nr_settled = settled;
	seq->poisoned = src->poisoned;
	seq->poison_block = src->poison_block;
	seq->private_block = src->private_block;
	seq->inexact_lag = src->inexact_lag;
	return 0;
}

int kvd_fork(struct kvd_seq *src, kvd_stream stream, struct kvd_seq **ret)
{
	struct kvd_space *sp = src->sp;
	struct kvd_seq_opts o = { .size = sizeof(o) };
	struct hold *copies[KVD_MAX_GROUPS] = { NULL };
	struct kvd_seq *seq;
	int r;

	r = seq_usable(src);
	if (r)
		return r;
	o.priority = src->priority;
	o.no_publish = src->no_publish;
	o.no_partial = src->no_partial;
	o.partial_inexact = src->partial_inexact;
	o.stream = src->match_stream;
	memcpy(o.extra, src->extra.b, NAME_BYTES);
	r = kvd_seq_new(sp, &o, &seq);
	if (r)
		return r;
	seq->stream = stream;
	if (!sp->opts.read_only)
		r = copies_make(src, src->nr_tokens, true, stream, copies);
	if (!r)
		r = fork_fill(src, seq, copies);
	if (r) {
		copies_drop(sp, copies, stream);
		kvd_seq_free(seq);
		return r;
	}
	fork_flag(src, seq, stream);
	*ret = seq;
	return 0;
}
