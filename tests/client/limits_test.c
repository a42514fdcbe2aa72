// SPDX-License-Identifier: Apache-2.0
/* limits_test.c - bad arguments, full pools, recalls, read-only spaces. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 620u

static struct daemon d;
static struct toy toy;
static uint64_t seed;
static uint32_t tokens[N];

static void refused(struct kvd_space_opts o, const char *what)
{
	struct kvd_space *sp;

	CHECK(kvd_space_open(toy.k, &o, &sp) == -EINVAL, "%s", what);
	CHECK(strlen(kvd_error(toy.k)) > 8, "%s: no text", what);
}

static void test_open(void)
{
	struct kvd_connect_opts c = { .size = sizeof(c),
				      .socket = "/nonexistent/kvd.sock" };
	struct kvd *k = (struct kvd *)&c;
	struct kvd_space_opts o;
	struct { struct kvd_space_opts o; uint64_t more; } longer;

	CHECK(kvd_connect(&c, &k) == -ENOTCONN, "nobody there");
	CHECK(k == (struct kvd *)&c, "touched on failure");
	toy_opts(&o, 1);
	o.geometry.page_tokens = 33;
	refused(o, "page_tokens");
	toy_opts(&o, 1);
	o.geometry.nr_groups = 9;
	refused(o, "nr_groups");
	toy_opts(&o, 1);
	o.size = 8;
	refused(o, "size");
	toy_opts(&o, 1);
	o.tp_rank = 1;
	refused(o, "tp_rank");
	toy_opts(&o, 1);
	o.nr_threads = 1025;
	refused(o, "nr_threads");
	memset(&longer, 0, sizeof(longer));
	toy_opts(&longer.o, 1);
	longer.o.size = sizeof(longer);
	longer.more = 1;
	CHECK(kvd_space_open(toy.k, &longer.o, (struct kvd_space **)&k) ==
	      -EINVAL, "a field of the future");
}

/* A space opens once a connection; the one that is open stays whole. */
static void test_twice(void)
{
	struct kvd_space_opts o = toy.opts;
	struct kvd_space *sp;
	struct kvd_page page;

	refused(o, "opened twice");
	o.read_only = 1;
	refused(o, "opened twice, read-only");
	CHECK(!kvd_page_alloc(toy.sp, 0, 1, &page), "%s", kvd_error(toy.k));
	CHECK(!kvd_page_free(toy.sp, &page, 1), "%s", kvd_error(toy.k));
	toy_opts(&o, 9);
	CHECK(!kvd_space_open(toy.k, &o, &sp), "%s", kvd_error(toy.k));
	refused(o, "the second space twice");
	kvd_space_close(sp);
	CHECK(!kvd_space_open(toy.k, &o, &sp), "once closed");
	kvd_space_close(sp);
}

static void test_append_args(void)
{
	float row[256] = { 0 };
	struct kvd_item items[2] = { { NULL, 1 }, { NULL, 1 } };
	struct kvd_append_args a = { .size = sizeof(a), .items = items,
				     .nr_items = 1, .k = row, .v = row };
	struct kvd_attend_args t = { .size = sizeof(t), .items = items,
				     .nr_items = 1, .nr_q_heads = 2, .q = row,
				     .out = row };
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "no sequence");
	items[0].seq = items[1].seq = seq;
	CHECK(kvd_attend(toy.sp, &t) == -EINVAL, "nothing appended");
	a.layer = 2;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "layer");
	a.layer = 0;
	a.group = 1;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "group");
	a.group = 0;
	a.dtype = KVD_NR_DTYPES;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "dtype");
	a.dtype = KVD_DTYPE_F32;
	a.k_stride = 63;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "stride");
	a.k_stride = 0;
	a.nr_items = 2;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "the same sequence twice");
	a.nr_items = 1;
	items[0].nr_tokens = UINT32_MAX;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "too many tokens");
	items[0].nr_tokens = 1;
	a.size = 4;
	CHECK(kvd_append(toy.sp, &a) == -EINVAL, "size");
	a.size = sizeof(a);
	CHECK(!kvd_append(toy.sp, &a), "%s", kvd_error(toy.k));
	CHECK(kvd_commit(seq, tokens, 1, NULL) == -EINVAL,
	      "layer 1 is missing");
	a.layer = 1;
	CHECK(!kvd_append(toy.sp, &a), "%s", kvd_error(toy.k));
	CHECK(kvd_commit(seq, tokens, 2, NULL) == -EINVAL, "too many");
	CHECK(kvd_commit(seq, NULL, 1, NULL) == -EINVAL, "no ids");
	t.nr_q_heads = 3;
	CHECK(kvd_attend(toy.sp, &t) == -EINVAL, "q heads");
	t.nr_q_heads = 2;
	items[0].nr_tokens = 2;
	CHECK(kvd_attend(toy.sp, &t) == -EINVAL, "more than appended");
	items[0].nr_tokens = 1;
	CHECK(!kvd_attend(toy.sp, &t), "%s", kvd_error(toy.k));
	CHECK(!kvd_commit(seq, tokens, 1, NULL), "%s", kvd_error(toy.k));
	CHECK(kvd_seq_match(seq, tokens, 1, &(size_t){ 0 }) == -EINVAL,
	      "match with tokens");
	kvd_seq_free(seq);
	kvd_seq_free(NULL);
	kvd_space_close(NULL);
	kvd_close(NULL);
}

