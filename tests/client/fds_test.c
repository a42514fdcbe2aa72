// SPDX-License-Identifier: Apache-2.0
/*
 * fds_test.c - out of file descriptors: this process, whom that is said, with
 * nothing lost; and the daemon, which who connects then waits for.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define N (3 * TOY_PAGE)
#define MANY 600u	/* pages: more than a segment has */
#define FEW 64		/* descriptors of a daemon */

static struct daemon d;
static uint32_t tokens[N];
static struct rlimit limit;

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* Room for @nr more descriptors; -1: for as many as there were at first. */
static void leave_fds(int nr)
{
	struct rlimit few = limit;
	int held[1024], i;

	CHECK(!setrlimit(RLIMIT_NOFILE, &limit), "%s", strerror(errno));
	if (nr < 0)
		return;
	/* The limit is on numbers: those below what is free are taken. */
	for (i = 0; i < nr; i++)
		held[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	few.rlim_cur = (rlim_t)(nr ? held[nr - 1] : dup(0)) + (nr > 0);
	if (!nr)
		close((int)few.rlim_cur);
	while (i > 0)
		close(held[--i]);
	CHECK(!setrlimit(RLIMIT_NOFILE, &few), "%s", strerror(errno));
}

static void check_said(int r, const struct kvd *k, const char *call)
{
	CHECK(r == -EMFILE, "%s: %s", call, strerror(-r));
	CHECK(!k || strstr(kvd_error(k), "RLIMIT_NOFILE"), "%s: %s", call,
	      kvd_error(k));
}

static int connect_to(struct kvd **ret, uint32_t timeout_ms)
{
	struct kvd_connect_opts o = { .size = sizeof(o), .socket = d.socket,
				      .timeout_ms = timeout_ms };

	return kvd_connect(&o, ret);
}

/* Neither for a socket, nor for what is sent on it. */
static void test_connect(void)
{
	struct kvd *k;

	for (int left = 0; left < 2; left++) {
		leave_fds(left);
		check_said(connect_to(&k, 20000), NULL, "connect");
	}
	leave_fds(2);
	CHECK(!connect_to(&k, 20000), "connect");
	leave_fds(-1);
	kvd_close(k);
	daemon_assert_idle(&d);
}

/* Two descriptors come with a space: none fits, or one. */
static void test_space(void)
{
	struct kvd_space_opts o;
	struct kvd_space *sp;
	struct kvd *k;

	toy_opts(&o, 1);
	CHECK(!connect_to(&k, 20000), "connect");
	for (int left = 0; left < 2; left++) {
		leave_fds(left);
		check_said(kvd_space_open(k, &o, &sp), k, "space");
		CHECK(!kvd_ping(k), "%s", kvd_error(k));
	}
	leave_fds(2);
	CHECK(!kvd_space_open(k, &o, &sp), "%s", kvd_error(k));
	leave_fds(-1);
	kvd_space_close(sp);
	CHECK(!kvd_space_open(k, &o, &sp), "%s", kvd_error(k));
	kvd_close(k);
	daemon_assert_idle(&d);
}

/* Pages are in a segment that cannot be mapped: they go back. */
static void test_segment(void)
{
	static struct kvd_page pages[MANY];
	struct kvd_space_opts o;
	struct daemon_stat was, is;
	struct kvd_seq *seq;
	struct toy t;
	size_t hit;

	toy_opts(&o, 2);
	toy_open(&t, d.socket, &o);
	seq = toy_match(&t, tokens, N, &hit);
	CHECK(!toy_run(&t, seq, tokens, TOY_PAGE, 1, NULL), "run");
	daemon_stat(d.socket, &was);
	for (int i = 0; i < 3; i++) {
		leave_fds(0);
		check_said(kvd_page_alloc(t.sp, 0, MANY, pages), t.k, "alloc");
		/* Whoever has pages goes on, and publishes. */
		CHECK(!toy_run(&t, seq, tokens + kvd_seq_tokens(seq), 5, 1,
			       NULL), "%s", kvd_error(t.k));
		leave_fds(-1);
	}
	CHECK(!kvd_process(t.k), "%s", kvd_error(t.k));
	daemon_stat(d.socket, &is);
	CHECK(is.open <= was.open + 64, "%llu pages open, there were %llu",
	      (unsigned long long)is.open, (unsigned long long)was.open);
	CHECK(!kvd_page_alloc(t.sp, 0, MANY, pages), "%s", kvd_error(t.k));
	CHECK(!kvd_page_free(t.sp, pages, MANY), "%s", kvd_error(t.k));
	toy_close(&t);
	daemon_assert_idle(&d);
}

/* A connection that breaks meanwhile comes back when there are some. */
static void test_reconnect(void)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	struct toy t, other;
	size_t hit;

	toy_opts(&o, 3);
	toy_open(&t, d.socket, &o);
	seq = toy_match(&t, tokens, N, &hit);
	CHECK(!toy_run(&t, seq, tokens, 5, 1, NULL), "run");
	/* Beside the one it had: for its pidfd, for index and statistics. */
	for (int left = 0; left < 2; left++) {
		leave_fds(left);
		shutdown(kvd_fd(t.k), SHUT_RDWR);
		CHECK(kvd_process(t.k) == -ENOTCONN, "process");
		check_said(kvd_ping(t.k), t.k, "ping");
		CHECK(!toy_run(&t, seq, tokens + kvd_seq_tokens(seq), 20, 1,
			       NULL), "%s", kvd_error(t.k));
		leave_fds(-1);
		CHECK(!kvd_ping(t.k), "%s", kvd_error(t.k));
	}
	CHECK(!kvd_process(t.k), "%s", kvd_error(t.k));
	toy_open(&other, d.socket, &o);
	kvd_seq_free(toy_match(&other, tokens, N, &hit));
	CHECK(hit >= TOY_PAGE, "%zu tokens found", hit);
	toy_close(&other);
	toy_close(&t);
	daemon_assert_idle(&d);
}

