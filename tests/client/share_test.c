// SPDX-License-Identifier: Apache-2.0
/*
 * share_test.c - processes that share a prefix through one daemon.
 *
 * What a follower computes over another process's pages is byte for byte what
 * it computes alone; it gets the common prefix, as far as it is in full pages;
 * and what it reads is really the other's memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 300u
#define FULL (N / TOY_PAGE * TOY_PAGE)

static struct daemon daemon_;
static struct kvd_space_opts opts;
static uint32_t tokens[N];

static void run_child(void (*f)(void))
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0, "fork");
	if (!pid) {
		f();
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "child: %d", status);
}

/* What attention returns with no page shared. */
static float *alone(struct toy *t)
{
	float *out = malloc(N * toy_out_floats(t) * sizeof(float));
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1,
				  .extra = "alone" };
	struct kvd_seq *seq;

	CHECK(out && !kvd_seq_new(t->sp, &o, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, N, N, out), "%s", kvd_error(t->k));
	kvd_seq_free(seq);
	return out;
}

/* The first worker misses, computes, and stays to have its pages read. */
static void leader(void)
{
	struct toy t;
	struct kvd_seq *seq;
	size_t hit = 1;

	toy_open(&t, daemon_.socket, &opts);
	seq = toy_match(&t, tokens, N - 1, &hit);
	CHECK(hit == 0, "hit %zu", hit);
	CHECK(!toy_run(&t, seq, tokens, N, 50, NULL), "%s", kvd_error(t.k));
	toy_close(&t);
}

/* The next take what the first has left, whatever their own tails. */
static void follow(size_t common, struct kvd_space_info *info)
{
	struct toy t;
	struct kvd_seq *seq;
	size_t hit, all;
	float *ref, *out;

	toy_open(&t, daemon_.socket, &opts);
	all = toy_out_floats(&t);
	for (size_t i = common; i < N; i++)
		tokens[i] ^= 1;
	ref = alone(&t);
	seq = toy_match(&t, tokens, N - 1, &hit);
	CHECK(hit == (common < FULL ? common : FULL), "hit %zu of %zu", hit,
	      common);
	out = malloc((N - hit) * all * sizeof(float));
	CHECK(out && !toy_run(&t, seq, tokens + hit, N - hit, 7, out), "%s",
	      kvd_error(t.k));
	CHECK(!memcmp(out, ref + hit * all, (N - hit) * all * sizeof(float)),
	      "attention over shared pages differs");
	info->size = sizeof(*info);
	CHECK(!kvd_space_info(t.sp, info), "%s", kvd_error(t.k));
	free(ref);
	free(out);
	toy_close(&t);
}

static void follower(void)
{
	struct kvd_space_info info;

	follow(N, &info);
	CHECK(info.page_tokens == TOY_PAGE, "page_tokens");
	CHECK(info.hit_tokens == 288 && info.blocks == 9,
	      "hits %llu, blocks %llu", (unsigned long long)info.hit_tokens,
	      (unsigned long long)info.blocks);
}

static void follower_short(void)
{
	struct kvd_space_info info;

	follow(100, &info);
}

static void follower_none(void)
{
	struct kvd_space_info info;

	follow(31, &info);
}

/* Flipping a code in a sealed page changes what attention returns. */
static void flipper(void)
{
	struct toy t;
	struct kvd_seq *seq;
	struct kvd_page page;
	struct kvd_bases bases = { .size = sizeof(bases) };
	size_t hit, nr, all;
	float *ref, *out;
	uint8_t *byte;

	toy_open(&t, daemon_.socket, &opts);
	all = toy_out_floats(&t);
	ref = alone(&t);
	seq = toy_match(&t, tokens, N - 1, &hit);
	CHECK(hit == 288, "hit %zu", hit);
	CHECK(!kvd_seq_pages(seq, 0, &page, 1, &nr) && nr == 9, "pages");
	CHECK(!kvd_space_bases(t.sp, &bases), "bases");
	byte = (uint8_t *)bases.writable[page.segment] + page.offset + 1;
	*byte ^= 0x40;
	out = malloc((N - hit) * all * sizeof(float));
	CHECK(!toy_run(&t, seq, tokens + hit, N - hit, N, out), "run");
	CHECK(memcmp(out, ref + hit * all, (N - hit) * all * sizeof(float)),
	      "attention did not read the page");
	*byte ^= 0x40;
	free(ref);
	free(out);
	toy_close(&t);
}

