// SPDX-License-Identifier: Apache-2.0
/*
 * control.c - kvbench control: who owns which page, beside a Redis.
 *
 * In each round a client that has just connected looks for a long prefix, and
 * one whose processor has other things in all its caches besides; pages are
 * taken from the daemon and given back, many in a request; and a Redis on a
 * Unix socket is sent as many SETs and GETs in a pipeline. They take turns, so
 * that whatever else the machine does meets all of them alike.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/request.h"
#include "proto/name.h"
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/memory.h"
#include "tools/kvbench/redis.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/session.h"
#include "tools/kvbench/stats.h"

#define BATCH   REDIS_MAX_PIPELINE
#define WAIT_MS 10000

static const char summary[] =
	"find a long prefix, take and give pages, beside a Redis";

struct opts {
	const char *socket;
	const char *redis; /* NULL: look for it; "none": do without */
	unsigned pages;    /* of the prefix */
	unsigned rounds;
	unsigned requests; /* of each kind in a round */
	bool json;
};

enum what { FRESH, COLD, WARM, NAMES, PAGES, SET, GET, NR_WHAT };

struct run {
	const struct opts *o;
	struct session s;
	struct redis redis;
	bool compared;
	struct memory other; /* to have something else in the caches */
	uint32_t *tokens;
	size_t nr_tokens;
	double *us[NR_WHAT]; /* [rounds] */
};

/* Appends and commits one page of tokens, of keys and values all zero. */
static int fill_page(struct run *r, struct kvd_seq *seq, const uint32_t *tokens)
{
	static const float zero[SESSION_PAGE_TOKENS * SESSION_DIM];
	const struct kvd_item item = { seq, SESSION_PAGE_TOKENS };
	const struct kvd_append_args kv = { .size = sizeof(kv),
		                            .dtype = KVD_DTYPE_F32,
		                            .items = &item,
		                            .nr_items = 1,
		                            .k = zero,
		                            .v = zero };
	int err = kvd_append(r->s.space, &kv);

	return err ? err : kvd_commit(seq, tokens, SESSION_PAGE_TOKENS, NULL);
}

static int publish(struct run *r)
{
	struct kvd_seq *seq = NULL;
	size_t i;
	int err = kvd_seq_new(r->s.space, NULL, &seq);

	for (i = 0; i < r->nr_tokens; i++)
		r->tokens[i] = (uint32_t)i;
	for (i = 0; i < r->nr_tokens && !err; i += SESSION_PAGE_TOKENS)
		err = fill_page(r, seq, r->tokens + i);
	kvd_seq_free(seq);
	return err;
}

static int time_match(struct run *r, struct session *s, double *us)
{
	struct kvd_seq *seq = NULL;
	size_t hit = 0;
	uint64_t start;
	int err = kvd_seq_new(s->space, NULL, &seq);

	if (err)
		return err;
	start = stats_now_ns();
	err = kvd_seq_match(seq, r->tokens, r->nr_tokens, &hit);
	*us = (double)(stats_now_ns() - start) / 1e3;
	kvd_seq_free(seq);
	return err ? err : hit == r->nr_tokens ? 0 : -ENOENT;
}

/* By a client that has just connected; then, if asked for, once more. */
static int measure_first(struct run *r, bool flush, double *us, double *again)
{
	struct session s;
	int err = session_again(&r->s, "control", r->o->socket, &s);

	if (flush)
		memset(r->other.base, 1, r->other.bytes);
	if (!err)
		err = time_match(r, &s, us);
	if (!err && again)
		err = time_match(r, &s, again);
	session_close(&s);
	return err;
}

static int measure_match(struct run *r, unsigned round)
{
	int err = measure_first(r, false, &r->us[FRESH][round],
	                        &r->us[WARM][round]);

	return err ? err
	           : measure_first(r, true, &r->us[COLD][round], NULL);
}

/* What all names of the prefix take to compute, where that is needed. */
static void measure_names(struct run *r, unsigned round)
{
	static const uint8_t bytes[NAME_KEY_BYTES] = { 1 };
	const struct name extra = { { 0 } };
	struct name name = { { 0 } };
	struct name_key key;
	uint64_t start;
	size_t i;

	name_key_init(&key, bytes);
	start = stats_now_ns();
	for (i = 0; i < r->nr_tokens; i += SESSION_PAGE_TOKENS)
		name = name_block(&key, &name, &extra, r->tokens + i,
		                  SESSION_PAGE_TOKENS);
	r->us[NAMES][round] = (double)(stats_now_ns() - start) / 1e3;
	r->tokens[0] += name.b[0] & 0; /* the result is wanted */
}

static int measure_pages(struct run *r, unsigned round)
{
	handle_t handles[BATCH];
	place_t places[BATCH];
	uint64_t start = stats_now_ns();
	unsigned i;
	int err = 0;

	for (i = 0; i < r->o->requests && !err; i++) {
		err = request_alloc(r->s.space, 0, BATCH, WAIT_MS, handles,
		                    places);
		if (!err)
			err = request_release(r->s.kvd, handles, BATCH);
	}
	r->us[PAGES][round] = (double)(stats_now_ns() - start) / 1e3;
	return err;
}

