// SPDX-License-Identifier: Apache-2.0
/*
 * storm_client.c - one client of the storm: random operations, each checked.
 *
 * It has two spaces open, in each some sequences and loose pages. What it may be
 * refused is room; all else has to work, but that pages of sequences may be
 * lost while its connection is torn or kvd is killed, and only then.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "client-lib/conn.h"
#include "client-lib/seq.h"
#include "proto/kvd.pb-c.h"
#include "tests/storm/storm.h"
#include "tests/support/check.h"

#define NR_VIEWS    2
#define NR_SEQS	    5	/* of a view */
#define NR_LOOSE    8
#define MAX_CHUNK   64u	/* tokens of one append */
#define SEGMENT	    20u	/* tokens between two choices of a prompt */
#define MAX_ROW	    256u

struct entry {
	struct kvd_seq *seq;	/* NULL: none */
	uint32_t nr_prompt;	/* tokens that are known; the rest is chosen */
	uint32_t tokens[STORM_MAX_TOKENS];
	uint64_t chain[STORM_MAX_TOKENS + 1];
};

struct view {
	struct kvd_space *sp;	/* NULL: none */
	uint32_t kind;
	struct entry entries[NR_SEQS];
	struct kvd_page loose[NR_LOOSE];
	uint32_t nr_loose;
};

static struct storm {
	const struct storm_options *o;
	struct storm_report *report;
	uint32_t id;
	uint64_t rng;
	struct kvd *k;
	struct view views[NR_VIEWS];
	bool torn;		/* the connection, since the last settling */
	enum storm_op op;
} s;

static uint32_t roll(uint32_t below)
{
	return (uint32_t)(storm_random(&s.rng) % below);
}

/* ---- what may go wrong ---- */

static const char *op_name(void)
{
	static const char *const names[] = {
#define STORM_NAME(name, text) text,
		STORM_OPS(STORM_NAME)
#undef STORM_NAME
	};

	return names[s.op];
}

/* Its connection may have gone since it last settled. */
static bool shaken(void)
{
	return s.torn || s.report->restart;
}

/* Return: it worked. A refusal is counted; what must not be ends the storm. */
static bool worked(int r)
{
	if (!r)
		return true;
	if (r == -ENOSPC || r == -EDQUOT)
		s.report->refused++;
	else if (r == -ESTALE && shaken())
		s.report->lost++;
	else
		CHECK(r == -ENOTCONN && shaken(), "client %u, %s: %s: %s", s.id,
		      op_name(), strerror(-r), kvd_error(s.k));
	return false;
}

static void entry_free(struct entry *e)
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

static struct view *view_any(void)
{
	struct view *v = &s.views[roll(NR_VIEWS)];

	return v->sp ? v : &s.views[0];
}

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
	};

	/* It was quantized when it was full, and not all is committed. */
	if (page.nr_rows < p && v->sp->whole && h->page_class != group)
		return;
	s.report->read++;
	s.report->made += storm_page_check(&page);
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

