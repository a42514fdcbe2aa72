// SPDX-License-Identifier: Apache-2.0
/*
 * names_test.c - how many names are computed: none of blocks that are found by
 * the one before them, one of each that is published.
 *
 * name_block() of the library is counted. What is found is what is found by
 * names: the wide fork has more children than a match looks at.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/name.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define BLOCKS 20u
#define N (BLOCKS * TOY_PAGE)
#define NR_FORKS 12u

struct name __real_name_block(const struct name_key *key,
			      const struct name *parent,
			      const struct name *extra, const uint32_t *tokens,
			      uint32_t nr);
struct name __wrap_name_block(const struct name_key *key,
			      const struct name *parent,
			      const struct name *extra, const uint32_t *tokens,
			      uint32_t nr);

static unsigned nr_names;

struct name __wrap_name_block(const struct name_key *key,
			      const struct name *parent,
			      const struct name *extra, const uint32_t *tokens,
			      uint32_t nr)
{
	nr_names++;
	return __real_name_block(key, parent, extra, tokens, nr);
}

static struct daemon daemon_;
static struct kvd_space_opts opts;
static uint32_t tokens[N];

/* A sequence of whole pages: what was found, and names computed for it. */
static struct kvd_seq *match(struct toy *t, size_t n, size_t want_hit,
			     unsigned want_names)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_partial = 1 };
	struct kvd_seq *seq;
	size_t hit = 0;

	CHECK(!kvd_seq_new(t->sp, &o, &seq), "%s", kvd_error(t->k));
	nr_names = 0;
	CHECK(!kvd_seq_match(seq, tokens, n, &hit), "%s", kvd_error(t->k));
	CHECK(hit == want_hit, "hit %zu of %zu", hit, want_hit);
	CHECK(nr_names == want_names, "%u names for %zu tokens found",
	      nr_names, hit);
	return seq;
}

/* Tokens @from on are added; whole pages are published under new names. */
static void feed(struct toy *t, struct kvd_seq *seq, size_t from, size_t n)
{
	nr_names = 0;
	CHECK(!toy_run(t, seq, tokens + from, n, 13, NULL), "%s",
	      kvd_error(t->k));
	CHECK(nr_names == (from + n) / TOY_PAGE - from / TOY_PAGE,
	      "%u names of %zu new tokens", nr_names, n);
}

/* Who resumes a prompt of half the blocks computes the names of the rest. */
static void test_resumed(void)
{
	const size_t half = N / 2;
	struct kvd_seq *seq;
	struct toy t;

	toy_open(&t, daemon_.socket, &opts);
	seq = match(&t, half, 0, 1);
	feed(&t, seq, 0, half);
	kvd_seq_free(seq);
	toy_close(&t);

	toy_open(&t, daemon_.socket, &opts);
	kvd_seq_free(match(&t, half, half, 0));
	seq = match(&t, N - 1, half, 1); /* the one that is not there */
	feed(&t, seq, half, N - half);
	kvd_seq_free(match(&t, N, N, 0));
	kvd_seq_free(seq);
	toy_close(&t);
}

/* Many prompts go on from one: those found by name are the same ones. */
static void test_forks(void)
{
	uint32_t last = tokens[N - 1];
	struct kvd_seq *seq;
	struct toy t;
	unsigned few = 0;

	toy_open(&t, daemon_.socket, &opts);
	for (uint32_t i = 1; i < NR_FORKS; i++) {
		tokens[N - 1] = last + i;
		seq = match(&t, N, N - TOY_PAGE, 1);
		feed(&t, seq, N - TOY_PAGE, TOY_PAGE);
		kvd_seq_free(seq);
	}
	for (uint32_t i = 0; i < NR_FORKS; i++) {
		size_t hit = 0;

		tokens[N - 1] = last + i;
		CHECK(!kvd_seq_new(t.sp, NULL, &seq), "%s", kvd_error(t.k));
		nr_names = 0;
		CHECK(!kvd_seq_match(seq, tokens, N, &hit) && hit == N,
		      "fork %u: hit %zu", i, hit);
		CHECK(nr_names <= 1, "fork %u: %u names", i, nr_names);
		few += nr_names;
		kvd_seq_free(seq);
	}
	CHECK(few && few < NR_FORKS, "%u of %u found by name", few, NR_FORKS);
	tokens[N - 1] = last;
	toy_close(&t);
}

int main(void)
{
	daemon_start(&daemon_, NULL);
	toy_opts(&opts, 1);
	for (uint32_t i = 0; i < N; i++)
		tokens[i] = 1000 + i * 7;
	test_resumed();
	test_forks();
	daemon_assert_idle(&daemon_);
	daemon_stop(&daemon_);
	return 0;
}
