// SPDX-License-Identifier: Apache-2.0
/*
 * seq_match.c - start a sequence with the longest known prefix.
 *
 * The index is walked here, in mapped memory; what it says is a hint. Then
 * the daemon is asked for holds on exactly the pages needed. It grants from
 * the front; if some page has meanwhile been reclaimed, what was granted is
 * given back and a shorter prefix tried.
 *
 * After the whole blocks comes the tail: tokens that a block after the last
 * one begins with. Its pages are held as the others' are, and then cut, which
 * makes copies of them. Where that fails the match ends before the tail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/request.h"
#include "client-lib/seq.h"

#define MAX_TRIES 8
#define TAIL_ALONE 8 /* one in so many tokens of a page, or no tail alone */

static const struct name root; /* parent of every first block */

struct match {
	struct kvd_seq *seq;
	const uint32_t *tokens;
	uint32_t nr_tokens;
	handle_t *pages;	/* [nr_max + 1][nr_classes] */
	uint32_t nr_max;	/* blocks asked for */
	uint32_t nr_found;
	uint32_t nr;		/* of which are being tried, */
	uint32_t tail;		/* and tokens of the block after them */
	bool no_tail;
};

/*
 * Block @i, which comes after block number @at of the index. The name is
 * computed only where it takes one to find the block.
 */
static uint32_t match_block(struct match *m, uint32_t i, uint32_t at,
			    struct index_key *key)
{
	struct kvd_space *sp = m->seq->sp;
	struct name *name = &m->seq->names[i];
	handle_t *pages = m->pages + (size_t)i * sp->nr_classes;
	uint32_t nr = index_follow(&sp->index, at, key, name, pages);

	if (nr)
		return nr;
	*name = name_block(&sp->key, key->parent, key->extra, key->tokens,
			   space_page_tokens(sp));
	key->name = name;
	return index_find(&sp->index, key, pages);
}

/* Follows the chain of blocks through the index as far as it goes. */
static void match_walk(struct match *m)
{
	struct kvd_seq *seq = m->seq;
	uint32_t p = space_page_tokens(seq->sp), at = 0;

	for (m->nr_found = 0; m->nr_found < m->nr_max; m->nr_found++) {
		uint32_t i = m->nr_found;
		struct index_key key = {
			.parent = i ? &seq->names[i - 1] : &root,
			.extra = &seq->extra,
			.tokens = m->tokens + (size_t)i * p,
		};

		at = match_block(m, i, at, &key);
		if (!at)
			break;
	}
}

/* The page in which block @i of a group is read; 0: there is none. */
static handle_t match_page(const struct match *m, uint32_t i, uint32_t group)
{
	struct kvd_space *sp = m->seq->sp;

	return m->pages[(size_t)i * sp->nr_classes +
			space_class(sp, group, i)];
}

/*
 * The most blocks, up to @bound, with every page that the next query sees. A
 * page missing at block b bounds all: fewer blocks see no less of what is
 * before them.
 */
static uint32_t match_longest(const struct match *m, uint32_t bound)
{
	struct kvd_space *sp = m->seq->sp;
	uint32_t nr_groups = space_nr_groups(sp);
	bool again = true;

	while (bound && again) {
		uint32_t tokens = bound * space_page_tokens(sp);

		again = false;
		for (uint32_t g = 0; g < nr_groups && !again; g++) {
			uint32_t i = bound, first = seq_first(sp, g, tokens);

			while (i > first && match_page(m, i - 1, g))
				i--;
			if (i > first) {
				bound = i - 1;
				again = true;
			}
		}
	}
	return bound;
}

/* Is page (block, group) needed by the whole blocks, or as the tail? */
static bool match_needs(const struct match *m, uint32_t block, uint32_t group)
{
	struct kvd_space *sp = m->seq->sp;

	return block >= seq_first(sp, group, m->nr * space_page_tokens(sp));
}

/*
 * The class of the page in which block @i's tokens are found to be copied.
 * Where the block is sealed whole, @exact asks for its rows as they were
 * appended.
 */
static uint32_t tail_class(const struct kvd_space *sp, uint32_t i,
			   uint32_t group, bool exact)
{
	return exact && space_seals(sp, group, i) ? group :
						    space_class(sp, group, i);
}

