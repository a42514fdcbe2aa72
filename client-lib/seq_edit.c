// SPDX-License-Identifier: Apache-2.0
/*
 * seq_edit.c - truncate and fork.
 *
 * Both end with a last page that is partly filled and that appends will write
 * to. Where that page is sealed, or someone else uses it, it is replaced by a
 * copy. All pages for copies are taken before anything changes.
 */
#include <errno.h>
#include <string.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
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

/*
 * Copies of the page that position @n is in, for each group where @n cuts it
 * and @always or the sequence cannot write to it; NULL for the others.
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
		const struct hold *h = seq->tables[g].holds[block];

		if (!always && hold_writable(h))
			continue;
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

void seq_forget(struct kvd_seq *seq, uint32_t n)
{
	const struct kvd_geometry *geo = &seq->sp->opts.geometry;
	uint32_t clean = seq->poisoned ? seq->poison_block : seq->nr_settled;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++)
			if (seq->tables[g].stored[l] > n)
				seq->tables[g].stored[l] = n;
	if (n <= clean * geo->page_tokens && flag_renew(seq))
		seq->poisoned = false;
	if (seq->nr_settled > n / geo->page_tokens)
		seq->nr_settled = n / geo->page_tokens;
}

int kvd_truncate(struct kvd_seq *seq, size_t tokens, kvd_stream stream)
{
	struct kvd_space *sp = seq->sp;
	struct hold *copies[KVD_MAX_GROUPS];
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
	seq->stream = stream;
	if (sp->opts.read_only) {
		seq->nr_tokens = n;
		return 0;
	}
	r = copies_make(seq, n, false, stream, copies);
	if (r)
		return r;
	seq_unwait(seq);
	for (uint32_t g = 0; g < space_nr_groups(sp); g++) {
		struct table *t = &seq->tables[g];
		uint32_t last = n / space_page_tokens(sp);

		table_cut(seq, t, blocks_of(sp, n));
		if (!copies[g])
			continue;
		retire(sp, &(struct retire){ .holds = &t->holds[last],
					     .nr = 1 }, stream);
		table_set(t, last, copies[g]);
	}
	seq->nr_tokens = n;
	seq_forget(seq, n);
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
		struct hold *h = from->holds[t->nr];

		if (t->nr == nr - 1 && copy)
			h = copy;
		else if (h)
			hold_get(h);
		table_set(t, t->nr, h);
	}
	t->nr_gone = from->nr_gone;
	for (uint32_t l = 0; l < src->sp->opts.geometry.groups[g].nr_layers;
	     l++)
		t->stored[l] = src->nr_tokens;
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
	o.no_publish = src->no_publish;
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
