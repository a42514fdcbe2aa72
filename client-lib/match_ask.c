// SPDX-License-Identifier: Apache-2.0
/*
 * match_ask.c - the pages of a match, asked of the daemon.
 *
 * Several requests are on their way at once, in the order of the blocks. Where
 * one is refused pages those after it may have been granted theirs: all go
 * into the tables, and out of them again with what came before.
 */
#include <errno.h>
#include <string.h>
#include "client-lib/conn.h"
#include "client-lib/match.h"

_Static_assert(ASK_PAGES <= WIRE_MAX_PAGES, "one request takes what is asked");

/* Is page (block, group) needed by the whole blocks, or as the tail? */
static bool match_needs(const struct match *m, uint32_t block, uint32_t group)
{
	struct kvd_space *sp = m->seq->sp;

	return block >= seq_first(sp, group, m->nr * space_page_tokens(sp));
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
	return tail_open(m, block, group) ? group :
					    match_read_class(m, block, group);
}

/* Block @block of a group is in @h now. */
static void match_put(struct match *m, uint32_t block, uint32_t group,
		      struct hold *h)
{
	bool open = tail_open(m, block, group);

	m->seq->tables[group].opens[block] = open ? h : NULL;
	table_set(m->seq, group, block, open ? NULL : h);
}

/* Entry for @handle, unless it is held here already: then a use of that. */
static struct hold *ask_add(struct match *m, struct ask *a, handle_t handle,
			    uint32_t page_class)
{
	struct hold *h = handle ? hold_find_as(m->seq->sp, handle, page_class) :
				  NULL;

	a->handles[a->nr++] = h ? 0 : handle;
	a->count += handle && !h;
	if (!h)
		return NULL;
	h->sealed = true;
	return hold_get(h);
}

static void ask_page(struct match *m, struct ask *a, uint32_t block,
		     uint32_t g)
{
	struct kvd_seq *seq = m->seq;
	uint32_t c = match_class(m, block, g);
	handle_t h = m->pages[(size_t)block * seq->sp->nr_classes + c];

	seq->tables[g].refused[block] = NULL;
	match_put(m, block, g,
		  ask_add(m, a, match_needs(m, block, g) ? h : 0, c));
	seq->tables[g].nr = block + 1;
}

/*
 * Blocks [first, first + nr) of those needed: uses of pages held here already
 * are taken, the others are to be asked for.
 */
static void match_local(struct match *m, uint32_t nr, struct ask *a)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);

	a->nr = a->count = 0;
	for (uint32_t block = a->first; block < a->first + nr; block++)
		for (uint32_t g = 0; g < nr_groups; g++)
			ask_page(m, a, block, g);
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

		m->seq->tables[g].opens[last] = ask_add(m, a, h, g);
	}
}

/* Of which block is entry @i of those needed, and of which group? */
static uint32_t ask_block(const struct match *m, const struct ask *a,
			  uint32_t i, uint32_t *ret_group)
{
	uint32_t nr_groups = space_nr_groups(m->seq->sp);

	if (nr_groups == 1) { /* as often: no division */
		*ret_group = 0;
		return a->first + i;
	}
	*ret_group = i % nr_groups;
	return a->first + i / nr_groups;
}

/* Puts the page of entry @i where it belongs. */
static void ask_put(struct match *m, const struct ask *a, uint32_t i,
		    struct hold *h)
{
	uint32_t block, group;

	h->sealed = true;
	if (i < a->nr_needed) {
		block = ask_block(m, a, i, &group);
		match_put(m, block, group, h);
	} else {
		m->seq->tables[i - a->nr_needed].opens[m->nr - 1] = h;
	}
}

static uint32_t ask_class(const struct match *m, const struct ask *a,
			  uint32_t i)
{
	uint32_t block, group;

	if (i >= a->nr_needed)
		return i - a->nr_needed;
	block = ask_block(m, a, i, &group);
	return match_class(m, block, group);
}