static int measure_redis(struct run *r, unsigned round, enum what what)
{
	uint64_t start = stats_now_ns();
	unsigned i;
	int err = 0;

	for (i = 0; i < r->o->requests && !err; i++)
		err = what == SET ? redis_set(&r->redis, BATCH)
		                  : redis_get(&r->redis, BATCH);
	r->us[what][round] = (double)(stats_now_ns() - start) / 1e3;
	return err;
}

static int measure(struct run *r)
{
	unsigned round;
	int err = publish(r);

	for (round = 0; round < r->o->rounds && !err; round++) {
		err = measure_match(r, round);
		measure_names(r, round);
		if (!err)
			err = measure_pages(r, round);
		if (!err && r->compared)
			err = measure_redis(r, round, SET);
		if (!err && r->compared)
			err = measure_redis(r, round, GET);
	}
	return err;
}

/* Of @what, how many a second. */
static double rate(const struct run *r, enum what what)
{
	return 1e6 * r->o->requests * BATCH /
	       stats_median(r->us[what], r->o->rounds);
}

static json_t *figures(const struct run *r)
{
	unsigned n = r->o->rounds;
	double pages = rate(r, PAGES);
	double cold = stats_median(r->us[COLD], n);
	json_t *j = json_pack(
		"{s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:i, s:f}", "bench",
		"control", "device", kvd_device(r->s.kvd), "pages",
		(int)r->o->pages, "new_client_us_median",
		stats_median(r->us[FRESH], n), "cold_us_median",
		cold, "cold_us_p90",
		stats_percentile(r->us[COLD], n, 90), "warm_us_median",
		stats_median(r->us[WARM], n), "names_us_median",
		stats_median(r->us[NAMES], n), "batch", (int)BATCH,
		"alloc_release_per_s", pages);

	if (!j || !r->compared)
		return j;
	json_object_set_new(j, "redis_set_per_s", json_real(rate(r, SET)));
	json_object_set_new(j, "redis_get_per_s", json_real(rate(r, GET)));
	json_object_set_new(j, "ratio_set", json_real(pages / rate(r, SET)));
	json_object_set_new(j, "ratio_get", json_real(pages / rate(r, GET)));
	return j;
}

static int open_redis(struct run *r)
{
	const char *program = r->o->redis;
	int err;

	if (program && strcmp(program, "none") == 0)
		return 0;
	err = redis_open(&r->redis, program);
	r->compared = !err;
	if (err == -ENOENT && !program) {
		fprintf(stderr, "kvbench control: no redis-server in PATH, so "
		                "nothing to compare with\n");
		return 0;
	}
	if (err)
		fprintf(stderr, "kvbench control: %s does not start: %s\n",
		        program ? program : "redis-server", strerror(-err));
	return err;
}

static int run_init(struct run *r, const struct opts *o)
{
	int i, err;

	r->o = o;
	r->nr_tokens = (size_t)o->pages * SESSION_PAGE_TOKENS;
	r->tokens = calloc(r->nr_tokens, sizeof(*r->tokens));
	if (!r->tokens)
		return -ENOMEM;
	for (i = 0; i < NR_WHAT; i++) {
		r->us[i] = calloc(o->rounds, sizeof(double));
		if (!r->us[i])
			return -ENOMEM;
	}
	err = memory_init(&r->other, memory_cold_bytes());
	return err ? err : open_redis(r);
}

static void run_fini(struct run *r)
{
	int i;

	redis_close(&r->redis);
	memory_fini(&r->other);
	for (i = 0; i < NR_WHAT; i++)
		free(r->us[i]);
	free(r->tokens);
}

static int run(int argc, char **argv)
{
	struct opts o = { .pages = 2000, .rounds = 50, .requests = 100 };
	const struct arg args[] = {
		{ "socket", ARG_TEXT, &o.socket, "of a running daemon" },
		{ "redis", ARG_TEXT, &o.redis, "its path, or none" },
		{ "pages", ARG_COUNT, &o.pages, "of the prefix" },
		{ "rounds", ARG_COUNT, &o.rounds, "turns each has" },
		{ "requests", ARG_COUNT, &o.requests,
		  "in one turn, of 64 pages or commands each" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	struct run r = { .s = SESSION_NULL, .redis = REDIS_NULL };
	int err, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	status = BENCH_FAILED;
	if (session_open(&r.s, "control", o.socket) == 0 &&
	    run_init(&r, &o) == 0) {
		err = measure(&r);
		if (err)
			fprintf(stderr, "kvbench control: %s: %s\n",
			        strerror(-err), kvd_error(r.s.kvd));
		else
			status = report_print(figures(&r), o.json);
	}
	run_fini(&r);
	session_close(&r.s);
	return status;
}

const struct bench bench_control = { "control", summary, run };
