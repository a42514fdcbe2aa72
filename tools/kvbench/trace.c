// SPDX-License-Identifier: Apache-2.0
/*
 * trace.c - kvbench trace: the requests of a real service, replayed.
 *
 * Each pool size, policy and number of clients that is named makes a run, on
 * a daemon of its own, one after the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/trace_report.h"

static const char summary[] =
	"replay a trace of requests (Mooncake's format) through a daemon";

/* The same, and what the less obvious figures are. */
static const char description[] =
	"replay a trace of requests (Mooncake's format) through a daemon\n\n"
	"Requests are taken in the order of the trace, as fast as it goes. Of\n"
	"each the longest known prefix is matched, the rest stored, and the\n"
	"sequence freed.\n\n"
	"hit_rate        input tokens found, of all\n"
	"copied_tokens   of those found, the ones in pages that were shared in\n"
	"                part, whose tokens were copied\n"
	"hit_rate_model  of an LRU of whole pages that never holds one, in a "
	"pool\n"
	"                of as many tokens, given the same requests in turn\n"
	"                With --demote, in one of as many bytes, all demoted\n"
	"pinned          tokens that requests in progress hold when one is at\n"
	"                its longest, the mean as a part of the pool: those\n"
	"                cannot be evicted. What several hold counts for each\n"
	"hit_rate_pins   input tokens found in pages that are pinned. With "
	"--pins N\n"
	"                the N blocks of 512 tokens that most requests of the "
	"trace\n"
	"                begin with are, from when they are there first: a "
	"choice\n"
	"                that knows the future. to_no_pins is the hit rate by "
	"that\n"
	"                of the same run with --pins 0, if there is one\n"
	"waste           part of the bytes in use that hold no token: pages "
	"in\n"
	"                clients' stocks, open pages as far as they are "
	"empty,\n"
	"                exact copies of sealed pages. Mean and worst of "
	"while\n"
	"                half of the pool or more is in use";

#define MAX_POLICIES 8
#define MAX_PINS     8

struct opts {
	struct trace_options trace;
	struct arg_list pool_tokens;
	struct arg_list clients;
	const char *pins;
	const char *policy;
	const char *format_text;
	struct format_pair format;
	struct format_pair demote;
	unsigned page_tokens;
	bool json;

	char policies_text[256];
	const char *policies[MAX_POLICIES];
	unsigned nr_policies;
	unsigned nr_pins[MAX_PINS];
	unsigned nr_nr_pins;
};

static int usage(const char *what)
{
	fprintf(stderr, "kvbench trace: %s\n", what);
	return -EINVAL;
}

