// SPDX-License-Identifier: Apache-2.0
/*
 * mixed_test.c - 64 clients at once, 10 s of everything, in a pool too small.
 *
 *	mixed_test [CLIENTS [SECONDS]]
 *
 * Each client is a thread with a connection of its own. Prompts are few and
 * shared, so that clients meet in the index; what a client attends over is
 * compared with what one alone has computed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 200u
#define PROMPTS 6u
#define MAX_CLIENTS 64

static struct daemon d;
static struct kvd_space_opts opts;
static uint32_t prompts[PROMPTS][N];
static float *refs[PROMPTS];
static _Atomic uint64_t nr_done, nr_full, nr_hits;
static time_t end_time;

static bool full(int r)
{
	if (r == -ENOSPC || r == -EDQUOT)
		nr_full++;
	return r == -ENOSPC || r == -EDQUOT;
}

static void check(struct toy *t, int r, const char *what)
{
	CHECK(!r || full(r), "%s: %s: %s", what, strerror(-r),
	      kvd_error(t->k));
}

/* A request: match, prefill, decode; what comes out is compared. */
static struct kvd_seq *serve(struct toy *t, uint64_t *seed, uint32_t p,
			     float *out)
{
	size_t n = 1 + toy_random(seed) % N, all = toy_out_floats(t), hit;
	struct kvd_seq *seq = toy_match(t, prompts[p], n - 1, &hit);
	int r;

	nr_hits += hit != 0;
	r = toy_run(t, seq, prompts[p] + hit, n - hit,
		    1 + toy_random(seed) % 70, out);
	check(t, r, "run");
	if (!r)
		CHECK(!memcmp(out, refs[p] + hit * all,
			      (n - hit) * all * sizeof(float)),
		      "prompt %u, %zu of %zu tokens matched: differs", p, hit,
		      n);
	return seq;
}

static void edit(struct toy *t, uint64_t *seed, struct kvd_seq *seq,
		 uint32_t p, float *out)
{
	size_t n = kvd_seq_tokens(seq), all = toy_out_floats(t), at;
	struct kvd_seq *child;
	int r = kvd_fork(seq, NULL, &child);

	check(t, r, "fork");
	if (r)
		return;
	/* Within its page: no further back than the window of 65 allows. */
	at = n - toy_random(seed) % (n % TOY_PAGE + 1);
	r = kvd_truncate(child, at, NULL);
	check(t, r, "truncate");
	if (!r && at < N) {
		r = toy_run(t, child, prompts[p] + at, N - at, 30, out);
		check(t, r, "run a fork");
		if (!r)
			CHECK(!memcmp(out, refs[p] + at * all,
				      (N - at) * all * sizeof(float)),
			      "a fork differs");
	}
	kvd_seq_free(child);
}

static void loose(struct toy *t, uint64_t *seed)
{
	struct kvd_page pages[80];
	size_t n = toy_random(seed) % 80;
	int r = kvd_page_alloc(t->sp, (uint32_t)(toy_random(seed) % 2), n,
			       pages);

	check(t, r, "loose pages");
	if (!r)
		CHECK(!kvd_page_free(t->sp, pages, n), "%s",
		      kvd_error(t->k));
}

static void *client(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;
	struct toy t;
	float *out;

	toy_open(&t, d.socket, &opts);
	out = malloc(N * toy_out_floats(&t) * sizeof(float));
	while (time(NULL) < end_time) {
		uint32_t p = (uint32_t)(toy_random(&seed) % PROMPTS);
		struct kvd_seq *seq = serve(&t, &seed, p, out);

		if (toy_random(&seed) % 2)
			edit(&t, &seed, seq, p, out);
		if (toy_random(&seed) % 4 == 0)
			loose(&t, &seed);
		CHECK(!kvd_process(t.k), "%s", kvd_error(t.k));
		if (toy_random(&seed) % 4)
			kvd_seq_free(seq);
		if (toy_random(&seed) % 16 == 0) {
			toy_close(&t);
			toy_open(&t, d.socket, &opts);
		}
		nr_done++;
	}
	toy_close(&t);
	free(out);
	return NULL;
}

static void make_references(uint64_t *seed)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	struct toy t;

	toy_open(&t, d.socket, &opts);
	for (uint32_t p = 0; p < PROMPTS; p++) {
		struct kvd_seq *seq;

		toy_tokens(seed, prompts[p], N);
		refs[p] = malloc(N * toy_out_floats(&t) * sizeof(float));
		CHECK(!kvd_seq_new(t.sp, &o, &seq), "seq");
		CHECK(!toy_run(&t, seq, prompts[p], N, N, refs[p]), "run");
		kvd_seq_free(seq);
	}
	toy_close(&t);
}

int main(int argc, char **argv)
{
	static const char *const args[] = { "--pool", "12M", "--segment", "2M",
					    NULL };
	int nr = argc > 1 ? atoi(argv[1]) : MAX_CLIENTS;
	int seconds = argc > 2 ? atoi(argv[2]) : 10;
	pthread_t threads[MAX_CLIENTS];
	uint64_t seed = toy_seed();

	daemon_start(&d, args);
	toy_opts_two_groups(&opts, 1, 65);
	opts.wait_ms = 0; /* the pool is full most of the time */
	make_references(&seed);
	end_time = time(NULL) + seconds;
	for (int i = 0; i < nr; i++)
		CHECK(!pthread_create(&threads[i], NULL, client,
				      (void *)(uintptr_t)toy_random(&seed)),
		      "thread");
	for (int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	printf("%llu requests, %llu with a hit, %llu found the pool full\n",
	       (unsigned long long)nr_done, (unsigned long long)nr_hits,
	       (unsigned long long)nr_full);
	CHECK(nr_done && nr_hits, "nothing was done");
	for (uint32_t p = 0; p < PROMPTS; p++)
		free(refs[p]);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