static void test_view(void)
{
	struct kvd_record rec = { .size = sizeof(rec) };
	struct kvd_bases bases = { .size = sizeof(bases) };
	struct kvd_seq_opts private = { .size = sizeof(private),
					.no_publish = 1 };
	struct kvd_page pages[3], bad;
	struct kvd_seq *seq;
	size_t nr;
	char *p;

	CHECK(!kvd_space_record(toy.sp, 0, &rec), "record");
	CHECK(rec.page_bytes >= 2 * 2 * rec.record_bytes, "record size");
	CHECK(kvd_space_record(toy.sp, 1, &rec) == -EINVAL, "class");
	CHECK(!kvd_page_alloc(toy.sp, 0, 3, pages), "%s", kvd_error(toy.k));
	CHECK(!kvd_space_bases(toy.sp, &bases) && bases.nr, "bases");
	p = (char *)bases.writable[pages[0].segment] + pages[0].offset;
	memset(p, 0xff, rec.page_bytes); /* NaNs that nobody may read */
	p = (char *)(uintptr_t)bases.read_only[pages[0].segment] +
	    pages[0].offset;
	CHECK(p[rec.page_bytes - 1] == (char)0xff, "two mappings of one page");
	bad = pages[1];
	bad.handle ^= 1ULL << 40;
	CHECK(kvd_page_free(toy.sp, &bad, 1) == -ESTALE, "a stale handle");
	CHECK(!kvd_page_free(toy.sp, pages, 3), "free");
	CHECK(kvd_page_free(toy.sp, pages, 1) == -ESTALE, "freed twice");
	CHECK(kvd_page_alloc(toy.sp, 7, 1, pages) == -EINVAL, "class");

	CHECK(!kvd_seq_new(toy.sp, &private, &seq), "seq");
	CHECK(!kvd_seq_reserve(seq, 40), "reserve");
	CHECK(!kvd_seq_pages(seq, 0, pages, 1, &nr) && nr == 2, "pages");
	CHECK(kvd_seq_pages(seq, 9, pages, 1, &nr) == -EINVAL, "group");
	CHECK(kvd_page_free(toy.sp, pages, 1) == -ESTALE, "not loose");
	CHECK(!kvd_commit(seq, tokens, 40, NULL), "its caller's word");
	kvd_seq_free(seq);
}

