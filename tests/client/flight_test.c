// SPDX-License-Identifier: Apache-2.0
/*
 * flight_test.c - single flight: of two who come with one prompt one computes
 * it, and the other takes its pages as they come.
 *
 * What is computed over them is byte for byte what it is alone, in each kind of
 * geometry; what has been taken stays, whatever becomes of who computes; and
 * however that ends, the other goes on.
 *
 *	flight_test [DEVICE]
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "client-lib/conn.h"
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define P    TOY_PAGE
#define N    300u
#define FULL (N / P * P)
#define LONG 60000u

static struct daemon d;
static struct kvd_space_opts opts;
static uint32_t tokens[N];
static uint64_t seed;

/* ---- the daemon's view ---- */

static Kvd__FlightStat flights(void)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	int fd = raw_open(d.socket);
	Kvd__FlightStat stat;
	Kvd__StatReply *reply;

	CHECK(!raw_call(fd, WIRE_STAT, &req.base,
			&kvd__stat_reply__descriptor, &reply, NULL), "stat");
	stat = *reply->flight;
	kvd__stat_reply__free_unpacked(reply, NULL);
	close(fd);
	return stat;
}

static void wait_waiting(uint32_t nr)
{
	for (int i = 0; flights().waiting != nr; i++) {
		CHECK(i < 2000, "%u wait, not %u", flights().waiting, nr);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
}

/* Everything that is cached is given up. */
static void reclaim(void)
{
	Kvd__ReclaimRequest req = KVD__RECLAIM_REQUEST__INIT;
	int fd = raw_open(d.socket);

	req.tenant = (char *)"";
	req.bytes = UINT64_MAX;
	CHECK(!raw_call(fd, WIRE_RECLAIM, &req.base, NULL, NULL, NULL),
	      "reclaim");
	close(fd);
}

/* ---- workers ---- */

static void fresh(void)
{
	toy_tokens(&seed, tokens, N);
}

static struct kvd_seq *seq_new(struct toy *t, const struct kvd_seq_opts *o)
{
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(t->sp, o, &seq), "%s", kvd_error(t->k));
	return seq;
}

/* Begins a match; what becomes of it is as it was to be. */
static struct kvd_seq *begin(struct toy *t, uint32_t wait_ms, int want_r,
			     size_t want_hit, size_t want_coming)
{
	struct kvd_seq *seq = seq_new(t, NULL);
	size_t hit, coming;
	int r = kvd_seq_match_begin(seq, tokens, N - 1, wait_ms, &hit, &coming);

	CHECK(r == want_r && hit == want_hit && coming == want_coming,
	      "%d, %zu found, %zu coming", r, hit, coming);
	CHECK(kvd_seq_tokens(seq) == (r ? 0 : hit), "%zu tokens",
	      kvd_seq_tokens(seq));
	return seq;
}

/* What there is in the end; until then the descriptor says that there is more,
 * but of what another call has read. */
static void next(struct toy *t, struct kvd_seq *seq, int want_r,
		 size_t want_hit, size_t want_coming)
{
	struct pollfd p = { .fd = kvd_fd(t->k), .events = POLLIN };
	size_t hit, coming;
	int r;

	for (;;) {
		kvd_process(t->k);
		r = kvd_seq_match_next(seq, &hit, &coming);
		if (r != -EAGAIN || (r == want_r && hit == want_hit))
			break;
		CHECK(poll(&p, 1, 20000) == 1, "nothing comes after %zu", hit);
	}
	CHECK(r == want_r && hit == want_hit && coming == want_coming,
	      "%d (%s), %zu found, %zu coming", r, kvd_error(t->k), hit,
	      coming);
}

static void run(struct toy *t, struct kvd_seq *seq, size_t upto)
{
	size_t from = kvd_seq_tokens(seq);

	CHECK(!toy_run(t, seq, tokens + from, upto - from, P, NULL), "%s",
	      kvd_error(t->k));
	kvd_process(t->k); /* what the device has done is published */
}

/* What attention returns with no page shared. */
static float *alone(struct toy *t)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1,
				  .extra = "alone" };
	float *out = malloc(N * toy_out_floats(t) * sizeof(float));
	struct kvd_seq *seq = seq_new(t, &o);

	CHECK(out && !toy_run(t, seq, tokens, N, N, out), "%s",
	      kvd_error(t->k));
	kvd_seq_free(seq);
	return out;
}

/* The rest of the prompt gives what it gives alone. */
static void check_rest(struct toy *t, struct kvd_seq *seq)
{
	size_t all = toy_out_floats(t), hit = kvd_seq_tokens(seq);
	float *want = alone(t), *out = malloc((N - hit) * all * sizeof(float));

	CHECK(out && !toy_run(t, seq, tokens + hit, N - hit, 7, out), "%s",
	      kvd_error(t->k));
	CHECK(!memcmp(out, want + hit * all, (N - hit) * all * sizeof(float)),
	      "attention differs");
	free(want);
	free(out);
}

