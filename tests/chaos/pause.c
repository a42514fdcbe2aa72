// SPDX-License-Identifier: Apache-2.0
/*
 * pause.c - how long clients wait when the daemon dies and is started again.
 *
 *	chaos_pause [DEATHS [MS [PAGES]]]
 *
 * Four clients, a thread and a connection each, do one thing all the time: a
 * ping; a page taken from the daemon and given back; a step of decoding
 * (append, attend, commit); attention alone. The daemon is killed so often,
 * and started after MS milliseconds (100, a service manager's default). PAGES
 * (1000) that are published lie in its pool, and have to be found again.
 *
 * What is printed: the pause of each, from the kill to the end of the first
 * call that began after it; and how long calls take that ran while there was
 * no daemon, beside all others. What is checked: no call fails, and attention
 * goes on meanwhile. Times are not: they are the machine's.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/manager.h"

#define TOKENS 400u		/* that attention is over */
#define MOST 1000u		/* tokens of a sequence that is decoded */
#define MEANWHILE 5u		/* calls of attend in each outage, at least */
#define FILL_PAGES 100u		/* of a prompt */
#define US 1000ull

struct span {
	uint64_t from, to;	/* ns */
};

struct spans {
	struct span *of;
	size_t nr, room;
};

struct looper {
	const char *name;
	void (*step)(struct looper *l);
	uint64_t rest_us;	/* between two calls */
	struct toy t;
	struct kvd_seq *seq;
	struct spans calls;
	atomic_uint nr;
	pthread_t thread;
};

static char pool[32];
static const char *const args[] = { "--pool", pool, "--segment", "64M", NULL };
static uint32_t tokens[MOST];
static float *outputs;		/* of attention, the first time */
static struct spans outages;	/* from the kill to READY=1 */
static atomic_bool end;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void add(struct spans *s, uint64_t from, uint64_t to)
{
	if (s->nr == s->room) {
		s->room = s->room ? 2 * s->room : 1024;
		s->of = realloc(s->of, s->room * sizeof(*s->of));
		CHECK(s->of, "out of memory");
	}
	s->of[s->nr++] = (struct span){ from, to };
}

/* ---- what clients do ---- */

static void step_ping(struct looper *l)
{
	CHECK(!kvd_ping(l->t.k), "%s", kvd_error(l->t.k));
}

static void step_page(struct looper *l)
{
	struct kvd_page page;

	CHECK(!kvd_page_alloc(l->t.sp, 0, 1, &page) &&
	      !kvd_page_free(l->t.sp, &page, 1), "%s", kvd_error(l->t.k));
}

static void step_decode(struct looper *l)
{
	size_t n = l->seq ? kvd_seq_tokens(l->seq) : MOST;

	if (n == MOST) {
		kvd_seq_free(l->seq);
		CHECK(!kvd_seq_new(l->t.sp, NULL, &l->seq), "seq");
		n = 0;
	}
	CHECK(!toy_run(&l->t, l->seq, tokens + n, 1, 1, NULL), "%s",
	      kvd_error(l->t.k));
}

static void step_attend(struct looper *l)
{
	size_t floats = toy_out_floats(&l->t);
	float *out = malloc(floats * sizeof(*out));

	CHECK(out && !toy_attend(&l->t, l->seq, tokens + TOKENS, 1, out), "%s",
	      kvd_error(l->t.k));
	CHECK(!memcmp(out, outputs, floats * sizeof(*out)), "differs");
	free(out);
}

static struct looper loopers[] = {
	{ .name = "ping", .step = step_ping, .rest_us = 500 },
	{ .name = "page", .step = step_page, .rest_us = 500 },
	{ .name = "decode", .step = step_decode, .rest_us = 500 },
	{ .name = "attend", .step = step_attend, .rest_us = 500 },
};
#define NR_LOOPERS (sizeof(loopers) / sizeof(loopers[0]))
static struct looper *const attender = &loopers[NR_LOOPERS - 1];

static void *loop(void *arg)
{
	struct looper *l = arg;

	while (!end) {
		uint64_t from = now_ns();

		l->step(l);
		add(&l->calls, from, now_ns());
		l->nr++;
		usleep((useconds_t)l->rest_us);
	}
	return NULL;
}

static void looper_start(struct looper *l, const char *socket)
{
	struct kvd_item item = { .nr_tokens = 1 };
	struct kvd_space_opts o;

	toy_opts(&o, 1);
	o.stock_bytes = l->step == step_page ? 1 : 0; /* that is: none */
	toy_open(&l->t, socket, &o);
	if (l == attender) {
		CHECK(!kvd_seq_new(l->t.sp, NULL, &l->seq), "seq");
		CHECK(!toy_run(&l->t, l->seq, tokens, TOKENS, TOKENS, NULL),
		      "run");
		outputs = calloc(toy_out_floats(&l->t), sizeof(*outputs));
		item.seq = l->seq;
		CHECK(!toy_store(&l->t, &item, tokens + TOKENS, outputs),
		      "store");
	}
	CHECK(!pthread_create(&l->thread, NULL, loop, l), "thread");
}