static void op_match(void)
{
	struct view *v = view_any();
	struct entry *e = entry_room(v);
	struct kvd_seq_opts o = {
		.size = sizeof(o),
		.no_publish = roll(16) == 0,
		.no_partial = roll(8) == 0,
		.partial_inexact = roll(8) == 0,
	};
	uint32_t extra = roll(8) ? 0 : 1 + roll(3), n;
	size_t hit = 0;

	memcpy(o.extra, &extra, sizeof(extra));
	CHECK(!kvd_seq_new(v->sp, &o, &e->seq), "%s", kvd_error(s.k));
	e->nr_prompt = 0;
	e->chain[0] = storm_root(extra);
	n = 1 + roll(STORM_MAX_TOKENS - MAX_CHUNK);
	prompt_grow(e, n);
	if (!entry_worked(e, kvd_seq_match(e->seq, e->tokens, n, &hit)))
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

static void op_append(void)
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

static void op_fork(void)
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

static void op_truncate(void)
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

static void op_free(void)
{
	struct entry *e = entry_any(view_any());

	if (e)
		entry_free(e);
}

static void op_reserve(void)
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

static void op_read(void)
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

static void op_take(void)
{
	struct view *v = view_writable();
	uint32_t nr, class;

	if (!v || v->nr_loose == NR_LOOSE)
		return;
	nr = 1 + roll(NR_LOOSE - v->nr_loose);
	class = roll(v->sp->nr_classes);
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
static void op_give(void)
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

/* ---- spaces and connections ---- */

static void view_forget(struct view *v)
{
	for (uint32_t i = 0; i < NR_SEQS; i++)
		v->entries[i].seq = NULL;
	v->nr_loose = 0;
	v->sp = NULL;
}

static bool kind_is_open(uint32_t kind)
{
	for (uint32_t i = 0; i < NR_VIEWS; i++)
		if (s.views[i].sp && s.views[i].kind == kind)
			return true;
	return false;
}

static void view_open(struct view *v)
{
	struct kvd_space_opts o;
	uint32_t kind;
	int r;

	do
		kind = roll(STORM_KINDS);
	while (kind_is_open(kind));
	storm_kind(kind, &o);
	o.wait_ms = 1 + roll(20);
	o.read_only = roll(10) == 0;
	o.stock_bytes = roll(4) ? 1 + roll(1 << 17) : 0;
	r = kvd_space_open(s.k, &o, &v->sp);
	CHECK(!r, "client %u, space %u: %s: %s", s.id, kind, strerror(-r),
	      kvd_error(s.k));
	v->kind = kind;
}

static void client_connect(void)
{
	struct kvd_connect_opts c = { .size = sizeof(c),
				      .socket = s.o->socket,
				      .program = "storm",
				      .timeout_ms = 60000 };
	int r;

	do
		r = kvd_connect(&c, &s.k);
	while (r == -ENOTCONN && s.report->restart);
	CHECK(!r, "client %u: %s", s.id, strerror(-r));
	for (uint32_t i = 0; i < NR_VIEWS; i++) {
		view_forget(&s.views[i]);
		view_open(&s.views[i]);
	}
	s.torn = false;
}

/* Pages that we may still write to: kvd cannot know that we do not. */
static void abandon(void);

static void op_reopen(void)
{
	struct view *v = view_any();

	if (!worked(kvd_ping(s.k)))
		return;
	if (s.report->restart)
		abandon();
	kvd_space_close(v->sp);
	view_forget(v);
	view_open(v);
}

static void tear(void)
{
	if (kvd_fd(s.k) >= 0)
		shutdown(kvd_fd(s.k), SHUT_RDWR);
	s.torn = true;
}

/* Pages held, as we believe; to the report if @to. */
static uint32_t held(bool to, uint32_t *ret_open)
{
	const struct holds *t = &s.k->holds;
	uint32_t nr = 0;

	*ret_open = 0;
	for (uint32_t i = 0; i < t->nr_buckets; i++)
		for (const struct hold *h = t->buckets[i]; h; h = h->next) {
			if (h->stale)
				continue;
			CHECK(nr < STORM_MAX_HELD, "too many pages");
			if (to)
				s.report->held[nr] = (struct storm_held){
					h->handle, h->sealed };
			nr++;
			*ret_open += !h->sealed;
		}
	return nr;
}

static void abandon(void)
{
	uint32_t nr_open;

	held(false, &nr_open);
	s.report->abandoned += nr_open + s.k->holds.nr_released;
}

static void op_reconnect(void)
{
	if (shaken())
		abandon();
	kvd_close(s.k);
	client_connect();
}

static void op_abandon(void)
{
	tear();
	op_reconnect();
}

static void op_die(void)
{
	s.report->dying = true;
	raise(SIGKILL);
}

static void op_process(void)
{
	struct kvd_space_info info = { .size = sizeof(info) };

	worked(kvd_process(s.k));
	if (roll(4) == 0)
		worked(kvd_ping(s.k));
	if (roll(4) == 0)
		worked(kvd_space_info(view_any()->sp, &info));
}

/* ---- what a tenant's user may ask for ---- */

static void ask(unsigned type, const ProtobufCMessage *m,
		const ProtobufCMessageDescriptor *want, struct call *c)
{
	int r;

	*c = (struct call){ .type = type, .request = m, .want = want };
	r = call(s.k, c);
	if (r != -EBUSY || !s.report->restart) /* the time of claims */
		worked(r);
}

static void op_reclaim(void)
{
	Kvd__ReclaimRequest m = KVD__RECLAIM_REQUEST__INIT;
	char name[32];
	struct call c;

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	m.tenant = name;
	m.bytes = 1 + roll(1 << 20);
	ask(WIRE_RECLAIM, &m.base, &kvd__reclaim_reply__descriptor, &c);
	call_end(&c);
}

/* To its end, or a part: a space can be dropped by two at a time. */
static void op_drop(void)
{
	Kvd__DropRequest m = KVD__DROP_REQUEST__INIT;
	struct call c;
	bool more = true;

	m.space = view_any()->sp->id;
	while (more) {
		const Kvd__DropReply *a;

		ask(WIRE_DROP, &m.base, &kvd__drop_reply__descriptor, &c);
		a = (const Kvd__DropReply *)c.reply;
		more = a && a->next && roll(4);
		if (a) {
			m.serial = a->serial;
			m.from = a->next;
		}
		call_end(&c);
	}
}

/* ---- the storm ---- */

static const struct {
	uint32_t weight;
	void (*f)(void);
} ops[STORM_NR_OPS] = {
	[STORM_MATCH] = { 200, op_match },
	[STORM_APPEND] = { 400, op_append },
	[STORM_FORK] = { 60, op_fork },
	[STORM_TRUNCATE] = { 60, op_truncate },
	[STORM_FREE] = { 80, op_free },
	[STORM_RESERVE] = { 30, op_reserve },
	[STORM_TAKE] = { 40, op_take },
	[STORM_GIVE] = { 50, op_give },
	[STORM_READ] = { 60, op_read },
	[STORM_PROCESS] = { 50, op_process },
	[STORM_REOPEN] = { 4, op_reopen },
	[STORM_RECONNECT] = { 3, op_reconnect },
	[STORM_TEAR] = { 6, tear },
	[STORM_ABANDON] = { 1, op_abandon },
	[STORM_DIE] = { 2, op_die },
	[STORM_RECLAIM] = { 4, op_reclaim },
	[STORM_DROP] = { 1, op_drop },
};

static enum storm_op choose(void)
{
	uint32_t all = 0, at;
	int i = 0;

	for (int k = 0; k < STORM_NR_OPS; k++)
		all += ops[k].weight;
	for (at = roll(all); at >= ops[i].weight; i++)
		at -= ops[i].weight;
	return (enum storm_op)i;
}

static void drop_stale(void)
{
	for (uint32_t i = 0; i < NR_VIEWS; i++)
		for (uint32_t k = 0; k < NR_SEQS; k++) {
			struct entry *e = &s.views[i].entries[k];

			if (e->seq && e->seq->stale) {
				s.report->lost++;
				entry_free(e);
			}
		}
}

/* Connected, nothing under way, nothing owed: then say what is held. */
static void settle(void)
{
	uint32_t nr_open;
	int r;

	do
		r = kvd_ping(s.k);
	while (r == -ENOTCONN && shaken());
	CHECK(!r, "client %u: %s", s.id, kvd_error(s.k));
	drop_stale();
	r = kvd_process(s.k);
	if (!r)
		r = hold_flush(s.k);
	s.torn = false;
	CHECK(!r && !s.k->holds.nr_released, "client %u: %s", s.id,
	      kvd_error(s.k));
	s.report->nr_held = held(true, &nr_open);
}

static void round_of(void)
{
	while (s.report->todo) {
		s.op = choose();
		s.report->todo--;
		s.report->nr[s.op]++;
		ops[s.op].f();
	}
	settle();
}

void storm_client(const struct storm_options *o, uint32_t id,
		  struct storm_report *report, int in, int out)
{
	char byte;

	s.o = o;
	s.id = id;
	s.report = report;
	s.rng = o->seed ^ ((uint64_t)id << 32 | report->incarnation) *
				  0xd1342543de82ef95ULL;
	client_connect();
	while (read(in, &byte, 1) == 1) {
		round_of();
		CHECK(write(out, &byte, 1) == 1, "the storm has gone");
	}
	kvd_close(s.k);
}
