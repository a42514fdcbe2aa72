// SPDX-License-Identifier: Apache-2.0
/*
 * storm_seq.c - a client's operations on sequences and loose pages.
 *
 * Whatever has changed a sequence is followed by reading its pages back.
 */
#include <errno.h>
#include <string.h>
#include "client-lib/seq.h"
#include "tests/storm/client.h"
#include "tests/support/check.h"

#define MAX_CHUNK 64u	/* tokens of one append */
#define SEGMENT	  20u	/* tokens between two choices of a prompt */
#define MAX_ROW	  256u

void entry_free(struct entry *e)
{
	kvd_seq_free(e->seq);
	e->seq = NULL;
}

/* As worked(), for a call about a sequence: it goes when it has lost pages. */
static bool entry_worked(struct entry *e, int r)
{
	if (worked(r))
		return true;
	if (r == -ESTALE)
		entry_free(e);
	return false;
}

/* ---- choosing ---- */

static struct view *view_writable(void)
{
	struct view *v = view_any();

	return v->sp->opts.read_only ? NULL : v;
}

static struct entry *entry_any(struct view *v)
{
	struct entry *e = &v->entries[roll(NR_SEQS)];

	for (int i = 0; i < NR_SEQS && !e->seq; i++)
		e = &v->entries[(uint32_t)(e - v->entries + 1) % NR_SEQS];
	return e->seq ? e : NULL;
}

static struct entry *entry_room(struct view *v)
{
	uint32_t i;

	for (i = 0; i < NR_SEQS && v->entries[i].seq; i++)
		;
	if (i == NR_SEQS) {
		i = roll(NR_SEQS);
		entry_free(&v->entries[i]);
	}
	return &v->entries[i];
}

/* Tokens up to @n are known. */
static void prompt_grow(struct entry *e, uint32_t n)
{
	for (; e->nr_prompt < n; e->nr_prompt++) {
		uint32_t i = e->nr_prompt;
		uint32_t choice = 0;

		if (i == 0)
			choice = storm_zipf(&s.rng, 8);
		else if (i % SEGMENT == 0 && roll(8) == 0)
			choice = 1 + storm_zipf(&s.rng, 3);
		e->tokens[i] = storm_token(e->chain[i], choice);
		e->chain[i + 1] = storm_next(e->chain[i], e->tokens[i]);
	}
}

/* ---- reading back ---- */

/*
 * While its connection is torn a client's pages are not its own: what they hold
 * may be another's by now. It knows once it is connected again.
 */
static bool is_lost(const struct hold *h)
{
	return shaken() && (kvd_ping(s.k) || h->stale);
}

static void read_page(struct view *v, struct entry *e, uint32_t group,
		      uint32_t block, const struct hold *h)
{
	uint32_t p = space_page_tokens(v->sp), from = block * p;
	uint32_t n = e->seq->nr_tokens - from;
	struct storm_page page = {
		.sp = v->sp,
		.hold = h,
		.group = group,
		.chain = e->chain + from + 1,
		.nr_rows = n < p ? n : p,
		.again = roll(16) == 0,
		.may_differ = shaken(),
	};
	int r;

	/* It was quantized when it was full, and not all is committed. */
	if (page.nr_rows < p && ((v->sp->whole && h->page_class != group) ||
				 h->page_class == v->sp->demoted_class[group]))
		return;
	r = storm_page_check(&page);
	if (r < 0 && is_lost(h))
		return;
	page.may_differ = false;
	if (r < 0)
		r = storm_page_check(&page);
	s.report->read++;
	s.report->made += r;
}

/* Blocks from @first on. What was quantized twice follows from no prefix. */
static void read_entry(struct view *v, struct entry *e, uint32_t first)
{
	uint32_t p = space_page_tokens(v->sp);

	for (uint32_t g = 0; g < space_nr_groups(v->sp); g++) {
		const struct table *t = &e->seq->tables[g];

		for (uint32_t i = first; i * p < e->seq->nr_tokens &&
					 i < e->seq->private_block; i++) {
			if (t->holds[i] && !t->holds[i]->stale)
				read_page(v, e, g, i, t->holds[i]);
			if (t->opens[i] && !t->opens[i]->stale)
				read_page(v, e, g, i, t->opens[i]);
		}
	}
}

