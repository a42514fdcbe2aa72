// SPDX-License-Identifier: Apache-2.0
/* seq.c - sequences: making, freeing, pages for more tokens. */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/flight.h"
#include "client-lib/seq.h"
#include "client-lib/stock.h"

static void seq_destroy(struct kvd_seq *seq)
{
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		free(seq->tables[g].refs);
		free(seq->tables[g].holds);
		free(seq->tables[g].opens);
		free(seq->tables[g].refused);
		free(seq->tables[g].stored);
		free(seq->tables[g].sealed);
	}
	free(seq->tokens);
	free(seq->names);
	free(seq);
}

static struct kvd_seq *seq_alloc(struct kvd_space *sp)
{
	struct kvd_seq *seq = calloc(1, sizeof(*seq));

	if (!seq)
		return NULL;
	seq->sp = sp;
	seq->flag = flag_new();
	seq->private_block = UINT32_MAX;
	for (uint32_t g = 0; g < space_nr_groups(sp); g++) {
		uint32_t layers = sp->opts.geometry.groups[g].nr_layers;
		struct table *t = &seq->tables[g];

		t->stored = calloc(layers, sizeof(*t->stored));
		t->sealed = calloc(layers, sizeof(*t->sealed));
		if (!t->stored || !t->sealed)
			goto err;
	}
	if (seq->flag)
		return seq;
err:
	flag_put(seq->flag);
	seq_destroy(seq);
	return NULL;
}

int kvd_seq_new(struct kvd_space *sp, const struct kvd_seq_opts *opts,
		struct kvd_seq **ret)
{
	const size_t first = offsetof(struct kvd_seq_opts, priority);
	struct kvd_seq_opts o = { .size = sizeof(o) };
	struct kvd_seq *seq;
	int r = 0;

	if (opts)
		r = fail_size_since(sp->k, opts, first, sizeof(*opts));
	if (r)
		return r;
	if (opts)
		memcpy(&o, opts, opts->size < sizeof(o) ? first : sizeof(o));
	if (o.priority > KVD_PRIORITY_HIGH || o.reserved)
		return fail(sp->k, -EINVAL, "there is no priority %u, or "
			    "reserved is not 0", o.priority);
	seq = seq_alloc(sp);
	if (!seq)
		return fail(sp->k, -ENOMEM, "out of memory");
	seq->priority = o.priority;
	seq->no_publish = o.no_publish;
	seq->no_partial = o.no_partial;
	seq->partial_inexact = o.partial_inexact;
	seq->match_stream = o.stream;
	memcpy(seq->extra.b, o.extra, NAME_BYTES);
	LIST_INSERT_HEAD(&sp->seqs, seq, link);
	*ret = seq;
	return 0;
}

/* Gives back all it has. */
static void seq_end(struct kvd_seq *seq)
{
	seq_unwait(seq);
	flight_end(seq);
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++)
		table_cut(seq, &seq->tables[g], 0);
	retire(seq->sp, &(struct retire){ .flag = seq->flag,
					  .idle = seq->closing },
	       seq->stream);
	LIST_REMOVE(seq, link);
	seq_destroy(seq);
}

/* Are there full blocks that wait for the device, or for a daemon, to be
 * published? */
static bool seq_owes(const struct kvd_seq *seq)
{
	return !seq->stale && !seq->no_publish &&
	       seq->nr_tokens / space_page_tokens(seq->sp) > seq->nr_settled;
}

/* Puts its end off until all its work is done. false: it cannot be. */
static bool seq_park(struct kvd_seq *seq)
{
	struct kvd_space *sp = seq->sp;

	seq_unwait(seq);
	if (sp->device->ops->event_record(sp->device, seq->stream,
					  &seq->event))
		return false;
	seq->waiting = true;
	seq->event_tokens = seq->nr_tokens;
	seq->closing = true;
	LIST_REMOVE(seq, link);
	LIST_INSERT_HEAD(&sp->closing, seq, link);
	return true;
}

void seqs_close(struct kvd_space *sp, bool wait)
{
	struct kvd_seq *seq, *next;

	for (seq = LIST_FIRST(&sp->closing); seq; seq = next) {
		int r;

		next = LIST_NEXT(seq, link);
		if (wait && seq->waiting)
			sp->device->ops->event_wait(sp->device, seq->event);
		r = seq_settle(seq);
		if (wait || (!seq->waiting && r != -ENOTCONN))
			seq_end(seq);
	}
}

void kvd_seq_free(struct kvd_seq *seq)
{
	struct kvd_space *sp;

	if (!seq)
		return;
	sp = seq->sp;
	fixed_leave(seq);
	match_wait_end(seq);
	if (!seq_owes(seq) || !seq_park(seq))
		seq_end(seq);
	hold_flush(sp->k);
}

size_t kvd_seq_tokens(const struct kvd_seq *seq)
{
	return seq->nr_tokens;
}

