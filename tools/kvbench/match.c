// SPDX-License-Identifier: Apache-2.0
/*
 * match.c - kvbench match: how long it takes to find a prefix, or not to.
 *
 * A hit ends with the daemon granting the pages; a miss is known from the
 * mapped index alone, and the round trips made meanwhile are shown for it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/session.h"
#include "tools/kvbench/stats.h"

#define GROUP 32

static const char summary[] =
	"find a published prefix; find that there is none";

struct opts {
	const char *socket;
	unsigned pages; /* of the prefix */
	unsigned rounds;
	bool json;
};

struct result {
	double hit_us;
	size_t hit_tokens;
	double miss_ns;
	uint32_t miss_round_trips;
};

/* Appends and commits one page of tokens, of keys and values all zero. */
static int fill_page(struct session *s, struct kvd_seq *seq,
                     const uint32_t *tokens)
{
	static const float zero[SESSION_PAGE_TOKENS * SESSION_DIM];
	const struct kvd_item item = { seq, SESSION_PAGE_TOKENS };
	const struct kvd_append_args kv = { .size = sizeof(kv),
		                            .dtype = KVD_DTYPE_F32,
		                            .items = &item,
		                            .nr_items = 1,
		                            .k = zero,
		                            .v = zero };
	int err = kvd_append(s->space, &kv);

	return err ? err : kvd_commit(seq, tokens, SESSION_PAGE_TOKENS, NULL);
}

/* Publishes the prefix; @tokens then name it. */
static int publish(struct session *s, unsigned pages, uint32_t *tokens)
{
	struct kvd_seq *seq = NULL;
	unsigned i;
	int err;

	for (i = 0; i < pages * SESSION_PAGE_TOKENS; i++)
		tokens[i] = i;
	err = kvd_seq_new(s->space, NULL, &seq);
	for (i = 0; i < pages && !err; i++)
		err = fill_page(s, seq, tokens + i * SESSION_PAGE_TOKENS);
	kvd_seq_free(seq);
	return err;
}

static int time_hit(struct session *s, const uint32_t *tokens, size_t nr,
                    double *us, size_t *ret_hit)
{
	struct kvd_seq *seq;
	uint64_t start;
	int err;

	err = kvd_seq_new(s->space, NULL, &seq);
	if (err)
		return err;
	start = stats_now_ns();
	err = kvd_seq_match(seq, tokens, nr, ret_hit);
	*us = (double)(stats_now_ns() - start) / 1e3;
	kvd_seq_free(seq);
	return err;
}

static int measure_hits(struct session *s, const struct opts *o,
                        const uint32_t *tokens, struct result *r)
{
	double *us = calloc(o->rounds, sizeof(*us));
	unsigned i;
	int err = us ? 0 : -ENOMEM;

	for (i = 0; i < o->rounds && !err; i++)
		err = time_hit(s, tokens,
		               (size_t)o->pages * SESSION_PAGE_TOKENS, &us[i],
		               &r->hit_tokens);
	if (!err)
		r->hit_us = stats_median(us, o->rounds);
	free(us);
	return err;
}

/* An empty sequence stays empty when it misses, and can miss again. */
static int time_misses(struct kvd_seq *seq, const uint32_t *tokens, size_t nr,
                       double *ns)
{
	uint64_t start = stats_now_ns();
	size_t hit = 0;
	int i, err;

	for (i = 0; i < GROUP; i++) {
		err = kvd_seq_match(seq, tokens, nr, &hit);
		if (err || hit)
			return err ? err : -EEXIST;
	}
	*ns = (double)(stats_now_ns() - start) / GROUP;
	return 0;
}

static int measure_misses(struct session *s, const struct opts *o,
                          uint32_t *tokens, struct result *r)
{
	double *ns = calloc(o->rounds, sizeof(*ns));
	struct kvd_seq *seq = NULL;
	uint32_t before = session_requests(s);
	unsigned i;
	int err = ns ? kvd_seq_new(s->space, NULL, &seq) : -ENOMEM;

	tokens[0]++; /* another first token, another prefix */
	for (i = 0; i < o->rounds && !err; i++)
		err = time_misses(seq, tokens,
		                  (size_t)o->pages * SESSION_PAGE_TOKENS,
		                  &ns[i]);
	if (!err) {
		r->miss_ns = stats_median(ns, o->rounds);
		r->miss_round_trips = session_requests(s) - before;
	}
	kvd_seq_free(seq);
	free(ns);
	return err;
}

static int measure(struct session *s, const struct opts *o, struct result *r)
{
	uint32_t *tokens =
		calloc((size_t)o->pages * SESSION_PAGE_TOKENS, sizeof(*tokens));
	int err = tokens ? publish(s, o->pages, tokens) : -ENOMEM;

	if (!err)
		err = measure_hits(s, o, tokens, r);
	if (!err)
		err = measure_misses(s, o, tokens, r);
	free(tokens);
	return err;
}

static json_t *figures(struct session *s, const struct opts *o,
                       const struct result *r)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:f, s:f, s:I}",
	                 "bench", "match", "device", kvd_device(s->kvd),
	                 "format", "f16", "threads", 1, "pages", (int)o->pages,
	                 "hit_tokens", (json_int_t)r->hit_tokens, "us_median",
	                 r->hit_us, "miss_ns_median", r->miss_ns,
	                 "miss_round_trips", (json_int_t)r->miss_round_trips);
}

static int run(int argc, char **argv)
{
	struct opts o = { .pages = 64, .rounds = 500 };
	const struct arg args[] = {
		{ "socket", ARG_TEXT, &o.socket, "of a running daemon" },
		{ "pages", ARG_COUNT, &o.pages, "of the prefix" },
		{ "rounds", ARG_COUNT, &o.rounds, "of each kind" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	struct session s = SESSION_NULL;
	struct result r = { 0 };
	int err, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	status = BENCH_FAILED;
	if (session_open(&s, "match", o.socket) == 0) {
		err = measure(&s, &o, &r);
		if (err)
			fprintf(stderr, "kvbench match: %s: %s\n",
			        strerror(-err), kvd_error(s.kvd));
		else
			status = report_print(figures(&s, &o, &r), o.json);
	}
	session_close(&s);
	return status;
}

const struct bench bench_match = { "match", summary, run };
