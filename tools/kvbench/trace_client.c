// SPDX-License-Identifier: Apache-2.0
/*
 * trace_client.c - one client of a replay: what a worker does, less the model.
 *
 * A request is matched up to its last token but one; what was not found is
 * reserved, written and committed in chunks, as prefill does it; then the
 * sequence is freed. Pages are written through their addresses: a worker's
 * kernels would. Of each hit some pages are read, and must be as written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/host/host.h"
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/stats.h"
#include "tools/kvbench/trace_kv.h"
#include "tools/kvbench/trace_run.h"

#define NR_WATCHES 100 /* over a run */
#define NR_CHECKS  3   /* pages of a hit */
#define PIN_TTL_MS 86400000u
#define TIER_WAIT_MS 10000u

struct client {
	struct trace_run *run;
	struct trace_counts *counts;
	struct kvd *kvd;
	struct kvd_space *space;
	struct trace_request request;
	uint32_t *tokens; /* [total.longest] */
	struct kvd_page *pages;
	size_t max_pages;
	uint8_t *expected; /* a page */
	uint8_t *small[2]; /* what becomes of it over zeros, and over ones */
	struct kvd_seq *seq;
	uint32_t nr_tokens; /* of the request that are to be stored */
	int64_t held;       /* what it has in the run's counts */
	int64_t in_open;
};

static void count_held(struct client *c, uint32_t stored)
{
	uint32_t full = (uint32_t)kvd_seq_tokens(c->seq);
	int64_t in_open = stored - full / c->run->pool->open.page_tokens *
	                                   c->run->pool->open.page_tokens;

	atomic_fetch_add(&c->run->held, stored - c->held);
	atomic_fetch_add(&c->run->in_open, in_open - c->in_open);
	c->held = stored;
	c->in_open = in_open;
}

static void count_none(struct client *c)
{
	atomic_fetch_sub(&c->run->held, c->held);
	atomic_fetch_sub(&c->run->in_open, c->in_open);
	c->held = 0;
	c->in_open = 0;
}

/* ---- pages ---- */

static int get_pages(struct client *c, struct kvd_seq *seq,
                     struct kvd_bases *bases)
{
	size_t nr;
	int err;

	bases->size = sizeof(*bases);
	err = kvd_space_bases(c->space, bases);
	return err ? err : kvd_seq_pages(seq, 0, c->pages, c->max_pages, &nr);
}

/* Tokens [from, from + nr) of the request, into the pages of @seq. */
static int write_tokens(struct client *c, uint32_t from, uint32_t nr)
{
	const struct page_layout *l = &c->run->pool->open;
	struct kvd_bases bases;
	int err = get_pages(c, c->seq, &bases);

	while (nr && !err) {
		const struct kvd_page *p = &c->pages[from / l->page_tokens];
		uint32_t first = from % l->page_tokens;
		uint32_t n = l->page_tokens - first;
		uint8_t *to = bases.writable[p->segment];

		if (n > nr)
			n = nr;
		trace_kv_write(l, to + p->offset, c->tokens + from, first, n,
		               from - first);
		from += n;
		nr -= n;
	}
	return err;
}

/* @open, sealed by a sequence of its own, into c->expected. */
static int expect_sealed(struct client *c, const uint8_t *open,
                         const uint32_t *tokens)
{
	static const struct kvd_seq_opts opts = { .size = sizeof(opts),
		                                  .no_publish = 1 };
	const struct trace_pool *pool = c->run->pool;
	struct kvd_seq *seq = NULL;
	struct kvd_bases bases;
	int err = kvd_seq_new(c->space, &opts, &seq);

	if (!err)
		err = kvd_seq_reserve(seq, pool->open.page_tokens);
	if (!err)
		err = get_pages(c, seq, &bases);
	if (!err) {
		memcpy((uint8_t *)bases.writable[c->pages[0].segment] +
		               c->pages[0].offset,
		       open, pool->open.page_bytes);
		err = kvd_commit(seq, tokens, pool->open.page_tokens, NULL);
	}
	if (!err)
		err = get_pages(c, seq, &bases);
	if (!err)
		memcpy(c->expected,
		       (const uint8_t *)bases.read_only[c->pages[0].segment] +
		               c->pages[0].offset,
		       pool->sealed.page_bytes);
	kvd_seq_free(seq);
	return err;
}

