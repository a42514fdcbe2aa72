// SPDX-License-Identifier: Apache-2.0
/*
 * load_time.c - when a client's operations are due, and what its calls take.
 *
 * The linker leads the storm's and the library's calls through here.
 */
#include <errno.h>
#include <stddef.h>
#include <time.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tests/load/load.h"
#include "tests/storm/client.h"

struct load_times *load_times;
struct load_pace load_pace;
static uint64_t end_ns;		/* of this client; 0: it has not begun */
static bool warm;

int __real_call(struct kvd *k, struct call *c);
int __wrap_call(struct kvd *k, struct call *c);
int __real_kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
			 size_t *ret_hit);
int __wrap_kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
			 size_t *ret_hit);
int __real_kvd_commit(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		      kvd_stream stream);
int __wrap_kvd_commit(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		      kvd_stream stream);

uint64_t load_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note(unsigned what, uint64_t since_ns)
{
	if (warm)
		hist_add(&load_times[s.id].of[what], load_now_ns() - since_ns);
}

static bool is_one_page(const struct call *c)
{
	return c->type == WIRE_ALLOC &&
	       ((const Kvd__AllocRequest *)c->request)->count == 1;
}

int __wrap_call(struct kvd *k, struct call *c)
{
	uint64_t t = load_now_ns();
	int r = __real_call(k, c);

	if (is_one_page(c))
		note(LOAD_ONE_PAGE, t);
	note(c->type, t);
	return r;
}

int __wrap_kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
			 size_t *ret_hit)
{
	uint64_t t = load_now_ns();
	int r = __real_kvd_seq_match(seq, tokens, n, ret_hit);

	note(LOAD_MATCH, t);
	return r;
}

int __wrap_kvd_commit(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		      kvd_stream stream)
{
	uint64_t t = load_now_ns();
	int r = __real_kvd_commit(seq, tokens, n, stream);

	note(LOAD_COMMIT, t);
	return r;
}

static void sleep_until(uint64_t ns)
{
	const struct timespec t = { (time_t)(ns / 1000000000u),
				    (long)(ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) ==
	       EINTR)
		;
}

/* What could not be done in the warm-up is not made up for. */
static uint64_t warmed_up(uint64_t due)
{
	uint64_t now = load_now_ns();

	warm = true;
	return due > now ? due : now;
}

bool load_next(void)
{
	const struct load_pace *p = &load_pace;
	static uint64_t due, warm_ns;

	if (!end_ns) {
		due = load_now_ns();
		warm_ns = due + p->warm_ns;
		end_ns = due + p->span_ns;
	}
	/* Of any length up to twice the mean: clients do not march in step. */
	due += storm_random(&s.rng) %
	       (2 * p->period_ns / (warm ? 1 : LOAD_WARM_UP_RATE));
	if (!warm && due >= warm_ns)
		due = warmed_up(due);
	if (due >= end_ns || load_now_ns() >= end_ns)
		return false;
	sleep_until(due);
	note(LOAD_LATE, due);
	return true;
}

const char *load_name(unsigned what)
{
	switch (what) {
	case LOAD_ONE_PAGE:
		return "alloc of one page";
	case LOAD_MATCH:
		return "kvd_seq_match()";
	case LOAD_COMMIT:
		return "kvd_commit()";
	case LOAD_LATE:
		return "begun late by";
	default:
		return wire_type_name(what);
	}
}
