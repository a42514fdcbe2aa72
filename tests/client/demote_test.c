// SPDX-License-Identifier: Apache-2.0
/*
 * demote_test.c - a prefix that lost bits is found, and gone on with.
 *
 * Prompts come until pages of one are demoted. Then a match has all of it, says
 * how much in fewer bits, and what is attended over it differs by that
 * quantization alone. That the bytes are right is tested
 * where they are made (dev_convert), attention over pages of several formats
 * with the kernels.
 *
 *	client_demote [DEVICE [NUMBER_OF_KINDS]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/manager.h"

#define N     400u
#define P     TOY_PAGE
#define HIT   (N / P * P)
#define CUT   (HIT - 10)	/* where it is cut, and */
#define EARLY (P + 5)	/* where a window does not forbid it */
#define FULL  400	/* prompts, no pool has room for them */
#define LAYERS 6u	/* pages are large: few in a slab */

static uint64_t seed;
static uint32_t tokens[N];

static const char *args[] = { "--device", "host", "--pool", "24M",
			      "--segment", "4M", "--set", "policy=lru", NULL };

static const struct kind {
	const char *formats, *demoted;
	uint32_t exact_pages, window, tile_order;
	double error;	/* relative, of what is attended over it, at most */
} kinds[] = {
	{ "int8", "int4", 0, UINT32_MAX, KVD_TILE_ROW, 0.15 },
	{ "int8", "k=int8,v=int4", 1, 70, KVD_TILE_ROW, 0.15 },
	{ "kvarn4", "kvarn2", 0, UINT32_MAX, KVD_TILE_MMA, 0.6 },
	{ "kivi4", "kivi2", 2, 0, KVD_TILE_ROW, 0.6 },
};

static const struct kind *kind;

static void open_toy(struct toy *t, const char *socket)
{
	struct kvd_space_opts o;
	struct kvd_geometry *g = &o.geometry;

	if (kind->window == UINT32_MAX)
		toy_opts(&o, 1);
	else
		toy_opts_two_groups(&o, 1, kind->window);
	CHECK(!kvd_formats_parse(kind->formats, &g->k_format, &g->v_format) &&
	      !kvd_formats_parse(kind->demoted, &g->demote_k, &g->demote_v),
	      "formats");
	g->exact_pages = kind->exact_pages;
	g->tile_order = kind->tile_order;
	g->v_group = 32;
	g->groups[0].nr_layers = LAYERS;
	o.wait_ms = 10 * TOY_WAIT_MS; /* for a GPU that is emulated, too */
	toy_open(t, socket, &o);
}

static float *outputs(struct toy *t)
{
	float *out = calloc(N, toy_out_floats(t) * sizeof(float));

	CHECK(out, "out of memory");
	return out;
}

/* Goes on with @seq to the end of the prompt. */
static void go_on(struct toy *t, struct kvd_seq *seq, float *out)
{
	size_t from = kvd_seq_tokens(seq), all = toy_out_floats(t);

	CHECK(!toy_run(t, seq, tokens + from, N - from, 50, out + from * all),
	      "%s: %s", kind->formats, kvd_error(t->k));
}

/* The prompt, computed by who looks for nothing. */
static void compute(struct toy *t, bool no_publish, float *out)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = no_publish };
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(t->sp, &o, &seq), "%s", kvd_error(t->k));
	go_on(t, seq, out);
	kvd_seq_free(seq);
}

/* One more prompt, found by the next who asks. */
static void publish(struct toy *t, uint32_t *prompt)
{
	struct kvd_seq *seq;

	toy_tokens(&seed, prompt, N);
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "%s", kvd_error(t->k));
	CHECK(!toy_fill(t, seq, prompt, N), "%s: %s", kind->formats,
	      kvd_error(t->k));
	kvd_seq_free(seq);
}

static struct kvd_seq_info info_of(struct toy *t, const struct kvd_seq *seq)
{
	struct kvd_seq_info info = { .size = sizeof(info) };