/* c->expected as it is when it was demoted. Return: whether it can be. */
static bool expect_demoted(struct client *c)
{
	const struct trace_pool *pool = c->run->pool;
	uint32_t i, bad = 0;

	for (i = 0; i < 2; i++) {
		void *const bases[] = { c->expected, c->small[i] };
		const struct kv_convert_page page = {
			.to = { .segment = 1, .layout = 1 },
			.nr_tokens = pool->open.page_tokens,
		};
		const struct kv_convert_args a = {
			.layouts = { pool->sealed, pool->small },
			.bases = bases,
			.pages = &page,
			.nr_pages = 1,
			.nr_layers = pool->sealed.nr_layers,
			.nonfinite = &bad,
			.nr_threads = 1,
		};

		memset(c->small[i], i ? 0xff : 0, pool->small.page_bytes);
		host_kernels()->convert(&a);
	}
	return !bad;
}

/* Bits that the format leaves alone are what was there before. */
static bool is_demoted_so(const struct client *c, const uint8_t *page)
{
	const struct page_layout *l = &c->run->pool->small;
	uint8_t wrong = 0;
	size_t i;

	for (i = 0; i < (size_t)l->page_bytes; i++)
		wrong |= (c->small[0][i] ^ page[i]) &
		         ~(c->small[0][i] ^ c->small[1][i]);
	return !wrong;
}

/* What a page has that is somebody's: behind it is what was there before. */
static size_t record_bytes(const struct page_layout *l)
{
	return (size_t)l->nr_layers * l->nr_heads * l->record_bytes;
}

static bool is_as_written(struct client *c, const struct kvd_page *p,
                          const uint8_t *page)
{
	const struct trace_pool *pool = c->run->pool;

	if (p->page_class == geometry_demoted_class(&pool->geometry, 0))
		return expect_demoted(c) && is_demoted_so(c, page);
	return memcmp(c->expected, page, record_bytes(&pool->sealed)) == 0;
}

/* No room to see what a page is sealed to is no error: it goes unchecked. */
static int check_page(struct client *c, uint32_t block)
{
	const struct trace_pool *pool = c->run->pool;
	bool whole = geometry_sealed_class(&pool->geometry, 0) != 0;
	uint32_t at = block * pool->open.page_tokens;
	const struct kvd_page *p = &c->pages[block];
	struct kvd_bases bases = { .size = sizeof(bases) };
	struct kvd_page matched = *p;
	int err = 0;

	trace_kv_write(&pool->open, c->expected, c->tokens + at, 0,
	               pool->open.page_tokens, at);
	if (whole && matched.page_class != 0)
		err = expect_sealed(c, c->expected, c->tokens + at);
	if (err)
		return err == -ENOSPC || err == -EDQUOT ? 0 : err;
	err = kvd_space_bases(c->space, &bases);
	if (err)
		return err;
	c->counts->checked++;
	c->counts->bad += !is_as_written(
		c, &matched,
		(const uint8_t *)bases.read_only[matched.segment] +
			matched.offset);
	return 0;
}

/* The first page of a hit, the last, and one between. */
static int check_hit(struct client *c, size_t hit)
{
	uint32_t nr = (uint32_t)hit / c->run->pool->open.page_tokens, last = 0;
	struct kvd_bases bases;
	int i, err = 0;

	for (i = 0; i < NR_CHECKS && nr && !err; i++) {
		uint32_t block = i == 0   ? 0
		                 : i == 1 ? nr - 1
		                          : c->request.nr * 2654435761u % nr;

		if (i && block == last)
			continue;
		last = block;
		err = get_pages(c, c->seq, &bases);
		if (!err)
			err = check_page(c, block);
	}
	return err;
}

/* ---- a request ---- */

static void took(struct client *c, enum trace_op op, uint64_t start_ns)
{
	hist_add(&c->counts->ns[op], stats_now_ns() - start_ns);
}

