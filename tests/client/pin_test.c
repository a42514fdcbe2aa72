// SPDX-License-Identifier: Apache-2.0
/* pin_test.c - sequences pinned, and of priorities: what goes, what stays. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N    (20 * TOY_PAGE + 7)
#define FULL (20 * TOY_PAGE)

static struct daemon d;
static struct toy toy;
static uint64_t seed;
static uint32_t tokens[N];

static struct kvd_seq *run(const uint32_t *t, size_t n)
{
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "%s", kvd_error(toy.k));
	CHECK(!toy_run(&toy, seq, t, n, 100, NULL), "%s", kvd_error(toy.k));
	return seq;
}

static size_t hit(const uint32_t *t, size_t n)
{
	size_t found;

	kvd_seq_free(toy_match(&toy, t, n, &found));
	return found;
}

/* Everything cached that may go is gone. */
static void storm(void)
{
	static struct kvd_page pages[1024];
	size_t nr = 0;
	int err;

	do
		err = kvd_page_alloc(toy.sp, 0, 1, &pages[nr]);
	while (!err && ++nr < 1024);
	CHECK(err == -ENOSPC, "%d: %s", err, kvd_error(toy.k));
	CHECK(!kvd_page_free(toy.sp, pages, nr), "%s", kvd_error(toy.k));
}

static void test_pin(void)
{
	struct kvd_seq *seq;
	size_t n = 0;

	toy_tokens(&seed, tokens, N);
	seq = run(tokens, N);
	CHECK(!kvd_seq_pin(seq, 60000, &n), "%s", kvd_error(toy.k));
	CHECK(n == FULL, "%zu tokens", n);
	kvd_seq_free(seq);
	storm();
	CHECK(hit(tokens, N) == FULL, "%zu", hit(tokens, N));
	/* Another sequence ends it, once it has found it. */
	seq = toy_match(&toy, tokens, FULL, &n);
	CHECK(!kvd_seq_unpin(seq), "%s", kvd_error(toy.k));
	CHECK(kvd_seq_unpin(seq) == -ENOENT, "twice");
	kvd_seq_free(seq);
	storm();
	CHECK(hit(tokens, N) == 0, "%zu", hit(tokens, N));
}

