// SPDX-License-Identifier: Apache-2.0
/*
 * fanout.c - kvbench fanout: many clients come with one prefix at once.
 *
 * Each is a process of its own. With single flight one of them computes the
 * prefix, and the others take its pages as they come; then the same, of another
 * prefix, with single flight declined: each computes what it does not find. All
 * compute on so many devices together, each one's chunk after the other's.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/fanout.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/stats.h"

#define MAX_CLIENTS 1024u

static const char summary[] =
	"many clients with one prefix at once, computed once or by each";

/* What a round comes to; times in ms. */
struct outcome {
	uint64_t computed; /* tokens, by all */
	unsigned whole;    /* clients that computed all of the prefix */
	double first;      /* to the first token, of the one that computed it;
	                    * of several the soonest */
	double median;     /* of the others */
	double slowest;
};

/* ---- a round ---- */

static size_t round_bytes(const struct fanout_opts *o)
{
	return sizeof(struct fanout_round) +
	       o->clients * sizeof(struct fanout_result);
}

static struct fanout_round *round_new(const struct fanout_opts *o,
                                      uint32_t seed, bool declined)
{
	struct fanout_round *r;
	pthread_barrierattr_t attr;

	r = mmap(NULL, round_bytes(o), PROT_READ | PROT_WRITE,
	         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r == MAP_FAILED)
		return NULL;
	r->o = *o;
	r->seed = seed;
	r->declined = declined;
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&r->start, &attr, o->clients);
	pthread_barrierattr_destroy(&attr);
	sem_init(&r->devices, 1, o->devices);
	return r;
}

static void round_free(struct fanout_round *r)
{
	sem_destroy(&r->devices);
	pthread_barrier_destroy(&r->start);
	munmap(r, round_bytes(&r->o));
}

/* Ends those that have begun: they wait for one that has not. */
static void end_all(const pid_t *pids, unsigned nr)
{
	while (nr) {
		kill(pids[--nr], SIGKILL);
		waitpid(pids[nr], NULL, 0);
	}
}

static int run_clients(const struct child *daemon, struct fanout_round *r)
{
	pid_t pids[MAX_CLIENTS];
	int status, err = 0;
	unsigned i;

	for (i = 0; i < r->o.clients; i++) {
		pids[i] = fork();
		if (pids[i] < 0) {
			err = -errno;
			end_all(pids, i);
			return err;
		}
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			fanout_client(daemon, r, i);
			_exit(0);
		}
	}
	for (i = 0; i < r->o.clients; i++) {
		if (waitpid(pids[i], &status, 0) != pids[i] || status)
			err = -EIO;
		if (!err)
			err = r->results[i].err;
	}
	return err;
}

static int by_time(const void *a, const void *b)
{
	const struct fanout_result *x = a, *y = b;

	return (x->ttft_ms > y->ttft_ms) - (x->ttft_ms < y->ttft_ms);
}

/* The soonest of those that computed the prefix, else of all, is the first. */
static struct outcome round_outcome(struct fanout_round *r)
{
	struct outcome out = { .computed = 0 };
	double others[MAX_CLIENTS];
	unsigned i, nr = 0, first = 0;

	qsort(r->results, r->o.clients, sizeof(r->results[0]), by_time);
	for (i = r->o.clients; i-- > 0;) {
		out.computed += r->results[i].computed;
		if (r->results[i].computed < r->o.prefix)
			continue;
		out.whole++;
		first = i;
	}
	out.first = r->results[first].ttft_ms;
	for (i = 0; i < r->o.clients; i++)
		if (i != first)
			others[nr++] = r->results[i].ttft_ms;
	out.median = stats_median(others, nr);
	out.slowest = others[nr - 1];
	return out;
}

static int run_round(const struct child *daemon, const struct fanout_opts *o,
                     uint32_t seed, bool declined, struct outcome *ret)
{
	struct fanout_round *r = round_new(o, seed, declined);
	int err;

	if (!r)
		return -ENOMEM;
	err = run_clients(daemon, r);
	if (!err)
		*ret = round_outcome(r);
	round_free(r);
	return err;
}

/* ---- what it was ---- */