/* ---- sequences ---- */

void op_match(void)
{
	struct view *v = view_any();
	struct entry *e = entry_room(v);
	struct kvd_seq_opts o = {
		.size = sizeof(o),
		.no_publish = roll(16) == 0,
		.no_partial = roll(8) == 0,
		.partial_inexact = roll(8) == 0,
		.priority = roll(2) ? KVD_PRIORITY_NORMAL : roll(3),
	};
	uint32_t extra = roll(8) ? 0 : 1 + roll(3), n;
	size_t hit = 0;
	int r;

	memcpy(o.extra, &extra, sizeof(extra));
	CHECK(!kvd_seq_new(v->sp, &o, &e->seq), "%s", kvd_error(s.k));
	e->nr_prompt = 0;
	e->chain[0] = storm_root(extra);
	n = 1 + roll(STORM_MAX_TOKENS - MAX_CHUNK);
	prompt_grow(e, n);
	if (s.o->wait_ms)
		r = kvd_seq_match_wait(e->seq, e->tokens, n, s.o->wait_ms,
				       &hit);
	else
		r = kvd_seq_match(e->seq, e->tokens, n, &hit);
	if (!entry_worked(e, r))
		return;
	CHECK(hit <= n && kvd_seq_tokens(e->seq) == hit, "%zu of %u found",
	      hit, n);
	s.report->tokens += n;
	s.report->hits += hit;
	read_entry(v, e, 0);
}

/* K and V of the @n tokens after those committed, in every layer. */
static int append_all(struct view *v, struct entry *e, uint32_t n)
{
	static float k[MAX_CHUNK * MAX_ROW], w[MAX_CHUNK * MAX_ROW];
	const struct kvd_geometry *geo = &v->sp->opts.geometry;
	const struct kvd_item item = { e->seq, n };
	const uint64_t *chain = e->chain + kvd_seq_tokens(e->seq) + 1;
	int r = 0;

	for (uint32_t g = 0; !r && g < geo->nr_groups; g++) {
		const struct kvd_group *gr = &geo->groups[g];
		size_t nk = gr->nr_kv_heads * gr->k_dim;
		size_t nv = gr->nr_kv_heads * gr->v_dim;

		for (uint32_t l = 0; !r && l < gr->nr_layers; l++) {
			struct kvd_append_args a = {
				.size = sizeof(a), .group = g, .layer = l,
				.items = &item, .nr_items = 1, .k = k, .v = w,
			};

			for (uint32_t i = 0; i < n; i++) {
				storm_row(k + i * nk, nk, chain[i], g, l,
					  false);
				storm_row(w + i * nv, nv, chain[i], g, l,
					  true);
			}
			r = kvd_append(v->sp, &a);
		}
	}
	return r;
}

void op_append(void)
{
	struct view *v = view_writable();
	struct entry *e = v ? entry_any(v) : NULL;
	uint32_t have, n;

	if (!e)
		return;
	have = (uint32_t)kvd_seq_tokens(e->seq);
	n = 1 + roll(roll(3) ? MAX_CHUNK : 3);
	if (have + n > STORM_MAX_TOKENS)
		n = STORM_MAX_TOKENS - have;
	prompt_grow(e, have + n);
	if (!entry_worked(e, append_all(v, e, n))) {
		if (e->seq && roll(2))
			entry_free(e);
		return;
	}
	if (roll(8) == 0)
		n = roll(n + 1);
	entry_worked(e, kvd_commit(e->seq, e->tokens + have, n, NULL));
	if (e->seq)
		read_entry(v, e, have / space_page_tokens(v->sp));
}

void op_fork(void)
{
	struct view *v = view_any();
	struct entry *e = entry_any(v), *to;
	struct kvd_seq *fork;

	if (!e || !entry_worked(e, kvd_fork(e->seq, NULL, &fork)))
		return;
	for (to = v->entries; to < v->entries + NR_SEQS && to->seq; to++)
		;
	if (to == v->entries + NR_SEQS) { /* the child takes its place */
		entry_free(e);
		e->seq = fork;
		return;
	}
	*to = *e;
	to->seq = fork;
	read_entry(v, to, 0);
}

