// SPDX-License-Identifier: Apache-2.0
/*
 * restart_test.c - the daemon is killed and comes back, workers live on.
 *
 *	restart_test [DEVICE]
 *
 * With its descriptors kept everything goes on as if nothing had been; without
 * them sequences are stale, and the connection is as good as new. So it is on
 * a DEVICE whose memory goes with the daemon, where nothing can be kept.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"

#define N 400u

static uint64_t seed;
static uint32_t tokens[N];
static float *ref;

static float *outputs(struct toy *t)
{
	float *out = calloc(N, toy_out_floats(t) * sizeof(float));

	CHECK(out, "out of memory");
	return out;
}

static void make_reference(struct toy *t)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	struct kvd_seq *seq;

	ref = outputs(t);
	CHECK(!kvd_seq_new(t->sp, &o, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, N, N, ref), "%s", kvd_error(t->k));
	kvd_seq_free(seq);
}

static void same(struct toy *t, const float *out, size_t from, size_t n,
		 const char *what)
{
	size_t all = toy_out_floats(t);

	CHECK(!memcmp(out + from * all, ref + from * all,
		      n * all * sizeof(float)), "%s", what);
}

/* A sequence grows across several deaths of the daemon. */
static void test_kept(struct manager *m)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq, *other;
	struct toy t, late;
	size_t hit, all, n = 0;
	float *out;

	toy_opts(&o, 1);
	toy_open(&t, m->daemon.socket, &o);
	make_reference(&t);
	all = toy_out_floats(&t);
	out = outputs(&t);
	seq = toy_match(&t, tokens, N, &hit);
	for (int i = 0; i < 5; i++, n += 70) {
		CHECK(!toy_run(&t, seq, tokens + n, 60, 13, out + n * all),
		      "%s", kvd_error(t.k));
		manager_kill(m);
		/* Computing goes on with what is mapped and in stock. */
		CHECK(!toy_run(&t, seq, tokens + n + 60, 10, 5,
			       out + (n + 60) * all), "%s", kvd_error(t.k));
		manager_again(m, NULL);
	}
	CHECK(!toy_run(&t, seq, tokens + n, N - n, 20, out + n * all), "%s",
	      kvd_error(t.k));
	same(&t, out, 0, N, "outputs across restarts");
	CHECK(!kvd_ping(t.k) && !kvd_process(t.k), "%s", kvd_error(t.k));

	toy_open(&late, m->daemon.socket, &o);
	other = toy_match(&late, tokens, N, &hit);
	CHECK(hit == 384, "hit %zu", hit);
	CHECK(!toy_run(&late, other, tokens + hit, N - hit, N, out + hit * all),
	      "run");
	same(&late, out, hit, N - hit, "a follower after the restarts");
	toy_close(&late);

	/* Nothing at all is asked of a dead daemon, and nothing hangs. */
	manager_kill(m);
	kvd_seq_free(seq);
	CHECK(kvd_process(t.k) == -ENOTCONN, "no daemon");
	manager_again(m, NULL);
	seq = toy_match(&t, tokens, N, &hit);
	CHECK(hit == 384, "hit %zu", hit);
	toy_close(&t);
	free(out);
	daemon_assert_idle(&m->daemon);
}

/* The daemon dies while nobody asks; kvd_process() alone comes back. */
static void test_process(struct manager *m)
{
	struct kvd_space_opts o;
	struct toy t;
	int fd, tries = 0;

	toy_opts(&o, 1);
	toy_open(&t, m->daemon.socket, &o);
	fd = kvd_fd(t.k);
	CHECK(fd >= 0 && !kvd_process(t.k), "%s", kvd_error(t.k));
	manager_kill(m);
	manager_again(m, NULL);
	while (kvd_process(t.k) && tries++ < 5000)
		usleep(1000);
	CHECK(!kvd_process(t.k), "%s", kvd_error(t.k));
	CHECK(!kvd_ping(t.k), "%s", kvd_error(t.k));
	toy_close(&t);
}

