// SPDX-License-Identifier: Apache-2.0
/*
 * partial_test.c - matches that end inside a page.
 *
 * One process publishes a prompt; another has a prompt that leaves it within a
 * page, at each of its tokens; a third takes what the second published. What
 * comes out is, bit for bit, what comes out without any of it.
 *
 *	client_partial [DEVICE [FIRST STEP]]
 *
 * Of the kinds every STEPth from the FIRST on, and then of the cuts every 11th:
 * a device that is emulated is slow.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "kernels/profile.h"
#include "kvd/profile.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define P TOY_PAGE
#define N (5 * P + 10)
#define FULL (5 * P)
#define AT (2 * P) /* the prompts part in the page that begins here */

static struct toy leader, toy, third;
static struct daemon d;
static const char *device = "host";
static uint64_t seed, hits;
static uint32_t salt, nr_branches, step_cuts = 1;
static uint32_t base[N];
static struct kvd_profile *profile;

static const struct kind {
	const char *formats;
	uint32_t exact_pages;
	uint32_t window;	/* of the second group; UINT32_MAX: no such */
	uint32_t exact_group;	/* of the second group */
	uint32_t calibrated;
} kinds[] = {
	{ "f16", 0, UINT32_MAX },
	{ "kivi2", 0, UINT32_MAX },
	{ "kivi4", 0, UINT32_MAX },
	{ "int8", 0, UINT32_MAX },
	{ "int4", 0, UINT32_MAX },
	{ "f16", 0, 33 },
	{ "int8", 3, 70 },
	{ "kivi4", 3, UINT32_MAX },
	{ "kivi2", 1, 40 },
	{ "k=kivi2,v=int8", 1, 0, 1 },
	{ "kvquant3", 0, UINT32_MAX, 0, 1 },
};

static const double freq[] = { 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001 };

static const struct kind *kind;

/* ---- what the daemon and the stock are made to refuse ---- */

static uint32_t lose_back;   /* which entry from the end is lost; 0: none */
static uint32_t refuse_take; /* which page of the stock is refused */

int __real_request_match_begin(struct kvd_space *sp, struct request_match *q,
			       const handle_t *handles, uint32_t nr);
int __wrap_request_match_begin(struct kvd_space *sp, struct request_match *q,
			       const handle_t *handles, uint32_t nr);
int __real_stock_take(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
		      struct hold **holds);
int __wrap_stock_take(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
		      struct hold **holds);

/* As if the daemon had reclaimed the page after the lookup. */
int __wrap_request_match_begin(struct kvd_space *sp, struct request_match *q,
			       const handle_t *handles, uint32_t nr)
{
	handle_t changed[WIRE_MAX_PAGES];

	if (!lose_back || !nr)
		return __real_request_match_begin(sp, q, handles, nr);
	memcpy(changed, handles, nr * sizeof(*handles));
	CHECK(changed[nr - lose_back], "no such page is asked for");
	changed[nr - lose_back] += 1ULL << 32;
	lose_back = 0;
	return __real_request_match_begin(sp, q, changed, nr);
}

int __wrap_stock_take(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
		      struct hold **holds)
{
	if (refuse_take && !--refuse_take)
		return -ENOSPC;
	return __real_stock_take(sp, page_class, nr, holds);
}

/* ---- kinds ---- */

static void kind_opts(struct kvd_space_opts *o)
{
	if (kind->window == UINT32_MAX)
		toy_opts(o, 1);
	else
		toy_opts_two_groups(o, 1, kind->window);
	CHECK(!kvd_formats_parse(kind->formats, &o->geometry.k_format,
				 &o->geometry.v_format), "formats");
	o->geometry.exact_pages = kind->exact_pages;
	o->geometry.v_group = 32;
	o->geometry.groups[1].exact = kind->exact_group;
	if (!kind->calibrated)
		return;
	o->geometry.rope_order = KVD_ROPE_PRE;
	o->geometry.profile = kvd_profile_digest(profile);
	o->profile = profile;
	o->rope.freq = freq;
	o->rope.nr_pairs = sizeof(freq) / sizeof(*freq);
}

static bool kind_whole(void)
{
	const struct kvd_geometry *g = &toy.opts.geometry;

	return kvd_formats_whole(g->k_format, g->v_format);
}

static bool kind_lags(void)
{
	const struct kvd_geometry *g = &toy.opts.geometry;

	return kind_whole() && kvd_formats_lag(g->k_format, g->v_format);
}

/* Are a page's rows found as they were appended? @at: a position in it. */
static bool kind_copies(size_t at)
{
	return !kind_whole() || kind_lags() || at / P < kind->exact_pages;
}

