// SPDX-License-Identifier: Apache-2.0
/*
 * seq_test.c - chunking, batches, fork, truncate, windows, NaN: whatever was
 * done to a sequence, what it attends over is what a fresh one would.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 400u

static struct toy toy;
static uint64_t seed;
static uint8_t salt;

/* An empty sequence that nothing published before can be found by. */
static struct kvd_seq *fresh(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o) };
	struct kvd_seq *seq;

	o.extra[0] = ++salt;
	o.extra[1] = 1;
	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "%s", kvd_error(toy.k));
	return seq;
}

static float *outputs(size_t n)
{
	float *out = calloc(n, toy_out_floats(&toy) * sizeof(float));

	CHECK(out, "out of memory");
	return out;
}

static float *reference(const uint32_t *tokens, size_t n)
{
	struct kvd_seq *seq = fresh();
	float *out = outputs(n);

	CHECK(!toy_run(&toy, seq, tokens, n, n, out), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	return out;
}

static void same(const float *a, const float *b, size_t n, const char *what)
{
	CHECK(!memcmp(a, b, n * toy_out_floats(&toy) * sizeof(float)), "%s",
	      what);
}

static void test_chunks(void)
{
	static const size_t chunks[] = { 1, 7, 31, 32, 33, 64, 100, N };
	uint32_t tokens[N];
	float *ref, *out = outputs(N);

	toy_tokens(&seed, tokens, N);
	ref = reference(tokens, N);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(*chunks); i++) {
		struct kvd_seq *seq = fresh();

		CHECK(!toy_run(&toy, seq, tokens, N, chunks[i], out), "%s",
		      kvd_error(toy.k));
		CHECK(kvd_seq_tokens(seq) == N, "tokens");
		same(ref, out, N, "chunks");
		kvd_seq_free(seq);
	}
	free(ref);
	free(out);
}

static void test_batch(void)
{
	toy_check_batch(&toy, &seed, N, 40, fresh);
}

/* Runs tokens after @n of a sequence; the outputs must be the reference's. */
static void expect_tail(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
			const char *what)
{
	float *ref = reference(tokens, N), *out = outputs(N);

	CHECK(kvd_seq_tokens(seq) == n, "%s: %zu tokens", what,
	      kvd_seq_tokens(seq));
	CHECK(!toy_run(&toy, seq, tokens + n, N - n, 9, out), "%s: %s", what,
	      kvd_error(toy.k));
	same(ref + n * toy_out_floats(&toy), out, N - n, what);
	free(ref);
	free(out);
}

static void test_fork(void)
{
	static const size_t at[] = { 0, 1, 32, 100, 160, 399 };
	uint32_t a[N], b[N];

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		struct kvd_seq *parent = fresh(), *child, *grandchild;
		struct kvd_page p[16], c[16];
		size_t n = at[i], nr;

		toy_tokens(&seed, a, N);
		memcpy(b, a, sizeof(b));
		toy_tokens(&seed, b + n, N - n);
		CHECK(!toy_run(&toy, parent, a, n, 50, NULL), "run");
		CHECK(!kvd_fork(parent, NULL, &child), "%s",
		      kvd_error(toy.k));
		CHECK(!kvd_fork(child, NULL, &grandchild), "fork");
		kvd_seq_pages(parent, 0, p, 16, &nr);
		kvd_seq_pages(child, 0, c, 16, &nr);
		for (size_t j = 0; j < nr; j++)
			CHECK((p[j].handle == c[j].handle) ==
			      ((j + 1) * TOY_PAGE <= n), "page %zu of %zu", j,
			      n);
		expect_tail(child, b, n, "fork: child");
		expect_tail(parent, a, n, "fork: parent");
		kvd_seq_free(parent);
		expect_tail(grandchild, b, n, "fork: grandchild");
		kvd_seq_free(child);
		kvd_seq_free(grandchild);
	}
}

static void test_truncate(void)
{
	static const size_t at[] = { 0, 1, 31, 32, 33, 100, 384, 390, 399, N };
	uint32_t a[N], b[N];

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		struct kvd_seq *seq = fresh(), *other;
		size_t n = at[i];

		toy_tokens(&seed, a, N);
		memcpy(b, a, sizeof(b));
		toy_tokens(&seed, b + n, N - n);
		CHECK(!toy_run(&toy, seq, a, N, 50, NULL), "run");
		CHECK(!kvd_fork(seq, NULL, &other), "fork");
		CHECK(!kvd_truncate(seq, n, NULL), "%s", kvd_error(toy.k));
		expect_tail(seq, b, n, "truncate");
		CHECK(kvd_truncate(seq, N + 1, NULL) == -EINVAL, "too far");
		CHECK(!kvd_truncate(other, n, NULL), "%s", kvd_error(toy.k));
		expect_tail(other, a, n, "truncate a fork");
		kvd_seq_free(seq);
		kvd_seq_free(other);
	}
}

