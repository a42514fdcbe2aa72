// SPDX-License-Identifier: Apache-2.0
/*
 * seq_match.c - start a sequence with the longest known prefix.
 *
 * The index is walked here, in mapped memory; what it says is a hint. The
 * daemon is asked for holds on exactly the pages needed, for those of a long
 * prefix while its end is being looked up (match_ask.c). It grants from the
 * front; if some page has meanwhile been reclaimed, moved or demoted, what was
 * granted is given back and the index walked once more, then a shorter prefix
 * tried.
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
#include "client-lib/flight.h"
#include "client-lib/match.h"
#include "client-lib/seq.h"

#define MAX_TRIES 8
#define MAX_WALKS 4 /* of these, with a new look at the index */
#define TAIL_ALONE 8 /* one in so many tokens of a page, or no tail alone */

static const struct name root; /* parent of every first block */

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

/* Is all needed that comes before what is needed? */
static bool match_needs_all(const struct match *m)
{
	const struct kvd_geometry *geo = &m->seq->sp->opts.geometry;
	bool all = true;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		all &= !geo->groups[g].window;
	return all;
}

static bool match_whole(const struct match *m, uint32_t i)
{
	bool whole = true;

	for (uint32_t g = 0; g < space_nr_groups(m->seq->sp); g++)
		whole &= match_page(m, i, g) != 0;
	return whole;
}

/* The tokens of a block soon to come are fetched. */
static void match_fetch(const struct match *m, uint32_t i)
{
	uint32_t p = space_page_tokens(m->seq->sp);
	const uint32_t *tokens = m->tokens + (i + 2ull) * p;

	for (uint32_t t = 0; i + 2 < m->nr_max && t < p; t += 16)
		__builtin_prefetch(tokens + t);
}

/*
 * Follows the chain of blocks through the index as far as it goes. What will
 * be needed in any case is asked for on the way.
 */
static void match_walk(struct match *m)
{
	struct kvd_seq *seq = m->seq;
	uint32_t p = space_page_tokens(seq->sp), at = 0;
	bool ahead = match_needs_all(m);

	m->nr = UINT32_MAX; /* no block is known to be the last */

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
		match_fetch(m, i);
		ahead = ahead && match_whole(m, i);
		if (ahead)
			match_ahead(m, i + 1);
	}
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

static void match_drop(struct match *m)
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

void match_undo(struct match *m)
{
	match_count(m, -1);
	match_drop(m);
}

static int match_try(struct match *m)
{
	uint32_t got = 0;
	int r;

	m->no_tail = m->seq->no_partial || m->seq->sp->opts.read_only;
	match_start(m);
	match_walk(m);
	match_aim(m, match_longest(m, m->nr_found));
	for (int i = 0; i < MAX_TRIES && match_blocks(m); i++) {
		match_count(m, 1);
		r = match_take(m, &got);
		if (!r && got == match_blocks(m))
			return 0;
		match_undo(m);
		match_start(m);
		if (r)
			return r;
		m->no_tail |= got == m->nr; /* the tail has gone */
		if (i + 1 < MAX_WALKS) {
			match_walk(m);
			got = m->nr_found;
		}
		match_aim(m, match_longest(m, got));
	}
	m->nr = m->tail = 0;
	match_count(m, 1);
	return 0;
}

/*
 * The sequence has its first @n tokens, which are in pages it holds: those of
 * whole blocks are there already.
 */
static void match_line(struct match *m, uint32_t n)
{
	struct kvd_seq *seq = m->seq;
	const struct kvd_geometry *geo = &seq->sp->opts.geometry;
	uint32_t whole = m->nr * space_page_tokens(seq->sp);

	if (n > whole)
		memcpy(seq->tokens + whole, m->tokens + whole,
		       (n - whole) * sizeof(*seq->tokens));
	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++)
			seq->tables[g].stored[l] = seq->tables[g].sealed[l] = n;
	seq->nr_tokens = n;
}

/* The sequence has the whole blocks. */
static void match_take_whole(struct match *m)
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

int match_done(struct match *m, size_t *ret_hit)
{
	int r;

	match_take_whole(m);
	r = match_tail(m);
	if (!r)
		*ret_hit = m->seq->nr_tokens;
	return r;
}

/* ---- from the beginning ---- */

int match_check(struct kvd_seq *seq, const uint32_t *tokens, size_t n)
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

int match_find(struct match *m, uint64_t end_ns)
{
	struct kvd *k = m->seq->sp->k;
	int r;

	fixed_leave(m->seq);
	match_clear(m->seq);
	do {
		r = k->fd < 0 ? conn_ready(k, k->timeout_ms) : 0;
		if (!r)
			r = match_try(m);
	} while (conn_retry(k, r, end_ns));
	return r;
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

int match_init(struct match *m, struct kvd_seq *seq, const uint32_t *tokens,
	       size_t n)
{
	*m = (struct match){ .seq = seq,
			     .tokens = tokens,
			     .nr_tokens = (uint32_t)n };
	m->nr_max = m->nr_tokens / space_page_tokens(seq->sp);
	return match_room(m) ? fail(seq->sp->k, -ENOMEM, "out of memory") : 0;
}

void match_free(struct match *m)
{
	free(m->pages);
	m->pages = NULL;
}

int kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		  size_t *ret_hit)
{
	uint64_t end_ns = conn_deadline_ns(seq->sp->k);
	struct asks asks;
	struct match m;
	int r;

	r = match_check(seq, tokens, n);
	if (r)
		return r;
	match_wait_end(seq);
	flight_end(seq);
	r = match_init(&m, seq, tokens, n);
	m.asks = &asks;
	if (!r)
		r = match_find(&m, end_ns);
	if (!r)
		r = match_done(&m, ret_hit);
	match_free(&m);
	return r;
}