static json_t *outcome_json(const struct outcome *out)
{
	return json_pack("{s:I, s:i, s:f, s:f, s:f, s:f, s:f}",
	                 "computed_tokens", (json_int_t)out->computed,
	                 "computed_prefix", (int)out->whole, "first_ms",
	                 out->first, "others_ms_median", out->median,
	                 "others_ms_slowest", out->slowest, "median_ratio",
	                 out->median / out->first, "slowest_ratio",
	                 out->slowest / out->first);
}

static void add_outcome(json_t *figures, const char *mode,
                        const struct outcome *out)
{
	json_t *j = outcome_json(out), *value;
	char name[64];
	const char *key;

	json_object_foreach(j, key, value) {
		snprintf(name, sizeof(name), "%s%s", mode, key);
		json_object_set(figures, name, value);
	}
	json_decref(j);
}

static json_t *figures(const struct fanout_opts *o,
                       const struct outcome *flight,
                       const struct outcome *declined)
{
	json_t *j = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i}",
	                      "bench", "fanout", "device", "host", "clients",
	                      (int)o->clients, "prefix_tokens", (int)o->prefix,
	                      "tail_tokens", (int)o->tail, "us_per_token",
	                      (int)o->us_per_token, "devices", (int)o->devices,
	                      "chunk", (int)o->chunk);

	if (!j)
		return NULL;
	add_outcome(j, "", flight);
	if (declined->computed)
		add_outcome(j, "declined_", declined);
	return j;
}

static int measure(const struct fanout_opts *o, bool alone,
                   struct outcome *flight, struct outcome *declined)
{
	static const char *const more[] = { "--pool", "2G", NULL };
	struct child daemon = CHILD_NULL;
	struct kvd *k = NULL;
	int err = daemon_start(&daemon, more);

	if (!err)
		err = daemon_connect(&daemon, "kvbench fanout", &k);
	kvd_close(k); /* it serves */
	if (err) {
		fprintf(stderr, "kvbench fanout: no daemon: %s\n",
		        strerror(-err));
		daemon_print_log(&daemon);
	}
	if (!err)
		err = run_round(&daemon, o, 0, false, flight);
	if (!err && !alone)
		err = run_round(&daemon, o, 1u << 30, true, declined);
	child_fini(&daemon);
	return err;
}

static int check(const struct fanout_opts *o)
{
	if (o->clients >= 2 && o->clients <= MAX_CLIENTS &&
	    o->prefix % FANOUT_PAGE == 0 && o->prefix < 1u << 24 &&
	    o->tail < 1u << 15)
		return 0;
	fprintf(stderr,
	        "kvbench fanout: clients: 2 to %u; prefix: a multiple of %u "
	        "below %u; tail: below %u\n",
	        MAX_CLIENTS, FANOUT_PAGE, 1u << 24, 1u << 15);
	return BENCH_USAGE;
}

static int run(int argc, char **argv)
{
	struct fanout_opts o = { .prefix = 8192,
		                 .tail = 16,
		                 .clients = 32,
		                 .us_per_token = 100,
		                 .devices = 1,
		                 .chunk = 512,
		                 .wait_ms = 60000 };
	struct outcome flight, declined = { .computed = 0 };
	bool json = false, alone = false;
	const struct arg args[] = {
		{ "prefix", ARG_COUNT, &o.prefix, "tokens that all share" },
		{ "tail", ARG_COUNT, &o.tail, "tokens of each client's own" },
		{ "clients", ARG_COUNT, &o.clients, "processes" },
		{ "us-per-token", ARG_COUNT, &o.us_per_token,
		  "of a device, to compute one: keys and values, made up, are "
		  "quantized in it, the rest is slept" },
		{ "devices", ARG_COUNT, &o.devices,
		  "that all compute on; each does one chunk at a time" },
		{ "chunk", ARG_COUNT, &o.chunk,
		  "tokens computed, then committed at a time" },
		{ "wait-ms", ARG_COUNT, &o.wait_ms,
		  "for how long a client waits for others' pages" },
		{ "alone", ARG_FLAG, &alone,
		  "do not do the same with single flight declined" },
		{ "json", ARG_FLAG, &json, "one JSON object" },
		{ NULL }
	};
	int err, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	status = check(&o);
	if (status)
		return status;
	err = measure(&o, alone, &flight, &declined);
	if (!err)
		return report_print(figures(&o, &flight, &declined), json);
	fprintf(stderr, "kvbench fanout: %s\n", strerror(-err));
	return BENCH_FAILED;
}

const struct bench bench_fanout = { "fanout", summary, run };
