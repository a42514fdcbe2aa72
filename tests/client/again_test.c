// SPDX-License-Identifier: Apache-2.0
/*
 * again_test.c - a connection breaks, the daemon stays: the next one has all
 * that a sequence held, also what nobody else can find.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 150u
#define CUT (3 * TOY_PAGE + 7)

static struct toy t;
static struct daemon d;
static uint32_t tokens[N];

static void ok(int r, const char *what)
{
	CHECK(!r, "%s: %s: %s", what, strerror(-r), kvd_error(t.k));
}

static struct kvd_seq *fresh(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	struct kvd_seq *seq;

	ok(kvd_seq_new(t.sp, &o, &seq), "new");
	return seq;
}

/* Till the daemon has seen the end of the connection. */
static void break_off(void)
{
	struct daemon_stat st;

	shutdown(kvd_fd(t.k), SHUT_RDWR);
	do
		daemon_stat(d.socket, &st);
	while (st.nr_clients);
}

static void come_back(void)
{
	while (kvd_process(t.k) == -ENOTCONN)
		usleep(1000);
}

/* Pages that were sealed and have no name; @fork: that two sequences use. */
static void test_private(bool fork)
{
	size_t all = toy_out_floats(&t);
	float *want = malloc(N * all * sizeof(*want));
	float *out = malloc(N * all * sizeof(*out));
	struct kvd_seq *seq = fresh(), *child = NULL;

	CHECK(want && out, "out of memory");
	ok(toy_run(&t, seq, tokens, N, N, want), "reference");
	kvd_seq_free(seq);
	seq = fresh();
	ok(toy_run(&t, seq, tokens, CUT, CUT, out), "before");
	if (fork)
		ok(kvd_fork(seq, NULL, &child), "fork");
	break_off();
	come_back();
	ok(toy_run(&t, seq, tokens + CUT, N - CUT, 5, out + CUT * all),
	   "after");
	CHECK(!memcmp(want, out, N * all * sizeof(*want)), "differs");
	break_off();
	come_back();
	kvd_seq_free(seq);
	if (child)
		ok(toy_run(&t, child, tokens + CUT, N - CUT, 5,
			   out + CUT * all), "a fork, after");
	CHECK(!memcmp(want, out, N * all * sizeof(*want)), "a fork differs");
	kvd_seq_free(child);
	free(want);
	free(out);
}

/* What is given up while there is no connection is not kept for ever. */
static void test_freed_meanwhile(void)
{
	struct kvd_seq *seq = fresh();
	float *out = malloc(CUT * toy_out_floats(&t) * sizeof(*out));
	struct daemon_stat st;

	CHECK(out, "out of memory");
	ok(toy_run(&t, seq, tokens, CUT, CUT, out), "before");
	free(out);
	break_off();
	daemon_stat(d.socket, &st);
	CHECK(st.sealed, "nothing is kept");
	kvd_seq_free(seq);
	come_back();
	do
		daemon_stat(d.socket, &st);
	while (st.sealed || st.quarantined);
}

int main(void)
{
	struct kvd_space_opts o;
	uint64_t seed = 1;

	toy_tokens(&seed, tokens, N);
	daemon_start(&d, NULL);
	toy_opts(&o, 1);
	toy_open(&t, d.socket, &o);
	test_private(false);
	test_private(true);
	test_freed_meanwhile();
	toy_close(&t);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