void op_truncate(void)
{
	struct view *v = view_any();
	struct entry *e = entry_any(v);
	uint32_t n;
	int r;

	if (!e)
		return;
	n = roll((uint32_t)kvd_seq_tokens(e->seq) + 1);
	r = kvd_truncate(e->seq, n, NULL);
	if (r == -EINVAL && space_nr_groups(v->sp) > 1)
		return; /* out of the window */
	if (!entry_worked(e, r))
		return;
	CHECK(kvd_seq_tokens(e->seq) == n, "%zu tokens",
	      kvd_seq_tokens(e->seq));
	if (roll(2)) { /* it goes another way than it went */
		e->nr_prompt = n;
		prompt_grow(e, n + roll(STORM_MAX_TOKENS - n + 1));
	}
	read_entry(v, e, 0);
}

void op_free(void)
{
	struct entry *e = entry_any(view_any());

	if (e)
		entry_free(e);
}

void op_reserve(void)
{
	struct view *v = view_writable();
	struct entry *e = v ? entry_any(v) : NULL;
	uint32_t have;

	if (!e)
		return;
	have = (uint32_t)kvd_seq_tokens(e->seq);
	entry_worked(e, kvd_seq_reserve(e->seq,
					roll(STORM_MAX_TOKENS - have + 1)));
}

/* For a time that may end in this round, or not. */
void op_pin(void)
{
	struct entry *e = entry_any(view_any());
	int r = e ? kvd_seq_pin(e->seq, 1 + roll(4000), NULL) : -ENOENT;

	if (r != -ENOENT) /* nothing of it is published */
		entry_worked(e, r);
}

void op_unpin(void)
{
	struct entry *e = entry_any(view_any());
	int r = e ? kvd_seq_unpin(e->seq) : -ENOENT;

	if (r != -ENOENT)
		entry_worked(e, r);
}

void op_read(void)
{
	struct view *v = view_any();
	struct entry *e = entry_any(v);

	if (e)
		read_entry(v, e, 0);
}

/* ---- loose pages: nobody but us writes to them ---- */

static uint64_t *loose_at(const struct view *v, const struct kvd_page *page)
{
	return (uint64_t *)((char *)v->sp->device->writable_at[page->segment] +
			    page->offset);
}

void op_take(void)
{
	struct view *v = view_writable();
	uint32_t nr, class;
	int r;

	if (!v || v->nr_loose == NR_LOOSE)
		return;
	nr = 1 + roll(NR_LOOSE - v->nr_loose);
	class = roll(v->sp->nr_classes);
	if (space_class_demoted(v->sp, class)) {
		r = kvd_page_alloc(v->sp, class, 1, v->loose + v->nr_loose);
		CHECK(r == -EINVAL, "a demoted page is given out");
		return;
	}
	if (!worked(kvd_page_alloc(v->sp, class, nr, v->loose + v->nr_loose)))
		return;
	for (uint32_t i = 0; i < nr; i++, v->nr_loose++) {
		const struct kvd_page *page = &v->loose[v->nr_loose];
		uint32_t words = v->sp->layouts[class].page_bytes / 8;
		uint64_t *p = loose_at(v, page);

		for (uint32_t k = 0; k < words; k += 64)
			p[k] = page->handle;
	}
}

/* Some of them, in any order. */
void op_give(void)
{
	struct view *v = view_any();
	struct kvd_page give[NR_LOOSE];
	uint32_t nr = v->nr_loose ? 1 + roll(v->nr_loose) : 0;
	int r;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t at = roll(v->nr_loose);
		uint32_t words;

		give[i] = v->loose[at];
		v->loose[at] = v->loose[--v->nr_loose];
		words = v->sp->layouts[give[i].page_class].page_bytes / 8;
		for (uint32_t k = 0; k < words; k += 64)
			CHECK(loose_at(v, &give[i])[k] == give[i].handle,
			      "somebody wrote to a page of client %u", s.id);
	}
	r = nr ? kvd_page_free(v->sp, give, nr) : 0;
	CHECK(!r || (r == -ESTALE && shaken()), "%s", kvd_error(s.k));
}