	CHECK(!kvd_seq_info(seq, &info), "%s", kvd_error(t->k));
	return info;
}

/* Which blocks have a page in the smaller formats, by the low view. */
static uint32_t demoted_blocks(struct toy *t, struct kvd_seq *seq,
			       bool demoted[N / P])
{
	const struct kvd_geometry *g = &t->opts.geometry;
	struct kvd_page pages[N / P + 1];
	uint32_t count = 0;
	size_t nr;

	memset(demoted, 0, N / P * sizeof(bool));
	for (uint32_t group = 0; group < g->nr_groups; group++) {
		CHECK(!kvd_seq_pages(seq, group, pages, N / P + 1, &nr), "%s",
		      kvd_error(t->k));
		for (size_t i = 0; i < nr && i < N / P; i++) {
			struct kvd_record r = { .size = sizeof(r) };

			CHECK(!kvd_space_record(t->sp, pages[i].page_class, &r),
			      "%s", kvd_error(t->k));
			demoted[i] |= pages[i].segment != UINT32_MAX &&
				      r.k_format == g->demote_k &&
				      r.v_format == g->demote_v;
		}
	}
	for (size_t i = 0; i < N / P; i++)
		count += demoted[i];
	return count;
}

/* Of all that is tested with, some of it demoted, some maybe not. */
static bool will_do(struct toy *t, struct kvd_seq *seq, size_t hit)
{
	bool demoted[N / P];

	return hit == HIT && demoted_blocks(t, seq, demoted) &&
	       demoted[CUT / P] &&
	       (demoted[EARLY / P] || kind->window != UINT32_MAX);
}

/* All of the prompt's pages. Return: a sequence. */
static struct kvd_seq *match(struct toy *t, uint64_t *ret_demoted)
{
	struct kvd_seq_info info;
	bool demoted[N / P];
	struct kvd_seq *seq;
	size_t hit;

	seq = toy_match(t, tokens, N, &hit);
	CHECK(hit == HIT, "%s: hit %zu", kind->formats, hit);
	info = info_of(t, seq);
	CHECK(info.demoted_tokens == P * (uint64_t)demoted_blocks(t, seq, demoted),
	      "%s: %llu tokens demoted", kind->formats,
	      (unsigned long long)info.demoted_tokens);
	*ret_demoted = info.demoted_tokens;
	return seq;
}

/*
 * Prompts are published until all of one is found, some of it demoted: that is
 * the prompt. Return: it, held, so that it stays as it is.
 */
static struct kvd_seq *prepare(struct toy *t, const struct daemon *d)
{
	static uint32_t prompts[FULL][N];
	struct daemon_stat st;
	struct kvd_seq *seq;
	size_t hit;

	for (int nr = 0; nr < FULL; nr++) {
		publish(t, prompts[nr]);
		daemon_stat(d->socket, &st);
		for (int i = 0; st.demoted > HIT / P && i < nr; i++) {
			seq = toy_match(t, prompts[i], N, &hit);
			if (will_do(t, seq, hit)) {
				memcpy(tokens, prompts[i], sizeof(tokens));
				return seq;
			}
			kvd_seq_free(seq);
		}
	}
	CHECK(0, "%s: nothing is demoted", kind->formats);
	return NULL;
}

/* @out differs from @ref by quantization, and no more. */
static void close_to(struct toy *t, const float *out, const float *ref,
		     size_t from, const char *what)
{
	size_t all = toy_out_floats(t);
	double diff = 0, sum = 0, error;

	for (size_t i = from * all; i < N * all; i++) {
		diff += (out[i] - ref[i]) * (out[i] - ref[i]);
		sum += ref[i] * ref[i];
	}
	error = sqrt(diff / sum);
	printf("%s > %s, %s: relative error %.3g\n", kind->formats,
	       kind->demoted, what, error);
	CHECK(error > 0 && error < kind->error, "%s, %s: error %g",
	      kind->formats, what, error);
}