/* ---- the daemon has none ---- */

static void *hang_up_late(void *arg)
{
	int *fds = arg;

	sleep_ms(300);
	for (int i = 0; i < 2 * FEW; i++)
		close(fds[i]);
	return NULL;
}

static void test_daemon(void)
{
	struct rlimit few = { FEW, FEW };
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	struct toy t;
	pthread_t thread;
	int fds[2 * FEW];
	struct kvd *k;
	size_t hit;
	int r;

	daemon_start(&d, NULL);
	CHECK(!prlimit(d.pid, RLIMIT_NOFILE, &few, NULL), "%s",
	      strerror(errno));
	toy_opts(&o, 1);
	toy_open(&t, d.socket, &o);
	seq = toy_match(&t, tokens, N, &hit);
	CHECK(!toy_run(&t, seq, tokens, 5, 5, NULL), "%s", kvd_error(t.k));
	for (int i = 0; i < 2 * FEW; i++)
		CHECK((fds[i] = raw_connect(d.socket)) >= 0, "connect");
	r = connect_to(&k, 200);
	CHECK(r == -ENOTCONN || r == -ETIMEDOUT, "%s", strerror(-r));
	CHECK(!toy_run(&t, seq, tokens + 5, N - 5, 10, NULL), "%s",
	      kvd_error(t.k));
	kvd_seq_free(seq);
	kvd_seq_free(toy_match(&t, tokens, N, &hit));
	CHECK(hit == N, "%zu tokens found", hit);
	CHECK(!pthread_create(&thread, NULL, hang_up_late, fds), "thread");
	CHECK(!connect_to(&k, 20000), "nobody was let in");
	pthread_join(thread, NULL);
	kvd_close(k);
	toy_close(&t);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

int main(void)
{
	uint64_t seed = toy_seed();

	CHECK(!getrlimit(RLIMIT_NOFILE, &limit), "%s", strerror(errno));
	toy_tokens(&seed, tokens, N);
	daemon_start(&d, NULL);
	test_connect();
	test_space();
	test_segment();
	test_reconnect();
	daemon_stop(&d);
	test_daemon();
	return 0;
}