/* Between commas. None given is one: the daemon's default. */
static int split_policies(struct opts *o)
{
	char *save, *word;

	if (!o->policy) {
		o->nr_policies = 1;
		return 0;
	}
	if (strlen(o->policy) >= sizeof(o->policies_text))
		return usage("--policy is too long");
	strcpy(o->policies_text, o->policy);
	for (word = strtok_r(o->policies_text, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		if (o->nr_policies == MAX_POLICIES)
			return usage("more than 8 policies");
		o->policies[o->nr_policies++] = word;
	}
	return o->nr_policies ? 0 : usage("--policy names none");
}

/* The same of numbers, that may be 0. */
static int split_pins(struct opts *o)
{
	const char *p = o->pins ? o->pins : "0";
	unsigned long n;
	char *end;

	for (;; p = end + 1) {
		n = strtoul(p, &end, 10);
		if (*p < '0' || *p > '9' || n > 1000000 ||
		    (*end && *end != ','))
			return usage("--pins is numbers up to 1000000");
		if (o->nr_nr_pins == MAX_PINS)
			return usage("more than 8 numbers of pins");
		o->nr_pins[o->nr_nr_pins++] = (unsigned)n;
		if (!*end)
			return 0;
	}
}

static int check(struct opts *o)
{
	unsigned i;

	if (!o->trace.path)
		return usage("which trace? (kvbench trace --help)");
	if (o->page_tokens != 32 && o->page_tokens != 64 &&
	    o->page_tokens != 128)
		return usage("--page-tokens is 32, 64 or 128");
	if (o->trace.chunk < o->page_tokens)
		return usage("--chunk is less than a page");
	if (o->trace.tier_file && !o->trace.tier)
		return usage("--tier-file without --tier: say how large");
	for (i = 0; i < o->clients.nr; i++)
		if (o->clients.n[i] > TRACE_MAX_CLIENTS)
			return usage("--clients is at most 64");
	if (formats_parse(o->format_text, &o->format) != 1)
		return usage("--format is one");
	if (o->trace.demote && formats_parse(o->trace.demote, &o->demote) != 1)
		return usage("--demote is one");
	return split_pins(o) ? -EINVAL : split_policies(o);
}

/* Return: 0 or -EINVAL. */
static int fit(const struct opts *o, unsigned tokens, struct trace_pool *pool)
{
	int err = trace_pool_fit(pool, &o->format,
	                         o->trace.demote ? &o->demote : NULL,
	                         o->page_tokens, tokens);

	if (err)
		fprintf(stderr,
		        "kvbench trace: no geometry of %s%s%s fits %u tokens "
		        "(formats that need a profile have none here)\n",
		        o->format_text, o->trace.demote ? " and then " : "",
		        o->trace.demote ? o->trace.demote : "", tokens);
	else if (pool->tokens < 2ull * o->trace.chunk)
		err = usage("--pool-tokens is less than two chunks");
	return err;
}

/* Return: 0; -EILSEQ when pages were not what was written; -errno. */
static int run_one(const struct opts *o, const struct trace_pool *pool,
                   json_t *runs)
{
	struct trace_result r;
	int err = trace_replay(&o->trace, pool, &r);

	if (err)
		return err;
	if (json_array_append_new(runs, trace_figures(&o->trace, pool, &r)))
		return -ENOMEM;
	if (!r.counts.bad)
		return 0;
	fprintf(stderr,
	        "kvbench trace: %llu of %llu pages were not as written\n",
	        (unsigned long long)r.counts.bad,
	        (unsigned long long)r.counts.checked);
	return -EILSEQ;
}

/* Every number of clients with every number of pins. */
static int run_policy(struct opts *o, const struct trace_pool *pool,
                      json_t *runs)
{
	unsigned i, j;
	int err = 0;

	for (i = 0; i < o->clients.nr && !err; i++) {
		for (j = 0; j < o->nr_nr_pins && !err; j++) {
			o->trace.clients = o->clients.n[i];
			o->trace.pins = o->nr_pins[j];
			err = run_one(o, pool, runs);
		}
	}
	return err;
}

/* All that on one pool, with every policy. */
static int run_pool(struct opts *o, unsigned tokens, json_t *runs)
{
	struct trace_pool pool;
	unsigned i;
	int err = fit(o, tokens, &pool);

	for (i = 0; i < o->nr_policies && !err; i++) {
		o->trace.policy = o->policies[i];
		err = run_policy(o, &pool, runs);
	}
	return err;
}

/* Bad pages are reported with the figures they belong to. */
static int run_all(struct opts *o)
{
	json_t *runs = json_array();
	unsigned i;
	int status, err = runs ? 0 : -ENOMEM;

	for (i = 0; i < o->pool_tokens.nr && !err; i++)
		err = run_pool(o, o->pool_tokens.n[i], runs);
	if (err && err != -EILSEQ) {
		json_decref(runs);
		return BENCH_FAILED;
	}
	status = trace_report(runs, o->json);
	return err ? BENCH_FAILED : status;
}

static int run(int argc, char **argv)
{
	struct opts o = { .trace.chunk = 2048,
		          .trace.progress = isatty(STDERR_FILENO),
		          .pool_tokens = { 1, { 1024000 } },
		          .clients = { 1, { 1 } },
		          .format_text = "int8",
		          .page_tokens = 64 };
	const struct arg args[] = {
		{ "FILE", ARG_NAME, &o.trace.path, "a JSON object a line" },
		{ "pool-tokens", ARG_LIST, &o.pool_tokens,
		  "that the pool holds (1024000), to 1 in 1000" },
		{ "policy", ARG_TEXT, &o.policy,
		  "the daemon's; several with commas between" },
		{ "clients", ARG_LIST, &o.clients, "at a time (1)" },
		{ "pins", ARG_TEXT, &o.pins,
		  "blocks of 512 tokens to be pinned, those most asked for "
		  "(0); several with commas between" },
		{ "format", ARG_TEXT, &o.format_text, "of pages (int8)" },
		{ "demote", ARG_TEXT, &o.trace.demote,
		  "FORMAT that pages are stored in before they are lost" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "chunk", ARG_COUNT, &o.trace.chunk,
		  "tokens stored at a time (2048)" },
		{ "requests", ARG_COUNT, &o.trace.limit, "the first so many" },
		{ "tier", ARG_TEXT, &o.trace.tier,
		  "SIZE of a tier behind the pool: in memory, or in the file" },
		{ "tier-file", ARG_TEXT, &o.trace.tier_file,
		  "PATH of that file; absolute" },
		{ "outputs", ARG_FLAG, &o.trace.outputs,
		  "store output tokens, too: each is its request's own" },
		{ "progress", ARG_FLAG, &o.trace.progress,
		  "on stderr, also where that is no terminal" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	int status = args_parse(argc, argv, args, description);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	if (check(&o))
		return BENCH_USAGE;
	if (trace_count(o.trace.path, o.trace.limit, &o.trace.total))
		return BENCH_FAILED;
	if (!o.trace.outputs)
		o.trace.total.output = 0;
	return run_all(&o);
}

const struct bench bench_trace = { "trace", summary, run };