/* Is block @i read in a demoted page, in some group? */
static bool block_is_demoted(const struct kvd_seq *seq, uint32_t i)
{
	const struct kvd_space *sp = seq->sp;

	for (uint32_t g = 0; g < space_nr_groups(sp); g++) {
		const struct hold *h = i < seq->tables[g].nr ?
					       seq->tables[g].holds[i] : NULL;

		if (h && h->page_class == sp->demoted_class[g])
			return true;
	}
	return false;
}

static void info_add(struct kvd_seq_info *info, uint32_t group,
		     const struct hold *h)
{
	uint64_t bytes = h ? h->space->layouts[h->page_class].page_bytes : 0;

	if (h && space_has_two(h->space, group) && h->page_class == group)
		info->open_bytes += bytes;
	else
		info->sealed_bytes += bytes;
}

int kvd_seq_info(const struct kvd_seq *seq, struct kvd_seq_info *info)
{
	struct kvd_space *sp = seq->sp;
	int r = fail_size(sp->k, info, sizeof(*info));

	if (r)
		return r;
	*info = (struct kvd_seq_info){ .size = info->size,
				       .inexact_lag = seq->inexact_lag,
				       .nr_tokens = seq->nr_tokens,
				       .copied_tokens = seq->nr_copied,
				       .requantized = seq->private_block !=
						      UINT32_MAX };
	for (uint32_t g = 0; g < space_nr_groups(sp); g++) {
		const struct table *t = &seq->tables[g];

		for (uint32_t i = t->nr_gone; i < t->nr; i++) {
			info_add(info, g, t->holds[i]);
			info_add(info, g, t->opens[i]);
		}
	}
	for (uint32_t i = 0; i < blocks_of(sp, seq->nr_tokens); i++)
		if (block_is_demoted(seq, i))
			info->demoted_tokens += space_page_tokens(sp);
	return 0;
}

int seq_usable(struct kvd_seq *seq)
{
	if (seq->stale)
		return fail(seq->sp->k, -ESTALE, "pages of the sequence were "
			    "lost with the daemon: free it, start again");
	return 0;
}

void seq_check_stale(struct kvd_seq *seq)
{
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		const struct table *t = &seq->tables[g];

		for (uint32_t i = t->nr_gone; i < t->nr; i++)
			if ((t->holds[i] && t->holds[i]->stale) ||
			    (t->opens[i] && t->opens[i]->stale))
				seq->stale = true;
	}
}

void seq_unwait(struct kvd_seq *seq)
{
	struct device *d = seq->sp->device;

	if (seq->waiting)
		d->ops->event_free(d, seq->event);
	seq->waiting = false;
	seq->event = NULL;
}

int seq_room(struct kvd_seq *seq, uint32_t tokens)
{
	uint32_t need = blocks_of(seq->sp, tokens), blocks;
	struct name *names;
	uint32_t *p;

	if (need <= seq->room_blocks)
		return 0;
	blocks = need + need / 2 + 8;
	p = realloc(seq->tokens, (size_t)blocks * space_page_tokens(seq->sp) *
					 sizeof(*p));
	if (!p)
		return -ENOMEM;
	seq->tokens = p;
	names = realloc(seq->names, blocks * sizeof(*names));
	if (!names)
		return -ENOMEM;
	seq->names = names;
	seq->room_blocks = blocks;
	return 0;
}

void seq_vouch(struct kvd_seq *seq, uint32_t group, uint32_t end, bool sealed)
{
	struct table *t = &seq->tables[group];
	uint32_t p = space_page_tokens(seq->sp);

	for (uint32_t l = 0;
	     l < seq->sp->opts.geometry.groups[group].nr_layers; l++) {
		t->stored[l] = end;
		if (sealed)
			t->sealed[l] = end / p * p;
	}
}

/* As space_layouts() has them. */
static uint32_t page_ref_layout(uint32_t group, const struct hold *h)
{
	if (h->page_class == group)
		return 0;
	return h->page_class == h->space->demoted_class[group] ? 2 : 1;
}

struct kv_page_ref page_ref(uint32_t group, const struct hold *h)
{
	if (!h)
		return (struct kv_page_ref){ .segment = KV_NO_SEGMENT };
	return (struct kv_page_ref){ .offset = h->offset,
				     .segment = h->segment,
				     .layout = page_ref_layout(group, h) };
}

void table_set(struct kvd_seq *seq, uint32_t group, uint32_t i,
	       struct hold *h)
{
	struct table *t = &seq->tables[group];

	t->holds[i] = h;
	t->refs[i] = page_ref(group, h);
}

