// SPDX-License-Identifier: Apache-2.0
/*
 * seq_match.c - start a sequence with the longest known prefix.
 *
 * The index is walked here, in mapped memory; what it says is a hint. Then
 * the daemon is asked for holds on exactly the pages needed. It grants from
 * the front; if some page has meanwhile been reclaimed, what was granted is
 * given back and a shorter prefix tried.
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

struct match {
	struct kvd_seq *seq;
	const uint32_t *tokens;
	handle_t *pages;	/* [blocks found][nr_classes] */
	uint32_t nr_max;	/* blocks asked for */
	uint32_t nr_found;
};

/* Follows the chain of names through the index as far as it goes. */
static void match_walk(struct match *m)
{
	static const struct name root;
	struct kvd_seq *seq = m->seq;
	struct kvd_space *sp = seq->sp;
	uint32_t p = space_page_tokens(sp);

	for (m->nr_found = 0; m->nr_found < m->nr_max; m->nr_found++) {
		uint32_t i = m->nr_found;
		struct index_key key = {
			.name = &seq->names[i],
			.parent = i ? &seq->names[i - 1] : &root,
			.extra = &seq->extra,
			.tokens = m->tokens + (size_t)i * p,
		};

		seq->names[i] = name_block(&sp->key, key.parent, key.extra,
					   key.tokens, p);
		if (!index_find(&sp->index, &key,
				m->pages + (size_t)i * sp->nr_classes))
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

/* Is page (block, group) needed by a prefix of @nr blocks? */
static bool match_needs(const struct match *m, uint32_t nr, uint32_t block,
			uint32_t group)
{
	struct kvd_space *sp = m->seq->sp;

	return block >= seq_first(sp, group, nr * space_page_tokens(sp));
}

/* What is asked of the daemon, and where it goes. */
struct ask {
	handle_t handles[WIRE_MAX_PAGES];
	place_t places[WIRE_MAX_PAGES];
	uint32_t nr;		/* entries; a handle of 0 is not asked for */
	uint32_t nr_needed;	/* of these, from the front: copies follow */
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
 * Blocks [first, first + nr) of a prefix of @all: uses of pages held here
 * already are taken, the others are to be asked for.
 */
static void match_local(struct match *m, uint32_t all, uint32_t nr,
			struct ask *a)
{
	struct kvd_seq *seq = m->seq;
	uint32_t nr_groups = space_nr_groups(seq->sp);

	a->nr = a->count = 0;
	for (uint32_t i = 0; i < nr * nr_groups; i++) {
		uint32_t block = a->first + i / nr_groups, g = i % nr_groups;
		struct table *t = &seq->tables[g];

		t->opens[block] = NULL;
		t->refused[block] = NULL;
		table_set(seq, g, block,
			  ask_add(m, a, match_needs(m, all, block, g) ?
						match_page(m, block, g) : 0));
		t->nr = block + 1;
	}
	a->nr_needed = a->nr;
}

/* With a lag the next token sees the exact copy of the last block, if any. */
static void match_copies(struct match *m, uint32_t last, struct ask *a)
{
	struct kvd_space *sp = m->seq->sp;

	for (uint32_t g = 0; sp->lag && g < space_nr_groups(sp); g++) {
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
		table_set(m->seq, i % nr_groups, a->first + i / nr_groups, h);
	else
		m->seq->tables[i - a->nr_needed].opens[
			a->first + a->nr_needed / nr_groups - 1] = h;
}

static uint32_t ask_class(const struct match *m, const struct ask *a,
			  uint32_t i)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);

	if (i >= a->nr_needed)
		return i - a->nr_needed;
	return space_class(m->seq->sp, i % nr_groups,
			   a->first + i / nr_groups);
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
 * Holds on a prefix of @nr blocks. *ret_got is how many blocks of it could be
 * had; if fewer, the caller has to give back what is in the tables.
 */
static int match_take(struct match *m, uint32_t nr, uint32_t *ret_got)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);
	uint32_t chunk = WIRE_MAX_PAGES / nr_groups - 1;
	struct ask a;
	uint32_t granted, n;
	int r;

	for (a.first = 0; a.first < nr; a.first += n) {
		n = nr - a.first < chunk ? nr - a.first : chunk;
		match_local(m, nr, n, &a);
		if (a.first + n == nr)
			match_copies(m, nr - 1, &a);
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

/* Counts @hit of @n tokens, or with sign -1 takes that back. */
static void match_count(struct match *m, size_t hit, size_t n, int sign)
{
	m->seq->sp->hits_due += sign * (int64_t)hit;
	m->seq->sp->misses_due += sign * (int64_t)(n - hit);
}

/* The longest prefix that can be had now; its pages are in the tables. */
static int match_try(struct match *m, size_t n, uint32_t *ret_nr)
{
	uint32_t p = space_page_tokens(m->seq->sp), got, nr;
	int r;

	match_walk(m);
	nr = match_longest(m, m->nr_found);
	for (int i = 0; i < MAX_TRIES && nr; i++) {
		match_count(m, (size_t)nr * p, n, 1);
		r = match_take(m, nr, &got);
		if (!r && got == nr) {
			*ret_nr = nr;
			return 0;
		}
		match_count(m, (size_t)nr * p, n, -1);
		match_undo(m);
		if (r)
			return r;
		nr = match_longest(m, got);
	}
	match_count(m, 0, n, 1);
	*ret_nr = 0;
	return 0;
}

/* The sequence has its first @nr blocks. */
static void match_done(struct match *m, uint32_t nr)
{
	struct kvd_seq *seq = m->seq;
	const struct kvd_geometry *geo = &seq->sp->opts.geometry;

	seq->nr_tokens = nr * geo->page_tokens;
	seq->nr_settled = nr;
	if (nr)
		memcpy(seq->tokens, m->tokens,
		       seq->nr_tokens * sizeof(*seq->tokens));
	for (uint32_t g = 0; g < geo->nr_groups; g++) {
		struct table *t = &seq->tables[g];

		t->nr_gone = seq_first(seq->sp, g, seq->nr_tokens);
		t->open_from = nr ? nr - 1 : 0;
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++)
			t->stored[l] = t->sealed[l] = seq->nr_tokens;
	}
	seq->inexact_lag = seal_lag_lost(seq);
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
	int r;

	r = seq_room(m->seq, m->nr_max * space_page_tokens(sp));
	for (uint32_t g = 0; !r && g < space_nr_groups(sp); g++)
		r = table_room(&m->seq->tables[g], m->nr_max);
	if (r)
		return r;
	m->pages = calloc((size_t)m->nr_max * sp->nr_classes,
			  sizeof(*m->pages));
	return m->pages ? 0 : -ENOMEM;
}

int kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		  size_t *ret_hit)
{
	struct kvd *k = seq->sp->k;
	uint64_t end_ns = conn_deadline_ns(k);
	struct match m = { .seq = seq, .tokens = tokens };
	uint32_t nr = 0;
	int r;

	r = match_check(seq, tokens, n);
	if (r)
		return r;
	fixed_leave(seq);
	match_clear(seq);
	m.nr_max = (uint32_t)(n / space_page_tokens(seq->sp));
	if (m.nr_max && match_room(&m)) {
		r = fail(k, -ENOMEM, "out of memory");
		goto out;
	}
	do {
		r = k->fd < 0 ? conn_ready(k, k->timeout_ms) : 0;
		if (!r)
			r = match_try(&m, n, &nr);
	} while (conn_retry(k, r, end_ns));
	if (!r) {
		match_done(&m, nr);
		*ret_hit = seq->nr_tokens;
	}
out:
	free(m.pages);
	return r;
}