static uint32_t tail_find(struct match *m, bool exact)
{
	struct kvd_seq *seq = m->seq;
	struct kvd_space *sp = seq->sp;
	uint32_t p = space_page_tokens(sp), from = m->nr * p, found;
	struct index_run run = {
		.parent = m->nr ? &seq->names[m->nr - 1] : &root,
		.extra = &seq->extra,
		.tokens = from ? m->tokens + from : m->tokens,
		.nr_tokens = m->nr_tokens - from,
	};

	if (!run.nr_tokens)
		return 0;
	if (run.nr_tokens > p - 1) /* alike to its end it is no tail */
		run.nr_tokens = p - 1;
	for (uint32_t g = 0; g < space_nr_groups(sp); g++)
		run.classes |= 1u << tail_class(sp, m->nr, g, exact);
	found = index_find_run(&sp->index, &run,
			       m->pages + (size_t)m->nr * sp->nr_classes);
	/* All prompts may begin with the same token: that is a miss yet. */
	return m->nr || found >= p / TAIL_ALONE ? found : 0;
}

/* Tries the first @nr blocks, and what goes on after them. */
static void match_aim(struct match *m, uint32_t nr)
{
	m->nr = nr;
	m->tail = m->no_tail ? 0 : tail_find(m, true);
	if (!m->tail && !m->no_tail && m->seq->partial_inexact)
		m->tail = tail_find(m, false);
}

/* Blocks that pages are held of, the tail's included. */
static uint32_t match_blocks(const struct match *m)
{
	return m->nr + (m->tail != 0);
}

/* Are the tail's rows in a page that is exact, where that is not its last? */
static bool tail_open(const struct match *m, uint32_t block, uint32_t group)
{
	struct kvd_space *sp = m->seq->sp;

	return block == m->nr && space_seals(sp, group, block) &&
	       m->pages[(size_t)block * sp->nr_classes + group];
}

/* Of which class is the page of a block that is asked for? */
static uint32_t match_class(const struct match *m, uint32_t block,
			    uint32_t group)
{
	return tail_open(m, block, group) ?
		       group : space_class(m->seq->sp, group, block);
}

/* Block @block of a group is in @h now. */
static void match_put(struct match *m, uint32_t block, uint32_t group,
		      struct hold *h)
{
	bool open = tail_open(m, block, group);

	m->seq->tables[group].opens[block] = open ? h : NULL;
	table_set(m->seq, group, block, open ? NULL : h);
}

/* What is asked of the daemon, and where it goes. */
struct ask {
	handle_t handles[WIRE_MAX_PAGES];
	place_t places[WIRE_MAX_PAGES];
	uint32_t nr;		/* entries; a handle of 0 is not asked for */
	uint32_t nr_needed;	/* of these, from the front: copies of the
				 * newest whole block follow */
	uint32_t count;		/* that are not 0 */
	uint32_t first;		/* block of the first entries */
};

/* Entry for @handle, unless it is held here already: then a use of that. */
static struct hold *ask_add(struct match *m, struct ask *a, handle_t handle)
{
	struct hold *h = handle ? hold_find(m->seq->sp->k, handle) : NULL;

	a->handles[a->nr++] = h ? 0 : handle;
	a->count += handle && !h;
	if (!h)
		return NULL;
	h->sealed = true;
	return hold_get(h);
}

/*
 * Blocks [first, first + nr) of those needed: uses of pages held here already
 * are taken, the others are to be asked for.
 */
static void match_local(struct match *m, uint32_t nr, struct ask *a)
{
	struct kvd_seq *seq = m->seq;
	struct kvd_space *sp = seq->sp;
	uint32_t nr_groups = space_nr_groups(sp);

	a->nr = a->count = 0;
	for (uint32_t i = 0; i < nr * nr_groups; i++) {
		uint32_t block = a->first + i / nr_groups, g = i % nr_groups;
		handle_t h = m->pages[(size_t)block * sp->nr_classes +
				      match_class(m, block, g)];

		seq->tables[g].refused[block] = NULL;
		match_put(m, block, g,
			  ask_add(m, a, match_needs(m, block, g) ? h : 0));
		seq->tables[g].nr = block + 1;
	}
	a->nr_needed = a->nr;
}

/*
 * With a lag the next token sees the exact copy of the last whole block, if
 * there is any.
 */