static void equal(struct toy *t, const float *a, const float *b, size_t from,
		  const char *what)
{
	size_t all = toy_out_floats(t);

	CHECK(!memcmp(a + from * all, b + from * all,
		      (N - from) * all * sizeof(float)),
	      "%s, %s: outputs differ", kind->formats, what);
}

/*
 * Cut within a demoted page it goes on in a copy that can be appended to; what
 * follows was quantized twice, and is not published.
 */
static void check_cut(struct toy *t, uint32_t n, const float *ref)
{
	struct kvd_seq_info info;
	float *out = outputs(t);
	uint64_t demoted, again;
	struct kvd_seq *seq;

	seq = match(t, &demoted);
	CHECK(!kvd_truncate(seq, n, NULL), "%s", kvd_error(t->k));
	info = info_of(t, seq);
	CHECK(info.requantized && info.demoted_tokens < demoted,
	      "%s: %llu of %llu tokens are demoted yet", kind->formats,
	      (unsigned long long)info.demoted_tokens,
	      (unsigned long long)demoted);
	go_on(t, seq, out);
	close_to(t, out, ref, n, "cut");
	kvd_seq_free(seq);
	seq = match(t, &again);
	CHECK(again == demoted, "%s: what is private was published",
	      kind->formats);
	kvd_seq_free(seq);
	free(out);
}

/* Held over a restart of kvd the pages are what they were. */
static void check_restart(struct toy *t, struct manager *m, const float *out)
{
	float *again = outputs(t);
	uint64_t demoted;
	struct kvd_seq *seq = match(t, &demoted);

	manager_kill(m);
	manager_again(m, args);
	go_on(t, seq, again);
	equal(t, again, out, HIT, "after a restart");
	kvd_seq_free(seq);
	seq = match(t, &demoted);
	CHECK(demoted, "%s: a restart undoes nothing", kind->formats);
	kvd_seq_free(seq);
	free(again);
}

static void test_kind(void)
{
	float *ref, *out, *again;
	uint64_t demoted;
	struct kvd_seq *seq, *held;
	struct manager m;
	struct toy t;

	manager_start(&m, args);
	open_toy(&t, m.daemon.socket);
	ref = outputs(&t);
	out = outputs(&t);
	again = outputs(&t);
	held = prepare(&t, &m.daemon);
	compute(&t, true, ref);
	for (int i = 0; i < 2; i++) {
		seq = match(&t, &demoted);
		CHECK(demoted, "%s: nothing of it is demoted", kind->formats);
		go_on(&t, seq, i ? again : out);
		kvd_seq_free(seq);
	}
	close_to(&t, out, ref, HIT, "found");
	equal(&t, again, out, HIT, "once more");
	check_cut(&t, CUT, ref);
	if (kind->window == UINT32_MAX)
		check_cut(&t, EARLY, ref);
	check_restart(&t, &m, out);

	/* In full again: nothing is lost any more. */
	kvd_seq_free(held);
	compute(&t, false, again);
	equal(&t, again, ref, 0, "computed again");
	seq = match(&t, &demoted);
	CHECK(!demoted, "%s: %llu tokens are demoted yet", kind->formats,
	      (unsigned long long)demoted);
	go_on(&t, seq, again);
	equal(&t, again, ref, HIT, "in full again");
	kvd_seq_free(seq);
	toy_close(&t);
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
	free(ref);
	free(out);
	free(again);
}

int main(int argc, char **argv)
{
	size_t nr = sizeof(kinds) / sizeof(kinds[0]);

	seed = toy_seed();
	if (argc > 1) {
		toy_on_cuda(argv[1]);
		args[1] = argv[1];
	}
	if (argc > 2)
		nr = (size_t)atoi(argv[2]);
	for (kind = kinds; kind < kinds + nr; kind++)
		test_kind();
	return 0;
}