/* What comes from a tier is waited for. */
static int match_tokens(struct client *c, size_t *ret_hit)
{
	size_t nr = c->request.input - 1;

	return c->run->o->tier ? kvd_seq_match_wait(c->seq, c->tokens, nr,
	                                            TIER_WAIT_MS, ret_hit)
	                       : kvd_seq_match(c->seq, c->tokens, nr, ret_hit);
}

static int match(struct client *c)
{
	struct kvd_seq_info info = { .size = sizeof(info) };
	uint64_t pinned = (uint64_t)trace_hot_pinned(&c->run->hot,
	                                             &c->request) * TRACE_BLOCK;
	uint64_t start_ns = stats_now_ns();
	size_t hit = 0;
	int err = match_tokens(c, &hit);

	took(c, TRACE_MATCH, start_ns);
	if (!err)
		err = kvd_seq_info(c->seq, &info);
	if (err)
		return err;
	count_held(c, (uint32_t)hit);
	c->counts->hit_tokens += hit;
	c->counts->copied_tokens += info.copied_tokens;
	c->counts->hit_demoted += info.demoted_tokens;
	c->counts->hit_pinned += hit < pinned ? hit : pinned;
	atomic_fetch_add(&c->run->hit, hit);
	return check_hit(c, hit);
}

/* Tokens [at, at + nr): pages for them, their contents, their names. */
static int store_chunk(struct client *c, uint32_t at, uint32_t nr)
{
	uint64_t start_ns = stats_now_ns();
	int err = kvd_seq_reserve(c->seq, nr);

	took(c, TRACE_RESERVE, start_ns);
	if (err)
		return err;
	err = write_tokens(c, at, nr);
	if (err)
		return err;
	start_ns = stats_now_ns();
	err = kvd_commit(c->seq, c->tokens + at, nr, NULL);
	took(c, TRACE_COMMIT, start_ns);
	if (err)
		return err;
	count_held(c, at + nr);
	c->counts->stored_tokens += nr;
	return 0;
}

/* Input in chunks that end where pages do; output page by page. */
static uint32_t next_chunk(const struct client *c, uint32_t at)
{
	uint32_t page = c->run->pool->open.page_tokens, chunk, end;

	chunk = at < c->request.input ? c->run->o->chunk : page;
	end = (at + chunk) / page * page;
	if (at < c->request.input && end > c->request.input)
		end = c->request.input;
	return (end < c->nr_tokens ? end : c->nr_tokens) - at;
}

static int store(struct client *c)
{
	uint32_t at = (uint32_t)kvd_seq_tokens(c->seq), nr;
	int err = 0;

	for (; at < c->nr_tokens && !err; at += nr) {
		nr = next_chunk(c, at);
		err = store_chunk(c, at, nr);
	}
	c->counts->no_space += err == -ENOSPC;
	c->counts->no_quota += err == -EDQUOT;
	return err == -ENOSPC || err == -EDQUOT ? 0 : err;
}

/* The first @tokens of the request, as far as they are there. */
static int pin_tokens(struct client *c, uint32_t tokens, size_t *ret_pinned)
{
	struct kvd_seq *seq;
	size_t hit;
	int err = kvd_seq_new(c->space, NULL, &seq);

	if (err)
		return err;
	err = kvd_seq_match(seq, c->tokens, tokens, &hit);
	if (!err && hit)
		err = kvd_seq_pin(seq, PIN_TTL_MS, ret_pinned);
	kvd_seq_free(seq);
	return err;
}

/* What is hot of it, when it is there for the first time. */
static int pin(struct client *c)
{
	struct trace_hot *h = &c->run->hot;
	uint32_t blocks = trace_hot_blocks(h, &c->request);
	size_t pinned = 0;
	int err;

	if (!blocks ||
	    trace_hot_get(h, &c->request, blocks) != TRACE_HOT_NOT_YET)
		return 0;
	err = pin_tokens(c, blocks * TRACE_BLOCK, &pinned);
	if (err == -EDQUOT) {
		trace_hot_set(h, &c->request, blocks, TRACE_HOT_REFUSED);
		return 0;
	}
	if (!err)
		trace_hot_set(h, &c->request, (uint32_t)pinned / TRACE_BLOCK,
		              TRACE_HOT_PINNED);
	return err == -ENOENT ? 0 : err;
}