/* Makes objects of what was granted. */
static int match_accept(struct match *m, const struct ask *a,
			const place_t *places, uint32_t granted)
{
	struct kvd_seq *seq = m->seq;
	struct hold *h;
	int r = 0;

	for (uint32_t i = 0; i < granted; i++) {
		if (!a->handles[i])
			continue;
		if (!r)
			r = hold_new(seq->sp, a->handles[i], places[i],
				     ask_class(m, a, i), &h);
		if (r)
			hold_drop(seq->sp->k, a->handles[i]);
		else
			ask_put(m, a, i, h);
	}
	return r;
}

/* ---- many at once ---- */

/* Takes what the oldest request has brought. */
static void asks_end(struct match *m)
{
	struct asks *s = m->asks;
	struct ask *a = &s->ring[s->nr_ended++ % ASKS_AHEAD];
	place_t places[ASK_PAGES];
	uint32_t granted = 0;
	int r;

	r = request_match_end(m->seq->sp, &a->request, &granted, places);
	if (!r)
		r = match_accept(m, a, places, granted);
	if (!s->err)
		s->err = r;
	if (!r && granted < a->nr_needed) {
		uint32_t got = a->first + granted / space_nr_groups(m->seq->sp);

		s->got = got < s->got ? got : s->got;
	}
}

/* The next @nr blocks; @last: there are no more. */
static void asks_begin(struct match *m, uint32_t nr, bool last)
{
	struct asks *s = m->asks;
	struct ask *a = &s->ring[s->nr_sent % ASKS_AHEAD];
	int r;

	if (s->nr_sent - s->nr_ended == ASKS_AHEAD)
		asks_end(m);
	a->first = s->next;
	match_local(m, nr, a);
	if (last)
		match_copies(m, a);
	s->next += nr;
	if (!a->count)
		return;
	r = request_match_begin(m->seq->sp, &a->request, a->handles, a->nr);
	if (!r)
		s->nr_sent++;
	else if (!s->err)
		s->err = r;
}

/* What may come yet. */
static uint32_t asks_pages(const struct asks *s)
{
	uint32_t nr = 0;

	for (uint32_t i = s->nr_ended; i < s->nr_sent; i++)
		nr += s->ring[i % ASKS_AHEAD].count;
	return nr;
}

/* Is it of no use to ask for more? */
static bool asks_failed(const struct asks *s)
{
	return s->err || s->got != UINT32_MAX;
}

void match_start(struct match *m)
{
	struct asks *s = m->asks;

	s->nr_sent = s->nr_ended = s->next = 0;
	/* Copies are room for one block more. */
	s->chunk = ASK_PAGES / space_nr_groups(m->seq->sp) - 1;
	s->got = UINT32_MAX;
	s->err = 0;
}

/* One is always left: which is the last may matter to what is asked for. */
void match_ahead(struct match *m, uint32_t nr)
{
	struct asks *s = m->asks;

	while (s->next + s->chunk < nr && !asks_failed(s))
		asks_begin(m, s->chunk, false);
}

/*
 * What can be done while the daemon works: room for what will come, and the
 * tokens, which are the sequence's should all of it be had.
 */
static void match_meanwhile(struct match *m)
{
	struct kvd_seq *seq = m->seq;
	size_t nr = (size_t)m->nr * space_page_tokens(seq->sp);

	holds_expect(seq->sp->k, asks_pages(m->asks));
	if (nr)
		memcpy(seq->tokens, m->tokens, nr * sizeof(*seq->tokens));
}

int match_take(struct match *m, uint32_t *ret_got)
{
	struct asks *s = m->asks;
	uint32_t nr = match_blocks(m);

	while (s->next < nr && !asks_failed(s)) {
		uint32_t n = nr - s->next < s->chunk ? nr - s->next : s->chunk;

		asks_begin(m, n, s->next + n == nr);
	}
	match_meanwhile(m);
	while (s->nr_ended < s->nr_sent)
		asks_end(m);
	*ret_got = s->got < nr ? s->got : nr;
	return s->err;
}