/* A profile of the toy's layers: codes evenly over [-1, 1]. */
static void make_profile(void)
{
	struct profile_shape shape = { 2, 2, 32, 32 };
	char path[] = "/tmp/kvd-partial-XXXXXX", why[256] = "";
	int fd = mkstemp(path);
	struct profile p;
	uint8_t *bytes;

	CHECK(fd >= 0 && !profile_init(&p, &shape), "profile");
	for (uint32_t bits = 2; bits <= 4; bits++)
		for (uint32_t b = 0; b < PROFILE_NR_BOOKS; b++)
			for (uint32_t i = 0; i < 2 * TABLES_CODES; i++) {
				uint32_t code = i % TABLES_CODES;

				p.parts[profile_book(b, bits)][i] =
					2 * (float)code / ((1u << bits) - 1) -
					1;
			}
	for (uint32_t i = 0; i < 2 * 2 * 32; i++) {
		p.parts[PROFILE_K_ZERO][i] = 0;
		p.parts[PROFILE_K_RANGE][i] = 1;
	}
	for (uint32_t i = 0; i < 2 * 2; i++)
		p.parts[PROFILE_K_AMAX][i] = p.parts[PROFILE_V_AMAX][i] = 1;
	for (uint32_t i = 0; i < 2 * 32 * 32; i++)
		p.parts[PROFILE_K_ROTATION][i] =
			p.parts[PROFILE_V_ROTATION][i] =
				i % 1024 / 32 == i % 32;
	bytes = malloc(profile_bytes(&p));
	profile_encode(&p, bytes);
	CHECK(write(fd, bytes, profile_bytes(&p)) == (ssize_t)profile_bytes(&p),
	      "%s", path);
	CHECK(!kvd_profile_load(path, &profile, why, sizeof(why)), "%s", why);
	unlink(path);
	close(fd);
	free(bytes);
	profile_fini(&p);
}

/* ---- sequences ---- */

static float *outputs(size_t n)
{
	float *out = calloc(n, toy_out_floats(&toy) * sizeof(float));

	CHECK(out, "out of memory");
	return out;
}

static void run(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
		size_t n, float *out)
{
	CHECK(!toy_run(t, seq, tokens, n, 1 + toy_random(&seed) % 60, out),
	      "%s: %s", kind->formats, kvd_error(t->k));
}

/* With nothing shared, and nothing left of it. */
static float *reference(const uint32_t *tokens)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	float *out = outputs(N);
	struct kvd_seq *seq;

	salt++;
	memcpy(o.extra, &salt, sizeof(salt));
	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "%s", kvd_error(toy.k));
	run(&toy, seq, tokens, N, out);
	kvd_seq_free(seq);
	return out;
}

static struct kvd_seq *match(struct toy *t, const struct kvd_seq_opts *o,
			     const uint32_t *tokens, size_t n, size_t want)
{
	struct kvd_seq *seq;
	size_t hit = SIZE_MAX;

	CHECK(!kvd_seq_new(t->sp, o, &seq), "%s", kvd_error(t->k));
	CHECK(!kvd_seq_match(seq, tokens, n, &hit), "%s", kvd_error(t->k));
	CHECK(hit == want && kvd_seq_tokens(seq) == want,
	      "%s: %zu of %zu tokens found, not %zu", kind->formats, hit, n,
	      want);
	hits += hit;
	return seq;
}

static struct kvd_seq_info info_of(const struct kvd_seq *seq)
{
	struct kvd_seq_info info = { .size = sizeof(info) };

	CHECK(!kvd_seq_info(seq, &info), "info");
	return info;
}

/* The rest of @tokens after what the sequence has is as in @ref; it goes. */
static void finish(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
		   const float *ref, const char *what)
{
	size_t all = toy_out_floats(&toy), n = kvd_seq_tokens(seq);
	float *out = outputs(N);

	run(t, seq, tokens + n, N - n, out);
	CHECK(!memcmp(ref + n * all, out, (N - n) * all * sizeof(float)),
	      "%s: %s: results differ after %zu tokens", kind->formats, what,
	      n);
	kvd_seq_free(seq);
	free(out);
	toy_sync(t);
}

/*
 * A prompt that has @c tokens of the page at AT in common with the leader's,
 * and the next with no other.
 */
static void branch(uint32_t *tokens, uint32_t c)
{
	memcpy(tokens, base, N * sizeof(*tokens));
	toy_tokens(&seed, tokens + AT + c, N - AT - c);
	tokens[AT + c] = base[AT + c] ^ ++nr_branches;
}

/* ---- tests ---- */

