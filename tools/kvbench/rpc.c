// SPDX-License-Identifier: Apache-2.0
/*
 * rpc.c - kvbench rpc: one round trip to the daemon, beside one to Redis.
 *
 * Rounds of pings to the one and to the other take turns, so that whatever
 * else the machine does meets both alike. Where the scheduler puts the two
 * servers would not: a wake across processors can cost several times the round
 * trip, most of all in a virtual machine. So with a private daemon the client
 * and both servers share one processor.
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/redis.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/session.h"
#include "tools/kvbench/stats.h"

static const char summary[] = "one round trip, beside a Redis PING";

struct opts {
	const char *socket;
	const char *redis; /* NULL: look for it; "none": do without */
	unsigned rounds;
	unsigned pings; /* in a round, of each */
	bool one_processor;
	bool json;
};

/* One of the two that are compared. */
struct side {
	int (*ping)(void *ctx);
	void *ctx;
	double *us;
	size_t nr;
};

static int ping_kvd(void *ctx)
{
	return kvd_ping(ctx);
}

static int ping_redis(void *ctx)
{
	return redis_ping(ctx);
}

static int measure(struct side *s, unsigned pings)
{
	uint64_t start;
	unsigned i;
	int err;

	for (i = 0; i < pings; i++) {
		start = stats_now_ns();
		err = s->ping(s->ctx);
		s->us[s->nr++] = (double)(stats_now_ns() - start) / 1e3;
		if (err)
			return err;
	}
	return 0;
}

/* The first round only warms up: its samples are dropped. */
static int measure_all(struct side *sides, size_t nr_sides,
                       const struct opts *o)
{
	unsigned round;
	size_t i;
	int err;

	for (round = 0; round <= o->rounds; round++) {
		for (i = 0; i < nr_sides; i++) {
			if (round == 1)
				sides[i].nr = 0;
			err = measure(&sides[i], o->pings);
			if (err)
				return err;
		}
	}
	return 0;
}

static json_t *figures(struct session *s, struct side *sides, bool compared,
                       const struct opts *o)
{
	double kvd = stats_median(sides[0].us, sides[0].nr), redis;
	json_t *j;

	j = json_pack("{s:s, s:s, s:i, s:f, s:f, s:i}", "bench", "rpc",
	              "device", kvd_device(s->kvd), "threads", 1, "us_median",
	              kvd, "us_p99",
	              stats_percentile(sides[0].us, sides[0].nr, 99), "pings",
	              (int)sides[0].nr);
	if (j)
		json_object_set_new(j, "one_processor",
		                    json_boolean(o->one_processor));
	if (!j || !compared)
		return j;
	redis = stats_median(sides[1].us, sides[1].nr);
	json_object_set_new(j, "redis_us_median", json_real(redis));
	json_object_set_new(
		j, "redis_us_p99",
		json_real(stats_percentile(sides[1].us, sides[1].nr, 99)));
	json_object_set_new(j, "ratio", json_real(kvd / redis));
	return j;
}

/* Return: 1 there is one to compare with, 0 there is none, -errno. */
static int open_redis(struct redis *r, const char *program)
{
	int err;

	if (program && strcmp(program, "none") == 0)
		return 0;
	err = redis_open(r, program);
	if (err == -ENOENT && !program) {
		fprintf(stderr, "kvbench rpc: no redis-server in PATH, so "
		                "nothing to compare with\n");
		return 0;
	}
	if (err)
		fprintf(stderr, "kvbench rpc: %s does not start: %s\n",
		        program ? program : "redis-server", strerror(-err));
	return err ? err : 1;
}

static int compare(struct session *s, struct redis *r, const struct opts *o)
{
	struct side sides[] = { { .ping = ping_kvd, .ctx = s->kvd },
		                { .ping = ping_redis, .ctx = r } };
	size_t nr = (size_t)(o->rounds + 1) * o->pings;
	int compared, err, status = BENCH_FAILED;

	sides[0].us = calloc(nr, sizeof(double));
	sides[1].us = calloc(nr, sizeof(double));
	if (!sides[0].us || !sides[1].us)
		goto out;
	compared = open_redis(r, o->redis);
	if (compared < 0)
		goto out;
	err = measure_all(sides, compared ? 2 : 1, o);
	if (err)
		fprintf(stderr, "kvbench rpc: %s\n", strerror(-err));
	else
		status = report_print(figures(s, sides, compared, o), o->json);
out:
	free(sides[0].us);
	free(sides[1].us);
	return status;
}

/* This process and those it starts stay where it is. */
static int share_processor(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -1;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static int run(int argc, char **argv)
{
	struct opts o = { .rounds = 50, .pings = 400 };
	const struct arg args[] = {
		{ "socket", ARG_TEXT, &o.socket, "of a running daemon" },
		{ "redis", ARG_TEXT, &o.redis, "its path, or none" },
		{ "rounds", ARG_COUNT, &o.rounds, "turns each side has" },
		{ "pings", ARG_COUNT, &o.pings, "in one turn" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	struct session s = SESSION_NULL;
	struct redis r = REDIS_NULL;
	int status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	status = BENCH_FAILED;
	if (!o.socket && !getenv("KVD_SOCKET"))
		o.one_processor = share_processor() == 0;
	if (session_open(&s, "rpc", o.socket) == 0)
		status = compare(&s, &r, &o);
	redis_close(&r);
	session_close(&s);
	return status;
}

const struct bench bench_rpc = { "rpc", summary, run };