/* Drafted tokens that were not accepted are overwritten. */
static void test_speculate(void)
{
	uint32_t a[N];
	float *ref, *out = outputs(N);
	struct kvd_seq *seq = fresh();
	size_t n = 0;

	toy_tokens(&seed, a, N);
	ref = reference(a, N);
	while (n < N) {
		size_t draft = 1 + toy_random(&seed) % 8, accept;
		uint32_t wrong[8];

		if (draft > N - n)
			draft = N - n;
		accept = 1 + toy_random(&seed) % draft;
		memcpy(wrong, a + n, draft * sizeof(*wrong));
		for (size_t i = accept; i < draft; i++)
			wrong[i] ^= 1;
		CHECK(!toy_run(&toy, seq, wrong, draft, draft,
			       out + n * toy_out_floats(&toy)), "run");
		CHECK(!kvd_truncate(seq, n + accept, NULL), "%s",
		      kvd_error(toy.k));
		n += accept;
	}
	same(ref, out, N, "speculation");
	kvd_seq_free(seq);
	free(ref);
	free(out);
}

static void test_nan(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .extra = "nan" };
	uint32_t a[N], bad[N];
	struct kvd_seq *seq, *child;
	size_t hit;
	float *ref;

	toy_tokens(&seed, a, N);
	memcpy(bad, a, sizeof(bad));
	bad[100] = toy_nan_token = 123456;
	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "seq");
	CHECK(!toy_run(&toy, seq, bad, 200, 10, NULL), "run");
	CHECK(!kvd_fork(seq, NULL, &child), "fork");
	CHECK(!toy_run(&toy, child, bad + 200, 100, 10, NULL), "run");
	kvd_seq_free(child);
	CHECK(!kvd_seq_new(toy.sp, &o, &child), "seq");
	CHECK(!kvd_seq_match(child, bad, N, &hit) && hit == 96, "hit %zu",
	      hit);
	kvd_seq_free(child);
	/* Without the NaN it is as good as any. */
	CHECK(!kvd_truncate(seq, 96, NULL), "truncate");
	ref = reference(a, N);
	free(ref);
	expect_tail(seq, a, 96, "after NaN");
	CHECK(!kvd_seq_new(toy.sp, &o, &child), "seq");
	CHECK(!kvd_seq_match(child, a, N, &hit) && hit == 384, "hit %zu",
	      hit);
	kvd_seq_free(child);
	kvd_seq_free(seq);
	toy_nan_token = UINT32_MAX;
}

/* With windows: pages leave; matches need only what is seen. */
static void test_window(uint32_t window)
{
	struct kvd_seq *seq = fresh(), *other;
	struct kvd_seq_opts o = { .size = sizeof(o) };
	struct kvd_page p[16];
	uint32_t a[N];
	size_t nr, absent = 0, first = (N + 1 - window) / TOY_PAGE, hit;
	size_t back = N - (N + 1 - window) % TOY_PAGE;

	toy_tokens(&seed, a, N);
	CHECK(!toy_run(&toy, seq, a, N, 100, NULL), "%s", kvd_error(toy.k));
	CHECK(!kvd_seq_pages(seq, 1, p, 16, &nr) && nr == 13, "pages %zu", nr);
	for (size_t i = 0; i < nr; i++) {
		CHECK((p[i].segment == UINT32_MAX) == (i < first),
		      "page %zu with window %u", i, window);
		absent += p[i].segment == UINT32_MAX;
	}
	CHECK(absent == first, "absent %zu", absent);
	CHECK(!kvd_seq_pages(seq, 0, p, 16, &nr) && nr == 13, "pages");
	for (size_t i = 0; i < nr; i++)
		CHECK(p[i].segment != UINT32_MAX, "page %zu left group 0", i);
	CHECK(kvd_truncate(seq, back - 1, NULL) == -EINVAL,
	      "out of the window");
	CHECK(kvd_seq_tokens(seq) == N, "nothing changed");
	CHECK(!kvd_truncate(seq, back, NULL), "%s", kvd_error(toy.k));
	expect_tail(seq, a, back, "window: truncate");
	CHECK(!kvd_fork(seq, NULL, &other), "fork");
	kvd_seq_free(other);

	o.extra[0] = salt - 1; /* of seq: expect_tail() made one */
	o.extra[1] = 1;
	CHECK(!kvd_seq_new(toy.sp, &o, &other), "seq");
	CHECK(!kvd_seq_match(other, a, N - 1, &hit) && hit == 384, "hit %zu",
	      hit);
	CHECK(!kvd_seq_pages(other, 1, p, 16, &nr) && nr == 12, "pages");
	for (size_t i = 0; i < nr; i++)
		CHECK((p[i].segment == UINT32_MAX) ==
		      (i < (384 + 1 - window) / TOY_PAGE), "page %zu", i);
	expect_tail(other, a, 384, "window: match");
	kvd_seq_free(other);
	kvd_seq_free(seq);
}

int main(void)
{
	static const uint32_t windows[] = { 1, 33, 50, 127 };
	struct kvd_space_opts o;
	struct daemon d;

	seed = toy_seed();
	daemon_start(&d, NULL);
	toy_opts(&o, 1);
	toy_open(&toy, d.socket, &o);
	test_chunks();
	test_batch();
	test_fork();
	test_truncate();
	test_speculate();
	test_nan();
	toy_close(&toy);

	o.geometry.k_format = o.geometry.v_format = KVD_INT8;
	toy_open(&toy, d.socket, &o);
	test_chunks();
	test_fork();
	test_truncate();
	toy_close(&toy);

	for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
		toy_opts_two_groups(&o, 2, windows[i]);
		toy_open(&toy, d.socket, &o);
		test_chunks();
		test_batch();
		test_fork();
		test_window(windows[i]);
		toy_close(&toy);
	}
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