int table_room(struct table *t, uint32_t nr)
{
	uint32_t room = nr + nr / 2 + 8;
	struct kv_page_ref *refs;
	struct hold **holds;
	struct flag **refused;

	if (nr <= t->room)
		return 0;
	refs = realloc(t->refs, room * sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	t->refs = refs;
	holds = realloc(t->holds, room * sizeof(struct hold *));
	if (!holds)
		return -ENOMEM;
	t->holds = holds;
	holds = realloc(t->opens, room * sizeof(struct hold *));
	if (!holds)
		return -ENOMEM;
	t->opens = holds;
	refused = realloc(t->refused, room * sizeof(struct flag *));
	if (!refused)
		return -ENOMEM;
	t->refused = refused;
	t->room = room;
	return 0;
}

void table_cut(struct kvd_seq *seq, struct table *t, uint32_t nr)
{
	if (nr >= t->nr)
		return;
	retire(seq->sp, &(struct retire){ .holds = t->holds + nr,
					  .nr = t->nr - nr,
					  .idle = seq->closing },
	       seq->stream);
	if (seq->sp->whole)
		retire(seq->sp, &(struct retire){ .holds = t->opens + nr,
						  .nr = t->nr - nr,
						  .idle = seq->closing },
		       seq->stream);
	for (uint32_t i = nr; seq->sp->whole && i < t->nr; i++)
		seal_unflag(seq, t, i);
	t->nr = nr;
	if (nr < t->nr_gone)
		t->nr_gone = nr;
	if (nr < t->open_from)
		t->open_from = nr;
}

/* Is block @i, whose last token is before @tokens, yet to have its page? */
static bool block_unsealed(const struct kvd_seq *seq, uint32_t group,
			   uint32_t i)
{
	const struct table *t = &seq->tables[group];

	return space_seals(seq->sp, group, i) &&
	       (i >= t->nr || (t->opens[i] && !t->holds[i]));
}

/* What blocks up to @tokens need: pages to append to, and sealed ones. */
static void reserve_count(const struct kvd_seq *seq, uint32_t group,
			  uint32_t tokens, uint32_t nr[2])
{
	const struct kvd_space *sp = seq->sp;
	uint32_t first = seq->nr_tokens / space_page_tokens(sp);
	uint32_t full = tokens / space_page_tokens(sp);

	nr[0] = nr[1] = 0;
	for (uint32_t i = seq->tables[group].nr; i < blocks_of(sp, tokens); i++)
		nr[!space_seals(sp, group, i) &&
		   space_class(sp, group, i) != group]++;
	for (uint32_t i = first; i < full; i++)
		nr[1] += block_unsealed(seq, group, i);
}

/*
 * Has the stock what blocks up to @tokens need? What it is asked for first may
 * go while the rest is asked for, with a pool that was lost: then once more.
 */
static int reserve_want(struct kvd_seq *seq, uint32_t group, uint32_t tokens)
{
	struct kvd_space *sp = seq->sp;
	uint32_t sealed = sp->sealed_class[group], nr[2];
	int r;

	reserve_count(seq, group, tokens, nr);
	if (sp->stocks[group].nr < nr[0] || sp->stocks[sealed].nr < nr[1])
		conn_serve(sp->k);
	do {
		r = nr[0] ? stock_want(sp, group, nr[0]) : 0;
		if (!r && nr[1])
			r = stock_want(sp, sealed, nr[1]);
	} while (!r && sp->stocks[group].nr < nr[0]);
	return r;
}

/* A page of the stock, which has it. */
static struct hold *reserve_take(struct kvd_space *sp, uint32_t page_class)
{
	struct hold *h = NULL;
	int r = stock_take(sp, page_class, 1, &h);

	assert(!r);
	return h;
}

static void reserve_expect(struct kvd_space *sp, const struct hold *h)
{
	struct device_place at = { .offset = h->offset, .segment = h->segment };
	struct device *d = sp->device;

	if (d->ops->expect)
		d->ops->expect(d, at, sp->layouts[h->page_class].page_bytes);
}

/* One more block: the page that its tokens are appended to. */
static void reserve_block(struct kvd_seq *seq, uint32_t group)
{
	struct table *t = &seq->tables[group];
	uint32_t i = t->nr++;
	struct hold *h = NULL;

	t->opens[i] = NULL;
	t->refused[i] = NULL;
	if (space_seals(seq->sp, group, i))
		t->opens[i] = reserve_take(seq->sp, group);
	else
		h = reserve_take(seq->sp, space_class(seq->sp, group, i));
	table_set(seq, group, i, h);
	reserve_expect(seq->sp, table_append(t, i));
}

int seq_reserve(struct kvd_seq *seq, uint32_t group, uint32_t tokens)
{
	struct kvd_space *sp = seq->sp;
	struct table *t = &seq->tables[group];
	uint32_t i, need = blocks_of(sp, tokens);
	int r;

	r = table_room(t, need);
	if (r)
		return fail(sp->k, r, "out of memory");
	r = reserve_want(seq, group, tokens);
	if (r) {
		stock_settle(sp);
		return r;
	}
	i = seq->nr_tokens / space_page_tokens(sp);
	while (t->nr < need)
		reserve_block(seq, group);
	for (; i < tokens / space_page_tokens(sp); i++)
		if (block_unsealed(seq, group, i))
			table_set(seq, group, i,
				  reserve_take(sp, sp->sealed_class[group]));
	return seq_usable(seq);
}