/* A pool that did not survive. */
static void test_lost(void)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq, *open;
	struct kvd_page page;
	struct daemon d;
	struct toy t;
	size_t hit, all;
	float *out;
	struct kvd_item it;
	const uint32_t *more = tokens + 120;
	unsigned nr;

	daemon_start(&d, NULL);
	toy_opts(&o, 1);
	toy_open(&t, d.socket, &o);
	all = toy_out_floats(&t);
	out = outputs(&t);
	CHECK(!kvd_seq_new(t.sp, NULL, &seq), "seq");
	CHECK(!kvd_seq_new(t.sp, NULL, &open), "seq");
	CHECK(!toy_run(&t, seq, tokens, 100, 100, out), "run");
	CHECK(!toy_run(&t, open, tokens, 10, 10, NULL), "run");
	CHECK(!kvd_page_alloc(t.sp, 0, 1, &page), "loose");
	daemon_kill(&d);
	/* Mapped memory outlives the daemon. */
	CHECK(!toy_run(&t, seq, tokens + 100, 20, 10, out + 100 * all), "%s",
	      kvd_error(t.k));
	same(&t, out, 0, 120, "without a daemon");
	daemon_start_in(&d, NULL);
	/* A commit that finds the pages lost has committed all the same: the
	 * first with a page to publish says hello, another hears the answer. */
	sleep(2);
	it = (struct kvd_item){ seq, 8 };
	for (nr = 128; kvd_fd(t.k) < 0; nr++, it.nr_tokens = 1) {
		CHECK(nr < 400, "the commits were to connect");
		CHECK(!toy_feed(&t, &it, 1, &more, NULL), "%s",
		      kvd_error(t.k));
		CHECK(kvd_seq_tokens(seq) == nr, "%zu", kvd_seq_tokens(seq));
		usleep(5000);
	}
	CHECK(toy_run(&t, seq, tokens + 120, 1, 1, NULL) == -ESTALE, "stale");
	CHECK(toy_run(&t, open, tokens + 10, 1, 1, NULL) == -ESTALE, "stale");
	CHECK(kvd_truncate(seq, 1, NULL) == -ESTALE, "truncate");
	CHECK(kvd_fork(seq, NULL, &open) == -ESTALE, "fork");
	CHECK(kvd_page_free(t.sp, &page, 1) == -ESTALE, "loose");
	kvd_seq_free(seq);
	seq = toy_match(&t, tokens, N, &hit);
	CHECK(!hit, "hit %zu in an empty pool", hit);
	CHECK(!toy_run(&t, seq, tokens, N, 50, out), "%s", kvd_error(t.k));
	same(&t, out, 0, N, "in the new pool");
	toy_close(&t);
	free(out);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* Memory that goes with the daemon: its end is told, and all is dropped. */
static void test_lost_on(const char *device)
{
	const char *const args[] = { "--device", device, NULL };
	struct kvd_seq *seq, *open, *other;
	struct kvd_space_opts o;
	struct kvd_page page;
	struct manager m;
	struct toy t, late;
	size_t hit;
	float *out;

	toy_on_cuda(device);
	manager_start(&m, args);
	toy_opts(&o, 1);
	toy_open(&t, m.daemon.socket, &o);
	out = outputs(&t);
	ref = outputs(&t);
	CHECK(!kvd_seq_new(t.sp, NULL, &seq), "seq");
	CHECK(!kvd_seq_new(t.sp, NULL, &open), "seq");
	CHECK(!toy_run(&t, seq, tokens, 80, 80, ref), "%s", kvd_error(t.k));
	CHECK(!toy_run(&t, open, tokens, 10, 10, NULL), "run");
	CHECK(!kvd_page_alloc(t.sp, 0, 1, &page), "loose");
	manager_kill(&m);
	CHECK(!manager_nr_fds(&m, "kvd-table"), "a table of nothing");
	manager_again(&m, args);
	/* Another one's pages have the handles now that these had. */
	toy_open(&late, m.daemon.socket, &o);
	other = toy_match(&late, tokens + 200, 80, &hit);
	CHECK(!toy_run(&late, other, tokens + 200, 80, 80, NULL), "another");
	while (kvd_process(t.k))
		usleep(1000);
	CHECK(kvd_seq_tokens(seq) == 80, "%zu", kvd_seq_tokens(seq));
	CHECK(toy_run(&t, seq, tokens + 80, 1, 1, NULL) == -ESTALE, "stale");
	CHECK(toy_run(&t, open, tokens + 10, 1, 1, NULL) == -ESTALE, "stale");
	CHECK(kvd_page_free(t.sp, &page, 1) == -ESTALE, "loose");
	kvd_seq_free(seq);
	kvd_seq_free(open);
	seq = toy_match(&t, tokens, 80, &hit);
	CHECK(!hit, "hit %zu in an empty pool", hit);
	CHECK(!toy_run(&t, seq, tokens, 80, 20, out), "%s", kvd_error(t.k));
	same(&t, out, 0, 80, "in the new pool");
	toy_close(&t);
	kvd_seq_free(other);
	toy_close(&late);
	free(out);
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
}

int main(int argc, char **argv)
{
	struct manager m;

	seed = toy_seed();
	toy_tokens(&seed, tokens, N);
	if (argc > 1) {
		test_lost_on(argv[1]);
		free(ref);
		return 0;
	}
	manager_start(&m, NULL);
	test_kept(&m);
	test_process(&m);
	manager_stop(&m);
	test_lost();
	free(ref);
	return 0;
}