/* The prompt leaves the leader's at every token of a page. */
static void test_cuts(void)
{
	uint32_t tokens[N];
	float *ref;

	for (uint32_t c = 0; c < P; c += step_cuts) {
		uint32_t copied = kind_copies(AT) ? c : 0;
		struct kvd_seq_info info;
		struct kvd_seq *seq;
		size_t nr;

		branch(tokens, c);
		ref = reference(tokens);
		seq = match(&toy, NULL, tokens, N - 1, AT + copied);
		info = info_of(seq);
		CHECK(info.copied_tokens == copied && !info.requantized &&
		      !info.inexact_lag, "%s: info", kind->formats);
		CHECK(!kvd_seq_pages(seq, 0, NULL, 0, &nr) &&
		      nr == 2 + (copied != 0), "%zu pages", nr);
		CHECK(!kvd_commit(seq, NULL, 0, NULL) &&
		      kvd_commit(seq, tokens, 1, NULL) == -EINVAL,
		      "what was copied is stored, and no more");
		finish(&toy, seq, tokens, ref, "a cut page");
		seq = match(&third, NULL, tokens, N - 1, FULL);
		finish(&third, seq, tokens, ref, "published after a cut");
		free(ref);
	}
	ref = reference(base);
	finish(&third, match(&third, NULL, base, N - 1, FULL), base, ref,
	       "the leader's pages");
	free(ref);
}

/* The prompt ends, and there is more of the leader's; nothing whole at all. */
static void test_ends(void)
{
	static const uint32_t lengths[] = { 0, 1, P / 8 - 1, P / 8, P - 1,
					    AT + 1, AT + P - 1, AT + P };
	float *ref = reference(base);

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t n = lengths[i];
		bool whole = n < P / 8 || !kind_copies(n);

		finish(&toy, match(&toy, NULL, base, n, whole ? n / P * P : n),
		       base, ref, "a prompt that ends");
	}
	finish(&toy, match(&toy, NULL, NULL, 0, 0), base, ref, "no prompt");
	free(ref);
}

/* A sequence that matched can be forked, cut, and matched again. */
static void test_edit(void)
{
	uint32_t tokens[N];
	struct kvd_seq *seq, *child;
	size_t hit, want = kind_copies(AT) ? AT + 20 : AT;
	float *ref, *ref_base = reference(base);

	branch(tokens, 20);
	ref = reference(tokens);
	seq = match(&toy, NULL, tokens, N - 1, want);
	CHECK(!kvd_fork(seq, NULL, &child), "%s", kvd_error(toy.k));
	CHECK(!kvd_truncate(seq, want - (want > AT ? 7 : 0), NULL), "%s",
	      kvd_error(toy.k));
	finish(&toy, seq, base, ref_base, "cut again");
	if (kind->window == 0 || kind->window == UINT32_MAX) {
		CHECK(!kvd_truncate(child, 0, NULL), "%s", kvd_error(toy.k));
		CHECK(!kvd_seq_match(child, tokens, N - 1, &hit) && hit == want,
		      "%zu tokens", hit);
		hits += hit;
	}
	finish(&toy, child, tokens, ref, "a fork, matched again");
	free(ref);
	free(ref_base);
}

/* Who wants whole pages gets them; who cannot copy does too. */
static void test_whole(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_partial = 1 };
	struct kvd_space_opts ro = toy.opts;
	uint32_t tokens[N];
	struct toy reader;

	branch(tokens, 9);
	kvd_seq_free(match(&toy, &o, tokens, N - 1, AT));
	ro.read_only = 1;
	toy_open(&reader, d.socket, &ro);
	kvd_seq_free(match(&reader, NULL, tokens, N - 1, AT));
	toy_close(&reader);
}

/* The tail is exact, but the page before it is not any more: it says so. */
static void test_lag(void)
{
	uint32_t tokens[N];
	struct kvd_seq *seq;

	if (!kind_lags())
		return;
	branch(tokens, 9);
	toy_sync(&toy);
	lose_back = toy.opts.geometry.nr_groups;
	seq = match(&toy, NULL, tokens, N - 1, AT + 9);
	CHECK(!lose_back && info_of(seq).inexact_lag &&
	      !info_of(seq).requantized, "%s: info", kind->formats);
	kvd_seq_free(seq);
}

/* The page goes between lookup and hold, or there is none to copy it to. */
static void test_losses(void)
{
	uint32_t groups = toy.opts.geometry.nr_groups, tokens[N];
	float *ref;

	if (!kind_copies(AT))
		return;
	branch(tokens, 9);
	ref = reference(tokens);
	for (uint32_t g = 1; g <= groups; g++) {
		struct kvd_seq *seq;

		toy_sync(&toy); /* nothing is held from before */
		lose_back = g + (kind_lags() ? groups : 0);
		seq = match(&toy, NULL, tokens, N - 1, AT);
		CHECK(!lose_back, "nothing was asked for");
		kvd_seq_free(seq);
		refuse_take = g;
		seq = match(&toy, NULL, tokens, N - 1, AT);
		CHECK(!refuse_take && !info_of(seq).copied_tokens,
		      "nothing was taken");
		kvd_seq_free(seq);
	}
	refuse_take = 1;
	finish(&toy, match(&toy, NULL, tokens, N - 1, AT), tokens, ref,
	       "no page to copy to");
	/* A hit too many that was reported is taken off the next. */
	kvd_seq_free(match(&toy, NULL, base, N - 1, FULL));
	free(ref);
}