/* Its sequence is as long as it will be. */
static int fullest(struct client *c)
{
	uint32_t every = c->run->o->total.requests / NR_WATCHES + 1;
	uint64_t held = (uint64_t)atomic_load(&c->run->held);
	struct trace_stat stat;

	c->counts->held += held;
	if (held > c->counts->held_max)
		c->counts->held_max = held;
	return c->request.nr % every ? 0 : trace_watch(c->run, false, &stat);
}

static int replay_request(struct client *c)
{
	uint64_t start_ns;
	int err = kvd_seq_new(c->space, NULL, &c->seq);

	if (err)
		return err;
	err = match(c);
	if (!err)
		err = store(c);
	if (!err)
		err = pin(c);
	if (!err)
		err = fullest(c);
	count_none(c);
	start_ns = stats_now_ns();
	kvd_seq_free(c->seq);
	took(c, TRACE_FREE, start_ns);
	c->counts->requests++;
	c->counts->input_tokens += c->request.input;
	atomic_fetch_add(&c->run->input, c->request.input);
	atomic_fetch_add(&c->run->done, 1);
	return err;
}

/* ---- all of them ---- */

static int open_client(struct client *c)
{
	struct kvd_space_opts o = { .size = sizeof(o), .nr_threads = 1 };
	const struct trace_pool *pool = c->run->pool;
	uint32_t bytes = pool->open.page_bytes > pool->sealed.page_bytes
	                         ? pool->open.page_bytes
	                         : pool->sealed.page_bytes;
	uint32_t longest = c->run->o->total.longest;
	int err;

	memcpy(o.model, "kvbench trace", sizeof("kvbench trace"));
	o.geometry = pool->geometry;
	c->max_pages = longest / pool->open.page_tokens + 1;
	c->tokens = calloc(longest, sizeof(*c->tokens));
	c->pages = calloc(c->max_pages, sizeof(*c->pages));
	c->expected = malloc(bytes);
	c->small[0] = malloc(pool->small.page_bytes);
	c->small[1] = malloc(pool->small.page_bytes);
	if (!c->tokens || !c->pages || !c->expected || !c->small[0] ||
	    !c->small[1])
		return -ENOMEM;
	err = daemon_connect(&c->run->daemon, "kvbench trace", &c->kvd);
	return err ? err : kvd_space_open(c->kvd, &o, &c->space);
}

static void complain(const struct client *c, int err)
{
	fprintf(stderr, "kvbench trace: request %u: %s: %s\n",
	        c->request.nr + 1, strerror(-err),
	        c->kvd ? kvd_error(c->kvd) : "no connection");
}

/* Return: 1; 0 at the end, or where another client has failed; -errno. */
static int next_request(struct client *c)
{
	int r = 0;

	pthread_mutex_lock(&c->run->file_lock);
	if (!atomic_load(&c->run->err))
		r = trace_next(&c->run->file, &c->request);
	if (!c->run->o->outputs)
		c->request.output = 0;
	if (r > 0)
		trace_model_request(&c->run->model, &c->request);
	pthread_mutex_unlock(&c->run->file_lock);
	if (r <= 0)
		return r;
	c->nr_tokens = c->request.input + c->request.output;
	trace_tokens(&c->request, c->tokens);
	return 1;
}

void trace_client(struct trace_run *run, struct trace_counts *counts)
{
	struct client c = { .run = run, .counts = counts };
	int r, err = open_client(&c), none = 0;

	if (err)
		complain(&c, err);
	while (!err) {
		r = next_request(&c);
		if (r <= 0) {
			err = r;
			break;
		}
		err = replay_request(&c);
		if (err)
			complain(&c, err);
	}
	if (err)
		atomic_compare_exchange_strong(&run->err, &none, err);
	kvd_close(c.kvd);
	free(c.tokens);
	free(c.pages);
	free(c.expected);
	free(c.small[0]);
	free(c.small[1]);
	free(c.request.ids);
}