/* A tenant that may have all of the pool sees its own limit, or the pool's. */
static bool full(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* Takes all there is; says how many pages that was. */
static size_t drain(struct toy *t, struct kvd_page *pages, size_t max)
{
	size_t n = 0;
	int r = 0;

	while (n < max && !(r = kvd_page_alloc(t->sp, 0, 1, pages + n)))
		n++;
	CHECK(full(r), "%s: %s", strerror(-r), kvd_error(t->k));
	return n;
}

/* What was stored and not committed is in no match's way. */
static void test_match_again(void)
{
	struct kvd_seq *seq;
	size_t nr, hit;

	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(!toy_run(&toy, seq, tokens, 100, 100, NULL), "run");
	kvd_seq_free(seq);
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(!kvd_seq_reserve(seq, 200), "reserve");
	CHECK(!kvd_seq_match(seq, tokens, 100, &hit) && hit == 96, "%s",
	      kvd_error(toy.k));
	CHECK(!kvd_seq_pages(seq, 0, NULL, 0, &nr) && nr == 3, "pages %zu",
	      nr);
	CHECK(kvd_commit(seq, tokens + 96, 1, NULL) == -EINVAL,
	      "nothing is stored after a match");
	CHECK(!toy_run(&toy, seq, tokens + 96, 4, 4, NULL), "run");
	kvd_seq_free(seq);
}

/* A request too large for the pool takes nothing away from others. */
static void test_too_much(void)
{
	struct daemon_stat st;
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(full(kvd_seq_reserve(seq, 4000 * TOY_PAGE)), "%s",
	      kvd_error(toy.k));
	daemon_stat(d.socket, &st);
	CHECK(st.open <= 64, "%llu pages", (unsigned long long)st.open);
	kvd_seq_free(seq);
}

static void test_full(void)
{
	enum { MAX = 20000 };
	struct kvd_page *pages = calloc(MAX, sizeof(*pages));
	struct kvd_seq *seq;
	float *ref = calloc(N, toy_out_floats(&toy) * sizeof(float));
	float *out = calloc(N, toy_out_floats(&toy) * sizeof(float));
	size_t n, got = 0;

	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(!toy_run(&toy, seq, tokens, N, N, ref), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(!toy_run(&toy, seq, tokens, 40, 40, out), "run");
	n = drain(&toy, pages, MAX);
	CHECK(n > 100, "only %zu pages", n);
	CHECK(full(toy_run(&toy, seq, tokens + 40, 100, 100, NULL)),
	      "a full pool");
	CHECK(kvd_seq_tokens(seq) == 40, "tokens");
	CHECK(!toy_run(&toy, seq, tokens + 40, 24, 24,
		       out + 40 * toy_out_floats(&toy)), "what it has goes on");
	CHECK(!kvd_page_free(toy.sp, pages, n), "free");
	CHECK(!toy_run(&toy, seq, tokens + 64, N - 64, 50,
		       out + 64 * toy_out_floats(&toy)), "%s",
	      kvd_error(toy.k));
	CHECK(!memcmp(ref, out, N * toy_out_floats(&toy) * sizeof(float)),
	      "after a full pool");
	kvd_seq_free(seq);
	got = drain(&toy, pages, MAX);
	CHECK(got >= n, "%zu pages, once %zu", got, n);
	CHECK(!kvd_page_free(toy.sp, pages, got), "free");
	free(pages);
	free(ref);
	free(out);
}

/* A stock is given back when somebody else needs it. */
static void test_recall(void)
{
	enum { MAX = 20000 };
	struct kvd_page *pages = calloc(MAX, sizeof(*pages)), one;
	struct daemon_stat st;
	struct toy other;
	size_t n;

	toy_open(&other, d.socket, &toy.opts);
	CHECK(!kvd_page_alloc(other.sp, 0, 1, &one), "alloc");
	CHECK(!kvd_page_free(other.sp, &one, 1), "free");
	daemon_stat(d.socket, &st);
	CHECK(st.open > 1, "no stock: %llu", (unsigned long long)st.open);
	n = drain(&toy, pages, MAX);
	for (int i = 0; i < 100; i++)
		CHECK(!kvd_process(other.k), "process");
	daemon_stat(d.socket, &st);
	CHECK(st.open == n, "%llu open, %zu taken",
	      (unsigned long long)st.open, n);
	CHECK(!kvd_page_free(toy.sp, pages, n), "free");
	toy_close(&other);
	free(pages);
}

static void test_read_only(void)
{
	struct kvd_space_opts o = toy.opts;
	struct kvd_bases bases = { .size = sizeof(bases) };
	struct kvd_page page;
	struct kvd_seq *seq, *fork;
	struct toy ro;
	size_t all = toy_out_floats(&toy), hit;
	float *ref = calloc(N, all * sizeof(float));
	float *out = calloc(N, all * sizeof(float));

	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	CHECK(!toy_run(&toy, seq, tokens, N, N, ref), "run");
	kvd_seq_free(seq);
	o.read_only = 1;
	toy_open(&ro, d.socket, &o);
	CHECK(kvd_page_alloc(ro.sp, 0, 1, &page) == -EACCES, "alloc");
	seq = toy_match(&ro, tokens, N, &hit);
	CHECK(hit == 608, "hit %zu", hit);
	CHECK(!kvd_space_bases(ro.sp, &bases) && bases.nr &&
	      !bases.writable[0], "writable");
	CHECK(toy_run(&ro, seq, tokens + 608, 1, 1, NULL) == -EACCES,
	      "append");
	CHECK(!kvd_fork(seq, NULL, &fork), "%s", kvd_error(ro.k));
	CHECK(!kvd_truncate(seq, 250, NULL), "%s", kvd_error(ro.k));
	CHECK(!toy_attend(&ro, seq, tokens + 250, 38, out), "%s",
	      kvd_error(ro.k));
	CHECK(!memcmp(out, ref + 250 * all, 38 * all * sizeof(float)),
	      "a read-only attend");
	kvd_seq_free(fork);
	CHECK(!kvd_truncate(seq, 10, NULL), "%s", kvd_error(ro.k));
	CHECK(!kvd_fork(seq, NULL, &fork), "%s", kvd_error(ro.k));
	CHECK(kvd_seq_tokens(fork) == 10, "tokens of the fork");
	CHECK(!kvd_truncate(seq, 0, NULL), "%s", kvd_error(ro.k));
	CHECK(!kvd_seq_match(seq, tokens, N, &hit) && hit == 608, "%s",
	      kvd_error(ro.k));
	CHECK(kvd_commit(seq, tokens + 10, 1, NULL) == -EACCES, "commit");
	CHECK(kvd_seq_reserve(seq, 1) == -EACCES, "reserve");
	toy_close(&ro);
	free(ref);
	free(out);
}

/* The stock needs no daemon, and comes and goes with a loose page. */
static void test_stock(void)
{
	struct kvd_page a, b;

	CHECK(!kvd_page_alloc(toy.sp, 0, 1, &a), "alloc");
	CHECK(!kvd_page_free(toy.sp, &a, 1), "free");
	daemon_kill(&d);
	for (int i = 0; i < 1000; i++) {
		CHECK(!kvd_page_alloc(toy.sp, 0, 1, &b), "%s",
		      kvd_error(toy.k));
		CHECK(a.handle == b.handle, "another page");
		CHECK(!kvd_page_free(toy.sp, &b, 1), "free");
	}
	CHECK(kvd_process(toy.k) == -ENOTCONN, "no daemon");
	CHECK(kvd_fd(toy.k) == -1, "fd");
}

/* A record is wanted of a space that nobody has open, with so many pages that
 * they go in steps. */
static void test_recycle(void)
{
	static const char *const args[] = { "--pool", "32M", "--segment", "4M",
					    "--set", "max-spaces-per-tenant=2",
					    NULL };
	uint32_t prompt[N];
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	struct toy a, b;
	struct daemon own;
	size_t hit;

	daemon_start(&own, args);
	toy_opts(&o, 1);
	toy_open(&a, own.socket, &o);
	for (int i = 0; i < 30; i++) {
		toy_tokens(&seed, prompt, N);
		seq = toy_match(&a, prompt, N, &hit);
		CHECK(!toy_run(&a, seq, prompt, N, N, NULL), "run");
		kvd_seq_free(seq);
	}
	toy_close(&a);
	toy_opts(&o, 2);
	toy_open(&a, own.socket, &o);
	toy_opts(&o, 3);
	toy_open(&b, own.socket, &o);
	toy_close(&b);
	toy_close(&a);
	daemon_assert_idle(&own);
	daemon_remove(&own);
}

int main(void)
{
	static const char *const args[] = { "--pool", "32M", "--segment", "4M",
					    NULL };
	struct kvd_space_opts o;

	seed = toy_seed();
	toy_tokens(&seed, tokens, N);
	daemon_start(&d, args);
	toy_opts(&o, 1);
	o.wait_ms = 0;
	toy_open(&toy, d.socket, &o);
	test_open();
	test_twice();
	test_append_args();
	test_view();
	test_match_again();
	test_too_much();
	test_full();
	test_recall();
	test_read_only();
	toy_close(&toy);
	daemon_assert_idle(&d);
	toy_open(&toy, d.socket, &o);
	test_stock();
	toy_close(&toy);
	daemon_remove(&d);
	test_recycle();
	return 0;
}