static void match_copies(struct match *m, struct ask *a)
{
	struct kvd_space *sp = m->seq->sp;
	uint32_t last = m->nr - 1;

	for (uint32_t g = 0; sp->lag && m->nr && g < space_nr_groups(sp); g++) {
		handle_t h = space_seals(sp, g, last) ?
				     m->pages[(size_t)last * sp->nr_classes +
					      g] : 0;

		m->seq->tables[g].opens[last] = ask_add(m, a, h);
	}
}

/* Puts the page of entry @i where it belongs. */
static void ask_put(struct match *m, const struct ask *a, uint32_t i,
		    struct hold *h)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);

	h->sealed = true;
	if (i < a->nr_needed)
		match_put(m, a->first + i / nr_groups, i % nr_groups, h);
	else
		m->seq->tables[i - a->nr_needed].opens[m->nr - 1] = h;
}

static uint32_t ask_class(const struct match *m, const struct ask *a,
			  uint32_t i)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);

	if (i >= a->nr_needed)
		return i - a->nr_needed;
	return match_class(m, a->first + i / nr_groups, i % nr_groups);
}

/* Makes objects of what was granted. */
static int match_accept(struct match *m, const struct ask *a, uint32_t granted)
{
	struct kvd_seq *seq = m->seq;
	struct hold *h;
	int r = 0;

	for (uint32_t i = 0; i < granted; i++) {
		if (!a->handles[i])
			continue;
		if (!r)
			r = hold_new(seq->sp, a->handles[i], a->places[i],
				     ask_class(m, a, i), &h);
		if (r)
			hold_drop(seq->sp->k, a->handles[i]);
		else
			ask_put(m, a, i, h);
	}
	return r;
}

/*
 * Holds on what is being tried. *ret_got is how many blocks of it could be
 * had; if fewer, the caller has to give back what is in the tables.
 */
static int match_take(struct match *m, uint32_t *ret_got)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);
	uint32_t chunk = WIRE_MAX_PAGES / nr_groups - 1, nr = match_blocks(m);
	struct ask a;
	uint32_t granted, n;
	int r;

	for (a.first = 0; a.first < nr; a.first += n) {
		n = nr - a.first < chunk ? nr - a.first : chunk;
		match_local(m, n, &a);
		if (a.first + n == nr)
			match_copies(m, &a);
		if (!a.count)
			continue;
		r = request_match(m->seq->sp, a.handles, a.nr, &granted,
				  a.places);
		if (!r)
			r = match_accept(m, &a, granted);
		if (r)
			return r;
		if (granted < a.nr_needed) {
			*ret_got = a.first + granted / nr_groups;
			return 0;
		}
	}
	*ret_got = nr;
	return 0;
}

static void match_undo(struct match *m)
{
	for (uint32_t g = 0; g < space_nr_groups(m->seq->sp); g++)
		table_cut(m->seq, &m->seq->tables[g], 0);
}

/* Counts what is being tried as hit, or with sign -1 takes that back. */
static void match_count(struct match *m, int sign)
{
	struct kvd_space *sp = m->seq->sp;
	int64_t hit = (int64_t)m->nr * space_page_tokens(sp) + m->tail;

	sp->hits_due += sign * hit;
	sp->misses_due += sign * (m->nr_tokens - hit);
}

/* The longest prefix that can be had now; its pages are in the tables. */
static int match_try(struct match *m)
{
	uint32_t got = 0;
	int r;

	m->no_tail = m->seq->no_partial || m->seq->sp->opts.read_only;
	match_walk(m);
	match_aim(m, match_longest(m, m->nr_found));
	for (int i = 0; i < MAX_TRIES && match_blocks(m); i++) {
		match_count(m, 1);
		r = match_take(m, &got);
		if (!r && got == match_blocks(m))
			return 0;
		match_count(m, -1);
		match_undo(m);
		if (r)
			return r;
		m->no_tail |= got == m->nr; /* the tail has gone */
		match_aim(m, match_longest(m, got));
	}
	m->nr = m->tail = 0;
	match_count(m, 1);
	return 0;
}