/* Two at once: the second to publish goes on with the first one's pages. */
static void twins(void)
{
	struct toy a, b;
	struct kvd_seq *sa, *sb;
	struct kvd_page pa[10], pb[10];
	size_t hit, nr;
	uint64_t seed = 77;
	uint32_t mine[N];
	float *out[2];

	toy_tokens(&seed, mine, N);
	toy_open(&a, daemon_.socket, &opts);
	toy_open(&b, daemon_.socket, &opts);
	sa = toy_match(&a, mine, N - 1, &hit);
	CHECK(!hit, "hit %zu", hit);
	sb = toy_match(&b, mine, N - 1, &hit);
	CHECK(!hit, "hit %zu", hit);
	for (int i = 0; i < 2; i++)
		out[i] = malloc(N * toy_out_floats(&a) * sizeof(float));
	CHECK(!toy_run(&a, sa, mine, N, 64, out[0]), "%s", kvd_error(a.k));
	CHECK(!toy_run(&b, sb, mine, N, 33, out[1]), "%s", kvd_error(b.k));
	CHECK(!memcmp(out[0], out[1], N * toy_out_floats(&a) * sizeof(float)),
	      "twins differ");
	CHECK(!kvd_seq_pages(sa, 0, pa, 10, &nr) && nr == 10, "pages");
	CHECK(!kvd_seq_pages(sb, 0, pb, 10, &nr) && nr == 10, "pages");
	for (int i = 0; i < 9; i++)
		CHECK(pa[i].handle == pb[i].handle, "block %d is kept twice",
		      i);
	CHECK(pa[9].handle != pb[9].handle, "an open page is shared");
	free(out[0]);
	free(out[1]);
	toy_close(&a);
	toy_close(&b);
}

/* extra and no_publish keep sequences apart. */
static void apart(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .extra = "salt" };
	struct toy t;
	struct kvd_seq *seq;
	size_t hit;

	toy_open(&t, daemon_.socket, &opts);
	CHECK(!kvd_seq_new(t.sp, &o, &seq), "seq");
	CHECK(!kvd_seq_match(seq, tokens, N, &hit) && !hit, "hit %zu", hit);
	CHECK(!toy_run(&t, seq, tokens, 64, 64, NULL), "run");
	kvd_seq_free(seq);
	CHECK(!kvd_seq_new(t.sp, &o, &seq), "seq");
	CHECK(!kvd_seq_match(seq, tokens, N, &hit) && hit == 64, "hit %zu",
	      hit);
	kvd_seq_free(seq);
	o.extra[0] = 'S';
	o.no_publish = 1;
	CHECK(!kvd_seq_new(t.sp, &o, &seq), "seq");
	CHECK(!toy_run(&t, seq, tokens, 64, 64, NULL), "run");
	kvd_seq_free(seq);
	CHECK(!kvd_seq_new(t.sp, &o, &seq), "seq");
	CHECK(!kvd_seq_match(seq, tokens, N, &hit) && !hit, "hit %zu", hit);
	toy_close(&t);
}

int main(void)
{
	uint64_t seed = toy_seed();
	struct daemon_stat st;

	daemon_start(&daemon_, NULL);
	toy_opts(&opts, 1);
	toy_tokens(&seed, tokens, N);
	run_child(leader);
	run_child(follower);
	run_child(follower_short);
	run_child(follower_none);
	run_child(flipper);
	run_child(twins);
	run_child(apart);
	daemon_stat(daemon_.socket, &st);
	CHECK(st.hits == 288 + 100 + 31 + 288 + 0 + 64, "hits %llu",
	      (unsigned long long)st.hits);
	daemon_assert_idle(&daemon_);
	daemon_stop(&daemon_);
	return 0;
}