/* ---- as it comes ---- */

static void test_as_it_comes(void)
{
	struct kvd_page pa[10], pb[10];
	struct kvd_seq *sa, *sb;
	struct toy a, b;
	size_t na, nb;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = begin(&b, LONG, -EAGAIN, 0, FULL);
	run(&a, sa, 2 * P + 5);
	next(&b, sb, -EAGAIN, 2 * P, FULL - 2 * P);
	CHECK(kvd_seq_match_next(sb, &na, &nb) == -EAGAIN && na == 2 * P,
	      "%zu found", na);
	run(&a, sa, N);
	next(&b, sb, 0, FULL, 0);
	CHECK(kvd_seq_match_next(sb, &na, &nb) == -EINVAL, "it has ended");
	for (uint32_t g = 0; g < opts.geometry.nr_groups; g++) {
		CHECK(!kvd_seq_pages(sa, g, pa, 10, &na) && na == 10 &&
		      !kvd_seq_pages(sb, g, pb, 10, &nb) && nb == 9, "pages");
		for (size_t i = 7; i < 9; i++) /* in any window */
			CHECK(pa[i].handle == pb[i].handle, "page %zu", i);
	}
	check_rest(&b, sb);
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

/* Formats, groups and windows of which other pages are needed. */
static void test_geometries(void)
{
	static const uint32_t formats[] = { KVD_KIVI4, KVD_KIVI2, KVD_INT8 };
	struct kvd_space_opts one = opts;

	for (int i = 0; i < 3; i++) {
		toy_opts(&opts, (uint8_t)(10 + i));
		opts.geometry.k_format = opts.geometry.v_format = formats[i];
		test_as_it_comes();
	}
	toy_opts_two_groups(&opts, 20, 64);
	test_as_it_comes();
	opts = one;
}

/*
 * What was taken stays, though all that is cached is given up; and when the
 * other gives up, this goes on from there, with a third behind it.
 */
static void test_taken(void)
{
	struct kvd_seq *sa, *sb, *sc;
	struct toy a, b, c;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	toy_open(&c, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = begin(&b, LONG, -EAGAIN, 0, FULL);
	run(&a, sa, 3 * P);
	next(&b, sb, -EAGAIN, 3 * P, FULL - 3 * P);
	run(&a, sa, 5 * P);
	kvd_seq_free(sa);
	toy_close(&a);
	kvd_process(b.k); /* what it gives back, it gives back now */
	reclaim();
	next(&b, sb, 0, 3 * P, 0);
	sc = begin(&c, LONG, -EAGAIN, 3 * P, FULL - 3 * P);
	check_rest(&b, sb);
	next(&c, sc, 0, FULL, 0);
	check_rest(&c, sc);
	toy_close(&b);
	toy_close(&c);
	daemon_assert_idle(&d);
}

/* Blocks that it has waited for, and blocks of its own after them. */
static void test_longer(void)
{
	struct kvd_seq *sa, *sb;
	struct toy a, b;
	size_t hit, coming;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	sa = seq_new(&a, NULL);
	CHECK(!kvd_seq_match_begin(sa, tokens, 4 * P + 9, 0, &hit, &coming),
	      "%s", kvd_error(a.k));
	sb = begin(&b, LONG, -EAGAIN, 0, 4 * P);
	/* Pages without tokens are not in the way. */
	CHECK(!kvd_seq_reserve(sb, 5 * P), "%s", kvd_error(b.k));
	run(&a, sa, 4 * P + 9);
	next(&b, sb, 0, 4 * P, 0);
	kvd_seq_free(sa);
	sa = begin(&a, LONG, -EAGAIN, 4 * P, FULL - 4 * P);
	check_rest(&b, sb);
	next(&a, sa, 0, FULL, 0);
	kvd_seq_free(sb);
	CHECK(b.k->holds.nr == b.sp->stocks[0].nr, "%u pages are held",
	      b.k->holds.nr - b.sp->stocks[0].nr);
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

/* A block more than was announced comes with the last that was. */
static void test_more_at_once(void)
{
	struct kvd_seq *sa;
	size_t hit, coming;
	struct toy a;

	fresh();
	toy_open(&a, d.socket, &opts);
	sa = seq_new(&a, NULL);
	CHECK(!kvd_seq_match_begin(sa, tokens, 4 * P - 1, 0, &hit, &coming),
	      "%s", kvd_error(a.k));
	CHECK(flights().flights == 1, "announced %u", flights().flights);
	CHECK(!toy_run(&a, sa, tokens, 4 * P, 4 * P, NULL), "%s",
	      kvd_error(a.k));
	kvd_process(a.k);
	CHECK(flights().flights == 0, "announced %u", flights().flights);
	toy_close(&a);
	daemon_assert_idle(&d);
}

/* ---- how it ends ---- */

static void give_up_truncate(struct toy *t, struct kvd_seq *seq)
{
	run(t, seq, 2 * P);
	CHECK(!kvd_truncate(seq, 3, NULL), "%s", kvd_error(t->k));
}

static void give_up_match(struct toy *t, struct kvd_seq *seq)
{
	size_t hit;

	CHECK(!kvd_seq_match(seq, tokens, N - 1, &hit), "%s", kvd_error(t->k));
}

static void give_up_nan(struct toy *t, struct kvd_seq *seq)
{
	toy_nan_token = tokens[2 * P + 1];
	run(t, seq, 4 * P);
	toy_nan_token = UINT32_MAX;
}

static void give_up_space(struct toy *t, struct kvd_seq *seq)
{
	run(t, seq, P);
	kvd_space_close(t->sp);
	t->sp = NULL;
}

/* It publishes @taken tokens, and then no more. */
static void test_given_up(void (*give_up)(struct toy *, struct kvd_seq *),
			  size_t taken)
{
	uint64_t late = flights().late;
	struct kvd_seq *sa, *sb;
	size_t hit, coming;
	struct toy a, b;
	int r;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = begin(&b, LONG, -EAGAIN, 0, FULL);
	give_up(&a, sa);
	do { /* it may see the pages before it sees the end */
		kvd_process(b.k);
		r = kvd_seq_match_next(sb, &hit, &coming);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	} while (r == -EAGAIN);
	CHECK(!r && hit == taken && flights().late == late,
	      "%d, %zu found, %u late", r, hit,
	      (unsigned)(flights().late - late));
	check_rest(&b, sb);
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

static void test_deadline(void)
{
	struct kvd_seq *sa, *sb;
	struct toy a, b;
	size_t hit;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = seq_new(&b, NULL);
	run(&a, sa, P);
	CHECK(!kvd_seq_match_wait(sb, tokens, N - 1, 200, &hit) && hit == P,
	      "%zu found", hit);
	CHECK(flights().late >= 1, "it was not the time");
	kvd_seq_free(sb);
	sb = begin(&b, 100, -EAGAIN, P, FULL - P);
	next(&b, sb, 0, P, 0);
	/* Not to wait at all is told what comes, and has it not. */
	kvd_seq_free(sb);
	sb = begin(&b, 0, 0, P, 0);
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

/* Who waits may think better of it. */
static void test_declined(void)
{
	struct kvd_seq *sa, *sb, *sc;
	struct toy a, b;
	size_t hit;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = begin(&b, LONG, -EAGAIN, 0, FULL);
	sc = begin(&b, LONG, -EAGAIN, 0, FULL);
	wait_waiting(2);
	CHECK(!kvd_seq_match(sc, tokens, N - 1, &hit) && !hit, "%zu found",
	      hit);
	wait_waiting(1);
	kvd_seq_free(sc);
	sc = begin(&b, LONG, -EAGAIN, 0, FULL);
	wait_waiting(2);
	kvd_seq_free(sc);
	wait_waiting(1);
	run(&a, sa, P);
	CHECK(!kvd_seq_match(sb, tokens, N - 1, &hit) && hit == P,
	      "%zu found", hit);
	CHECK(!flights().waiting && flights().flights == 1, "%u wait",
	      flights().waiting);
	check_rest(&b, sb);
	/* Neither has it if it appends, but as it was. */
	fresh();
	kvd_seq_free(sa);
	sa = begin(&a, LONG, 0, 0, 0);
	sc = begin(&b, LONG, -EAGAIN, 0, FULL);
	run(&b, sc, 5);
	CHECK(kvd_seq_match_next(sc, &hit, &hit) == -EINVAL, "it has tokens");
	kvd_seq_free(sc);
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

/* What is not to be found is not announced, nor by who may not write. */
static void test_not_announced(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	struct kvd_space_opts ro = opts;
	uint64_t before = flights().announced;
	static const struct name name = { { 1 } };
	struct flight_ask ask = { .names = &name, .nr = 1, .announce = true };
	struct kvd_seq *sa, *sb;
	struct flight_told told;
	size_t hit, coming;
	struct toy a, b;

	fresh();
	ro.read_only = 1;
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &ro);
	sa = seq_new(&a, &o);
	CHECK(!kvd_seq_match_begin(sa, tokens, N - 1, LONG, &hit, &coming) &&
	      !hit, "%s", kvd_error(a.k));
	sb = begin(&b, LONG, 0, 0, 0);
	CHECK(request_flight(b.sp, &ask, &told) == -EACCES, "it may");
	CHECK(flights().announced == before, "announced");
	kvd_seq_free(sa);
	kvd_seq_free(sb);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = begin(&b, LONG, -EAGAIN, 0, FULL);
	run(&a, sa, N);
	next(&b, sb, 0, FULL, 0);
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

/* Two of one connection: it does not wait for itself, unless it can go on. */
static void test_one_connection(void)
{
	struct kvd_seq *sa, *sb;
	struct toy a;
	size_t hit;

	fresh();
	toy_open(&a, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = seq_new(&a, NULL);
	CHECK(!kvd_seq_match_wait(sb, tokens, N - 1, LONG, &hit) && !hit,
	      "%zu found", hit);
	kvd_seq_free(sb);
	sb = begin(&a, LONG, -EAGAIN, 0, FULL);
	run(&a, sa, N);
	next(&a, sb, 0, FULL, 0);
	check_rest(&a, sb);
	toy_close(&a);
	daemon_assert_idle(&d);
}

/* ---- processes ---- */

/* Announces, computes when somebody waits, and is killed after @upto. */
static void leader(size_t upto)
{
	struct kvd_seq *seq;
	struct toy t;
	size_t hit;

	toy_open(&t, d.socket, &opts);
	seq = seq_new(&t, NULL);
	CHECK(!kvd_seq_match_wait(seq, tokens, N - 1, LONG, &hit) && !hit,
	      "%zu found", hit);
	wait_waiting(1);
	run(&t, seq, upto);
	if (upto < N)
		raise(SIGKILL);
	toy_close(&t);
	exit(0);
}

static void test_processes(size_t upto, size_t want)
{
	struct kvd_seq *seq;
	struct toy t;
	size_t hit;
	int status;
	pid_t pid;

	fresh();
	pid = fork();
	CHECK(pid >= 0, "fork");
	if (!pid)
		leader(upto);
	while (!flights().flights)
		;
	toy_open(&t, d.socket, &opts);
	seq = seq_new(&t, NULL);
	CHECK(!kvd_seq_match_wait(seq, tokens, N - 1, LONG, &hit), "%s",
	      kvd_error(t.k));
	CHECK(hit == want, "%zu found", hit);
	check_rest(&t, seq);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
	CHECK(upto < N || status == 0, "the first: %d", status);
	toy_close(&t);
	daemon_assert_idle(&d);
}

/* ---- daemons ---- */

/* Another one knows of nothing; the first who asks has it. */
static void test_restart(void)
{
	struct kvd_seq *sa, *sb;
	struct toy a, b;
	size_t hit, coming;
	int r;

	fresh();
	toy_open(&a, d.socket, &opts);
	toy_open(&b, d.socket, &opts);
	sa = begin(&a, LONG, 0, 0, 0);
	sb = begin(&b, LONG, -EAGAIN, 0, FULL);
	daemon_kill(&d);
	daemon_start_in(&d, NULL);
	do {
		kvd_process(b.k);
		r = kvd_seq_match_next(sb, &hit, &coming);
	} while (r == -EAGAIN);
	CHECK(!r && !hit && flights().flights == 1, "%d, %zu found", r, hit);
	check_rest(&b, sb);
	CHECK(!flights().flights, "what is published is announced yet");
	CHECK(!toy_run(&a, sa, tokens, N, P, NULL), "%s", kvd_error(a.k));
	toy_close(&a);
	toy_close(&b);
	daemon_assert_idle(&d);
}

/* It does not take this many: then everybody computes. */
static void test_refused(void)
{
	const char *const args[] = { "--set", "max-announced-per-user=8",
				     NULL };
	struct daemon other = d;
	struct kvd_seq *seq;
	struct toy a;

	fresh();
	daemon_start(&d, args);
	toy_open(&a, d.socket, &opts);
	seq = begin(&a, LONG, 0, 0, 0);
	check_rest(&a, seq);
	CHECK(!flights().announced, "announced");
	toy_close(&a);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	d = other;
}

int main(int argc, char **argv)
{
	const char *device = argc > 1 ? argv[1] : "host";
	const char *const args[] = { "--set", "announce-timeout=60s",
				     "--device", device, NULL };

	if (argc > 1)
		toy_on_cuda(device);
	seed = toy_seed();
	daemon_start(&d, args);
	toy_opts(&opts, 1);
	test_as_it_comes();
	if (argc > 1) { /* what the device has to do with it */
		test_taken();
		daemon_stop(&d);
		return 0;
	}
	test_geometries();
	test_taken();
	test_longer();
	test_more_at_once();
	test_given_up(give_up_truncate, 2 * P);
	test_given_up(give_up_match, 0);
	test_given_up(give_up_nan, 2 * P);
	test_given_up(give_up_space, P);
	test_deadline();
	test_declined();
	test_not_announced();
	test_one_connection();
	test_processes(N, FULL);
	test_processes(3 * P, 3 * P);
	test_refused();
	test_restart();
	daemon_stop(&d);
	return 0;
}