/* A sequence that has grown has one pin: the longer. */
static void test_grown(void)
{
	struct kvd_seq *seq;
	size_t n = 0;

	toy_tokens(&seed, tokens, N);
	seq = run(tokens, 100);
	CHECK(!kvd_seq_pin(seq, 60000, &n), "%s", kvd_error(toy.k));
	CHECK(n == 3 * TOY_PAGE, "%zu tokens", n);
	CHECK(!toy_run(&toy, seq, tokens + 100, N - 100, 100, NULL), "%s",
	      kvd_error(toy.k));
	CHECK(!kvd_seq_pin(seq, 60000, &n), "%s", kvd_error(toy.k));
	CHECK(n == FULL, "%zu tokens", n);
	CHECK(!kvd_seq_unpin(seq), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	storm();
	CHECK(hit(tokens, N) == 0, "%zu: the shorter one was left",
	      hit(tokens, N));
}

static void test_refused(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	struct kvd_seq *seq, *none;
	size_t n = 17;

	toy_tokens(&seed, tokens, N);
	seq = run(tokens, TOY_PAGE - 1);
	CHECK(kvd_seq_pin(seq, 1000, &n) == -ENOENT, "no page is full");
	CHECK(kvd_seq_unpin(seq) == -ENOENT, "no page is full");
	CHECK(!toy_run(&toy, seq, tokens + TOY_PAGE - 1, TOY_PAGE, 100, NULL),
	      "%s", kvd_error(toy.k));
	CHECK(kvd_seq_pin(seq, 0, &n) == -EINVAL, "for no time");
	CHECK(kvd_seq_pin(seq, 3600001, &n) == -EINVAL, "longer than an hour");
	CHECK(kvd_seq_pin(seq, UINT64_MAX, &n) == -EINVAL, "for ever");
	CHECK(kvd_seq_pin(seq, 1ull << 63, &n) == -EINVAL, "half of that");
	CHECK(strstr(kvd_error(toy.k), "3600 s at most"), "%s",
	      kvd_error(toy.k));
	CHECK(n == 17, "touched");
	CHECK(!kvd_seq_pin(seq, 3600000, NULL), "%s", kvd_error(toy.k));
	CHECK(!kvd_seq_unpin(seq), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	toy_tokens(&seed, tokens, N);
	CHECK(!kvd_seq_new(toy.sp, &o, &none), "%s", kvd_error(toy.k));
	CHECK(!toy_run(&toy, none, tokens, N, 100, NULL), "%s",
	      kvd_error(toy.k));
	CHECK(kvd_seq_pin(none, 1000, NULL) == -ENOENT, "unpublished");
	kvd_seq_free(none);
}

/* More than a quarter of the pool. */
static void test_limit(void)
{
	uint32_t *many = calloc(2000, sizeof(*many));
	struct kvd_seq *seq;
	int err;

	toy_tokens(&seed, many, 2000);
	seq = run(many, 2000);
	err = kvd_seq_pin(seq, 1000, NULL);
	CHECK(err == -EDQUOT, "%d: %s", err, kvd_error(toy.k));
	CHECK(strstr(kvd_error(toy.k), "(pin-max)"), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	free(many);
}

static void cache(uint32_t priority, const uint32_t *t)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .priority = priority };
	struct kvd_seq *seq, *fork;

	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "%s", kvd_error(toy.k));
	CHECK(!toy_run(&toy, seq, t, 2 * TOY_PAGE, 100, NULL), "%s",
	      kvd_error(toy.k));
	/* A second sequence that goes on from it is of the same. */
	CHECK(!kvd_fork(seq, NULL, &fork), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	CHECK(!toy_run(&toy, fork, t + 2 * TOY_PAGE, FULL - 2 * TOY_PAGE, 100,
		       NULL), "%s", kvd_error(toy.k));
	kvd_seq_free(fork);
}

/* The one cached first goes last. */
static void test_priority(void)
{
	const uint32_t order[] = { KVD_PRIORITY_HIGH, KVD_PRIORITY_NORMAL,
				   KVD_PRIORITY_LOW };
	struct kvd_seq_opts o = { .size = sizeof(o), .priority = 3 };
	static struct kvd_page pages[1024];
	uint32_t t[3][FULL];
	struct kvd_seq *seq;
	size_t nr = 0;

	CHECK(kvd_seq_new(toy.sp, &o, &seq) == -EINVAL, "no such priority");
	o.size = offsetof(struct kvd_seq_opts, priority);
	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "an older program: %s",
	      kvd_error(toy.k));
	kvd_seq_free(seq);
	storm();
	for (uint32_t i = 0; i < 3; i++) {
		toy_tokens(&seed, t[i], FULL);
		cache(order[i], t[i]);
	}
	for (int i = 2; i >= 0; i--) {
		for (int j = 0; j <= i; j++)
			CHECK(hit(t[j], FULL) == FULL, "%d of %d", j, i);
		do
			CHECK(nr < 1024 && !kvd_page_alloc(toy.sp, 0, 1,
							   &pages[nr]),
			      "%s", kvd_error(toy.k));
		while (nr++ < 1024 && hit(t[i], FULL));
	}
	CHECK(!kvd_page_free(toy.sp, pages, nr), "%s", kvd_error(toy.k));
}

/* It ends by itself. */
static void test_time(void)
{
	struct kvd_seq *seq;
	size_t n;

	toy_tokens(&seed, tokens, N);
	seq = run(tokens, N);
	CHECK(!kvd_seq_pin(seq, 200, NULL), "%s", kvd_error(toy.k));
	for (int i = 0; i < 200; i++) {
		struct daemon_stat st;

		kvd_seq_free(seq);
		daemon_stat(d.socket, &st);
		if (!st.sealed)
			break;
		CHECK(i < 199, "it does not end");
		usleep(50000);
		seq = NULL;
	}
	seq = toy_match(&toy, tokens, FULL, &n);
	CHECK(n == FULL && kvd_seq_unpin(seq) == -ENOENT, "%zu", n);
	kvd_seq_free(seq);
}

/* The daemon has gone and come: what was pinned is not, and can be again. */
static void test_restart(const char *const *args)
{
	struct kvd_seq *seq;
	size_t n;

	toy_tokens(&seed, tokens, N);
	seq = run(tokens, N);
	CHECK(!kvd_seq_pin(seq, 60000, NULL), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	daemon_kill(&d);
	daemon_start_in(&d, args);
	seq = run(tokens, N);
	CHECK(kvd_seq_unpin(seq) == -ENOENT, "pinned still");
	CHECK(!kvd_seq_pin(seq, 60000, &n), "%s", kvd_error(toy.k));
	CHECK(n == FULL, "%zu", n);
	CHECK(!kvd_seq_unpin(seq), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
}

int main(void)
{
	const char *const args[] = { "--pool", "2M", "--segment", "2M", NULL };
	struct kvd_space_opts o;

	seed = toy_seed();
	daemon_start(&d, args);
	toy_opts(&o, 1);
	o.wait_ms = 2000; /* pools are full */
	toy_open(&toy, d.socket, &o);
	test_pin();
	test_grown();
	test_refused();
	test_limit();
	test_priority();
	test_time();
	test_restart(args);
	toy_close(&toy);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