/* ---- the daemon ---- */

/* Pages nobody computes, of prompts that nobody has. */
static void fill(const char *socket, unsigned nr_pages, uint64_t *seed)
{
	uint32_t *prompt = malloc(FILL_PAGES * TOY_PAGE * sizeof(*prompt));
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	struct toy t;

	CHECK(prompt, "out of memory");
	toy_opts(&o, 2);
	toy_open(&t, socket, &o);
	for (unsigned i = 0; i < nr_pages; i += FILL_PAGES) {
		size_t n = FILL_PAGES * TOY_PAGE;

		toy_tokens(seed, prompt, n);
		CHECK(!kvd_seq_new(t.sp, NULL, &seq), "seq");
		CHECK(!kvd_seq_reserve(seq, n) &&
		      !kvd_commit(seq, prompt, n, NULL), "%s",
		      kvd_error(t.k));
		kvd_seq_free(seq);
	}
	toy_close(&t);
	free(prompt);
}

static void wait_for_calls(unsigned nr)
{
	unsigned from = attender->nr;

	while (attender->nr - from < nr)
		usleep(1000);
}

static void die(struct manager *m, unsigned ms)
{
	uint64_t from = now_ns();

	manager_kill(m);
	usleep(ms * 1000);
	wait_for_calls(MEANWHILE);
	manager_again(m, args);
	add(&outages, from, now_ns());
}

/* ---- figures ---- */

static int by_length(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void print_of(const char *name, const char *what, uint64_t *ns,
		     size_t nr)
{
	if (!nr)
		return;
	qsort(ns, nr, sizeof(*ns), by_length);
	printf("%-7s %-22s %7zu of them, median %9.3f ms, p99 %9.3f, "
	       "max %9.3f\n", name, what, nr, (double)ns[nr / 2] / 1e6,
	       (double)ns[nr * 99 / 100] / 1e6, (double)ns[nr - 1] / 1e6);
}

static void print_pauses(const struct looper *l)
{
	uint64_t *ns = calloc(outages.nr, sizeof(*ns));
	size_t nr = 0, c = 0;

	for (size_t i = 0; i < outages.nr; i++) {
		while (c < l->calls.nr &&
		       l->calls.of[c].from < outages.of[i].from)
			c++;
		if (c < l->calls.nr)
			ns[nr++] = l->calls.of[c].to - outages.of[i].from;
	}
	print_of(l->name, "pause", ns, nr);
	free(ns);
}

static bool overlaps_outage(const struct span *c)
{
	for (size_t i = 0; i < outages.nr; i++)
		if (c->from < outages.of[i].to && c->to > outages.of[i].from)
			return true;
	return false;
}

static void print_calls(const struct looper *l, bool in)
{
	uint64_t *ns = calloc(l->calls.nr, sizeof(*ns));
	size_t nr = 0;

	for (size_t c = 0; c < l->calls.nr; c++)
		if (overlaps_outage(&l->calls.of[c]) == in)
			ns[nr++] = l->calls.of[c].to - l->calls.of[c].from;
	print_of(l->name, in ? "calls without a daemon" : "calls with one", ns,
		 nr);
	free(ns);
}

static void print_outages(void)
{
	uint64_t *ns = calloc(outages.nr, sizeof(*ns));

	for (size_t i = 0; i < outages.nr; i++)
		ns[i] = outages.of[i].to - outages.of[i].from;
	print_of("daemon", "killed until ready", ns, outages.nr);
	free(ns);
}

static void looper_end(struct looper *l)
{
	pthread_join(l->thread, NULL);
	print_pauses(l);
	print_calls(l, false);
	print_calls(l, true);
	kvd_seq_free(l->seq);
	toy_close(&l->t);
	free(l->calls.of);
}

int main(int argc, char **argv)
{
	unsigned deaths = argc > 1 ? (unsigned)atoi(argv[1]) : 4;
	unsigned ms = argc > 2 ? (unsigned)atoi(argv[2]) : 100;
	unsigned nr_pages = argc > 3 ? (unsigned)atoi(argv[3]) : 1000;
	uint64_t seed = toy_seed();
	struct manager m;

	toy_tokens(&seed, tokens, MOST);
	/* 32 KiB a page, and some for those who run */
	snprintf(pool, sizeof(pool), "%uM", 64 + nr_pages / 32);
	manager_start(&m, args);
	fill(m.daemon.socket, nr_pages, &seed);
	for (size_t i = 0; i < NR_LOOPERS; i++)
		looper_start(&loopers[i], m.daemon.socket);
	for (unsigned i = 0; i < deaths; i++) {
		wait_for_calls(MEANWHILE);
		usleep((useconds_t)(toy_random(&seed) % (400 * US)));
		die(&m, ms);
		if (i % 10 == 9)
			fprintf(stderr, "%u of %u deaths\n", i + 1, deaths);
	}
	wait_for_calls(MEANWHILE);
	usleep(100 * US);
	end = true;
	print_outages();
	for (size_t i = 0; i < NR_LOOPERS; i++)
		looper_end(&loopers[i]);
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
	free(outages.of);
	free(outputs);
	return 0;
}