/*
 * Only quantized values are there: who asks for them goes on as after a
 * truncate, and nobody finds what he makes of them.
 */
static void test_inexact(uint32_t c)
{
	struct kvd_seq_opts lossy = { .size = sizeof(lossy),
				      .partial_inexact = 1 };
	struct kvd_seq_opts whole = { .size = sizeof(whole), .no_partial = 1 };
	size_t all = toy_out_floats(&toy);
	float *out = outputs(N), *ref;
	struct kvd_seq *seq;
	uint32_t tokens[N];

	branch(tokens, c);
	kvd_seq_free(match(&toy, NULL, tokens, N - 1, AT));
	seq = match(&third, &whole, base, N - 1, FULL);
	CHECK(!kvd_truncate(seq, AT + c, NULL), "%s", kvd_error(third.k));
	run(&third, seq, tokens + AT + c, N - AT - c, out);
	kvd_seq_free(seq);
	ref = reference(tokens);
	CHECK(memcmp(ref + (AT + c) * all, out,
		     (N - AT - c) * all * sizeof(float)),
	      "%s: no loss to be seen", kind->formats);
	memcpy(ref + (AT + c) * all, out, (N - AT - c) * all * sizeof(float));

	seq = match(&toy, &lossy, tokens, N - 1, AT + c);
	CHECK(info_of(seq).requantized == 1 &&
	      info_of(seq).copied_tokens == c, "%s: info", kind->formats);
	finish(&toy, seq, tokens, ref, "quantized values");
	kvd_seq_free(match(&third, &whole, tokens, N - 1, AT));
	free(ref);
	free(out);
}

/* Other sequences, until the oldest exact copies have gone. */
static void press(void)
{
	struct daemon_stat before, st;
	uint32_t tokens[N];

	daemon_stat(d.socket, &before);
	do {
		struct kvd_seq *seq;

		toy_tokens(&seed, tokens, N);
		CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
		run(&toy, seq, tokens, N, NULL);
		kvd_seq_free(seq);
		daemon_stat(d.socket, &st);
	} while (st.evicted < before.evicted + 20);
}

static void kind_begin(const char *const *args)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq;

	daemon_start(&d, args);
	hits = 0;
	kind_opts(&o);
	toy_tokens(&seed, base, N);
	toy_open(&leader, d.socket, &o);
	CHECK(!kvd_seq_new(leader.sp, NULL, &seq), "seq");
	run(&leader, seq, base, N, NULL);
	toy_close(&leader);
	toy_open(&toy, d.socket, &o);
	toy_open(&third, d.socket, &o);
}

/* Every token that was found is counted, those copied too, and no other. */
static void kind_end(void)
{
	struct daemon_stat st;

	toy_close(&toy);
	toy_close(&third);
	daemon_assert_idle(&d);
	daemon_stat(d.socket, &st);
	CHECK(st.hits == hits, "%s: %llu tokens hit, not %llu", kind->formats,
	      (unsigned long long)st.hits, (unsigned long long)hits);
	daemon_stop(&d);
}

static void test_kind(void)
{
	const char *const args[] = { "--device", device, NULL };

	kind_begin(args);
	/* First: pages that are alike in part are quantized each its way. */
	if (!kind_copies(AT))
		for (uint32_t c = 1; c < P; c += 5 * step_cuts)
			test_inexact(c);
	test_cuts();
	test_ends();
	test_edit();
	test_whole();
	test_lag();
	test_losses();
	kind_end();
}

/* The exact copies have made room: those are the first to go. */
static void test_no_copies(void)
{
	const char *const args[] = { "--device", device, "--pool", "8M",
				     "--segment", "8M", NULL };

	if (!kind_lags() || kind->exact_pages)
		return;
	kind_begin(args);
	press();
	for (uint32_t c = 3; c < P; c += 14)
		test_inexact(c);
	kind_end();
}

int main(int argc, char **argv)
{
	int first = argc > 3 ? atoi(argv[2]) : 0;
	int step = argc > 3 ? atoi(argv[3]) : 1;

	seed = toy_seed();
	if (argc > 1) {
		device = argv[1];
		if (!strncmp(device, "cuda", 4)) {
			toy_on_cuda(device);
			step_cuts = 11;
		}
	}
	make_profile();
	for (kind = kinds + first; kind < kinds + sizeof(kinds) / sizeof(*kinds);
	     kind += step) {
		printf("%s, %u exact pages\n", kind->formats,
		       kind->exact_pages);
		fflush(stdout);
		test_kind();
		test_no_copies();
	}
	kvd_profile_free(profile);
	return 0;
}