/* The sequence has its first @n tokens, which are in pages it holds. */
static void match_line(struct match *m, uint32_t n)
{
	struct kvd_seq *seq = m->seq;
	const struct kvd_geometry *geo = &seq->sp->opts.geometry;

	if (n)
		memcpy(seq->tokens, m->tokens, n * sizeof(*seq->tokens));
	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++)
			seq->tables[g].stored[l] = seq->tables[g].sealed[l] = n;
	seq->nr_tokens = n;
}

/* The sequence has the whole blocks. */
static void match_done(struct match *m)
{
	struct kvd_seq *seq = m->seq;

	match_line(m, m->nr * space_page_tokens(seq->sp));
	seq->nr_settled = m->nr;
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		struct table *t = &seq->tables[g];

		t->nr_gone = seq_first(seq->sp, g, seq->nr_tokens);
		t->open_from = m->nr ? m->nr - 1 : 0;
	}
	seq->inexact_lag = seal_lag_lost(seq);
}

/* Where no stream is named, none has to come after the copy. */
static int tail_wait(struct kvd_seq *seq)
{
	struct device *d = seq->sp->device;
	struct device_event *e;
	int r;

	if (seq->match_stream || d->at_once)
		return 0;
	r = d->ops->event_record(d, NULL, &e);
	if (!r) {
		r = d->ops->event_wait(d, e);
		d->ops->event_free(d, e);
	}
	return r ? fail(seq->sp->k, r, "cannot copy a page") : 0;
}

/* Goes on in copies of the tail's pages; without it where there are none. */
static int match_tail(struct match *m)
{
	struct kvd_seq *seq = m->seq;
	uint32_t n = seq->nr_tokens + m->tail;

	if (!m->tail)
		return 0;
	if (!seq_cut(seq, n, seq->match_stream)) {
		match_line(m, n);
		seq->nr_copied = m->tail;
		return tail_wait(seq);
	}
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++)
		table_cut(seq, &seq->tables[g], m->nr);
	match_count(m, -1);
	m->tail = 0;
	match_count(m, 1);
	return seq_usable(seq);
}

static int match_check(struct kvd_seq *seq, const uint32_t *tokens, size_t n)
{
	struct kvd *k = seq->sp->k;
	int r = seq_usable(seq);

	if (r)
		return r;
	if (n > SEQ_MAX_TOKENS || (n && !tokens))
		return fail(k, -EINVAL, "%zu tokens cannot be matched", n);
	if (seq->nr_tokens)
		return fail(k, -EINVAL, "the sequence has tokens");
	return 0;
}

/* Without tokens it may have pages yet: reserved, or before a truncate. */
static void match_clear(struct kvd_seq *seq)
{
	uint32_t nr = 0;

	seq->nr_copied = 0;
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++) {
		nr += seq->tables[g].nr;
		table_cut(seq, &seq->tables[g], 0);
	}
	if (nr)
		seq_forget(seq, 0);
}

/* Everything that memory is needed for, before the first lookup. */
static int match_room(struct match *m)
{
	struct kvd_space *sp = m->seq->sp;
	uint32_t nr = m->nr_max + 1; /* the tail's too */
	int r;

	r = seq_room(m->seq, nr * space_page_tokens(sp));
	for (uint32_t g = 0; !r && g < space_nr_groups(sp); g++)
		r = table_room(&m->seq->tables[g], nr);
	if (r)
		return r;
	m->pages = calloc((size_t)nr * sp->nr_classes, sizeof(*m->pages));
	return m->pages ? 0 : -ENOMEM;
}

int kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		  size_t *ret_hit)
{
	struct kvd *k = seq->sp->k;
	uint64_t end_ns = conn_deadline_ns(k);
	struct match m = { .seq = seq, .tokens = tokens };
	int r;

	r = match_check(seq, tokens, n);
	if (r)
		return r;
	fixed_leave(seq);
	match_clear(seq);
	m.nr_tokens = (uint32_t)n;
	m.nr_max = m.nr_tokens / space_page_tokens(seq->sp);
	if (match_room(&m)) {
		r = fail(k, -ENOMEM, "out of memory");
		goto out;
	}
	do {
		r = k->fd < 0 ? conn_ready(k, k->timeout_ms) : 0;
		if (!r)
			r = match_try(&m);
	} while (conn_retry(k, r, end_ns));
	if (!r) {
		match_done(&m);
		r = match_tail(&m);
	}
	if (!r)
		*ret_hit = seq->nr_tokens;
out:
	free(m.pages);
	return r;
}
