// SPDX-License-Identifier: Apache-2.0
/*
 * loop.c - kvbench loop: the longest turn of the daemon's loop, by what it is
 * asked to do with a million pages.
 *
 * Whoever else has a request waits for as long. A daemon of our own, on the
 * host, has as many pages as are asked for, of a kilobyte or so each; each
 * kind of request is made for all of them, and what goes on after the answer
 * is waited for. Then the daemon is asked for its longest turn, which begins
 * anew. So a figure is the worst of a thousand requests or more. All that a
 * round has, another process then holds, and is killed.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/stats.h"

#define PAGE_TOKENS    32
#define DIM	       32
#define BYTES_A_NUMBER 16384ull /* the daemon has a page number for so many */
#define WAIT_MS	       60000
#define POLL_US	       5000
#define MAX_ROUNDS     32
#define NR_KINDS       11

static const char summary[] =
	"the longest turn of the daemon's loop, by kind of request";

struct opts {
	unsigned pages;
	unsigned rounds;
	bool json;
};

struct loop {
	const struct opts *o;
	struct child daemon;
	struct kvd *kvd;
	struct kvd_space *space;
	handle_t *handles;		/* [pages] */
	uint32_t salt;			/* other names than before */
	pid_t holder;
	json_t *stat;			/* of the last look */
	const json_t *pool, *turn;	/* in it */
};

/* ---- what the daemon says ---- */

static int64_t count(const json_t *pool, const char *of, const char *state)
{
	return json_integer_value(
		json_object_get(json_object_get(pool, of), state));
}

/* Return: 0 or -errno; l->pool and l->turn are good until the next look. */
static int look(struct loop *l, bool reset)
{
	const char *const words[] = { "stat", reset ? "--loop-reset" : NULL,
		                      NULL };

	json_decref(l->stat);
	l->stat = daemon_kvctl(&l->daemon, words);
	l->pool = json_array_get(json_object_get(l->stat, "pools"), 0);
	l->turn = json_object_get(l->stat, "loop");
	return l->pool && l->turn ? 0 : -EPROTO;
}

static int64_t held(const json_t *pool)
{
	return count(pool, "pages", "open") + count(pool, "pages", "sealed") +
	       count(pool, "pages", "quarantined");
}

/* Until nothing is held, and nothing changes any more. */
static int settle(struct loop *l)
{
	int64_t before = -1, now;
	int ms, err = look(l, false);

	for (ms = 0; !err && ms < WAIT_MS; ms += POLL_US / 1000) {
		now = count(l->pool, "pages", "cached");
		if (now == before && held(l->pool) == 0)
			return 0;
		before = now;
		usleep(POLL_US);
		err = look(l, false);
	}
	return err ? err : -ETIMEDOUT;
}

/* ---- pages ---- */

static int for_pages(struct loop *l, uint32_t first, uint32_t nr, uint32_t most,
                     int (*one)(struct loop *l, uint32_t at, uint32_t nr))
{
	uint32_t at, n;
	int err = 0;

	for (at = first; at < first + nr && !err; at += n) {
		n = first + nr - at < most ? first + nr - at : most;
		err = one(l, at, n);
	}
	return err;
}

static int alloc_some(struct loop *l, uint32_t at, uint32_t nr)
{
	static place_t places[WIRE_MAX_PAGES];

	return request_alloc(l->space, 0, nr, WAIT_MS, l->handles + at, places);
}

/* A sequence of its own, named by its first page's number. */
static int publish_some(struct loop *l, uint32_t at, uint32_t nr)
{
	static const struct name none;
	static uint32_t tokens[PUBLISH_MAX_BLOCKS][PAGE_TOKENS];
	struct publish_block blocks[PUBLISH_MAX_BLOCKS];
	struct name names[PUBLISH_MAX_BLOCKS];
	place_t places[PUBLISH_MAX_BLOCKS];
	struct publish p = { .nr_blocks = nr,
		             .blocks = blocks,
		             .handles = l->handles + at,
		             .places = places };
	uint32_t i;

	for (i = 0; i < nr; i++) {
		tokens[i][0] = at + i;
		tokens[i][1] = l->salt;
		blocks[i] = (struct publish_block){ i ? &names[i - 1] : &none,
			                            &none, tokens[i], i };
		names[i] = name_block(&l->space->key, blocks[i].parent, &none,
		                      tokens[i], PAGE_TOKENS);
	}
	return request_publish(l->space, &p);
}

static int release_some(struct loop *l, uint32_t at, uint32_t nr)
{
	return request_release(l->kvd, l->handles + at, nr);
}

static int match_some(struct loop *l, uint32_t at, uint32_t nr)
{
	static place_t places[WIRE_MAX_PAGES];
	uint32_t granted = 0;
	int err = request_match(l->space, l->handles + at, nr, &granted,
	                        places);

	return err ? err : granted == nr ? 0 : -ENOENT;
}

static int alloc_all(struct loop *l)
{
	return for_pages(l, 0, l->o->pages, WIRE_MAX_PAGES, alloc_some);
}

static int publish_all(struct loop *l)
{
	return for_pages(l, 0, l->o->pages, PUBLISH_MAX_BLOCKS, publish_some);
}

static int release_all(struct loop *l)
{
	return for_pages(l, 0, l->o->pages, WIRE_MAX_PAGES, release_some);
}

/* As many as are sure to be there: the background may have taken some. */
static int match_all(struct loop *l)
{
	uint32_t nr = l->o->pages / 64 * 32;

	return for_pages(l, nr, nr, WIRE_MAX_PAGES, match_some);
}

static int rerelease(struct loop *l)
{
	uint32_t nr = l->o->pages / 64 * 32;

	return for_pages(l, nr, nr, WIRE_MAX_PAGES, release_some);
}

/* Others' go for them. */
static int evict_half(struct loop *l)
{
	uint32_t nr = l->o->pages / 2;
	int err = for_pages(l, 0, nr, WIRE_MAX_PAGES, alloc_some);

	l->salt++;
	return err ? err : for_pages(l, 0, nr, PUBLISH_MAX_BLOCKS,
	                             publish_some);
}

static int release_half(struct loop *l)
{
	return for_pages(l, 0, l->o->pages / 2, WIRE_MAX_PAGES, release_some);
}

/* ---- an admin's ---- */

static int kvctl(const struct loop *l, const char *const *words)
{
	json_t *answer = daemon_kvctl(&l->daemon, words);

	json_decref(answer);
	return answer ? 0 : -EIO;
}

static int reclaim_some(struct loop *l)
{
	char bytes[24];
	const char *const words[] = { "reclaim", bytes, NULL };

	snprintf(bytes, sizeof(bytes), "%lld",
	         (long long)count(l->pool, "bytes", "cached") / 8);
	return kvctl(l, words);
}

/* What is above goes, then there is no limit again. */
static int lower_high(struct loop *l)
{
	char tenant[32], high[40];
	const char *words[] = { "tenant", "set", tenant, high, "--runtime",
		                NULL };
	int err;

	snprintf(tenant, sizeof(tenant), "uid-%u", (unsigned)geteuid());
	snprintf(high, sizeof(high), "high=%lld",
	         (long long)count(l->pool, "bytes", "cached") / 2);
	err = kvctl(l, words);
	if (!err)
		err = settle(l);
	words[3] = "high=infinity";
	return err ? err : kvctl(l, words);
}

static int drop_all(struct loop *l)
{
	char space[16];
	const char *const words[] = { "drop", space, NULL };

	snprintf(space, sizeof(space), "%u", (unsigned)l->space->id);
	return kvctl(l, words);
}

/* ---- a connection ---- */

static int open_space(struct loop *l)
{
	struct kvd_space_opts o = { .size = sizeof(o),
		                    .nr_threads = 1,
		                    .stock_bytes = 1 };
	struct kvd_geometry *g = &o.geometry;
	int err = daemon_connect(&l->daemon, "kvbench loop", &l->kvd);

	if (err)
		return err;
	memcpy(o.model, "kvbench", sizeof("kvbench"));
	g->size = sizeof(*g);
	g->page_tokens = PAGE_TOKENS;
	g->k_format = g->v_format = KVD_INT4;
	g->nr_groups = 1;
	g->groups[0] = (struct kvd_group){ .nr_layers = 1,
		                           .nr_kv_heads = 1,
		                           .k_dim = DIM,
		                           .v_dim = DIM };
	return kvd_space_open(l->kvd, &o, &l->space);
}

static int close_space(struct loop *l)
{
	kvd_close(l->kvd);
	l->kvd = NULL;
	l->space = NULL;
	return settle(l);
}

/* Another process: holds all, half of it published, until it is killed. */
static _Noreturn void hold(struct loop *l, int tell)
{
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	err = open_space(l);
	if (!err)
		err = alloc_all(l);
	if (!err)
		err = for_pages(l, 0, l->o->pages / 2, PUBLISH_MAX_BLOCKS,
		                publish_some);
	if (write(tell, &err, sizeof(err)) != sizeof(err))
		_exit(1);
	for (;;)
		pause();
}

static int start_holder(struct loop *l)
{
	int fds[2], err = -EIO;

	if (pipe(fds))
		return -errno;
	l->holder = fork();
	if (l->holder == 0)
		hold(l, fds[1]);
	close(fds[1]);
	if (l->holder < 0 || read(fds[0], &err, sizeof(err)) != sizeof(err))
		err = -EIO;
	close(fds[0]);
	return err;
}

static int kill_holder(struct loop *l)
{
	if (l->holder <= 0)
		return 0;
	kill(l->holder, SIGKILL);
	waitpid(l->holder, NULL, 0);
	l->holder = 0;
	return settle(l);
}

/* ---- a round ---- */

static const struct kind {
	const char *name;
	int (*run)(struct loop *l);
} kinds[NR_KINDS] = {
	{ "open", open_space },
	{ "alloc", alloc_all },
	{ "publish", publish_all },
	{ "release", release_all },
	{ "match", match_all },
	{ "rerelease", rerelease },
	{ "evict", evict_half },
	{ "reclaim", reclaim_some },
	{ "limit", lower_high },
	{ "drop", drop_all },
	{ "death", kill_holder },
};

struct result {
	double wall_us[NR_KINDS][MAX_ROUNDS];
	double cpu_us[NR_KINDS][MAX_ROUNDS];
};

/* What is not measured, but has to be before kind @i can be. */
static int prepare(struct loop *l, int i)
{
	int err = 0;

	if (strcmp(kinds[i].name, "reclaim") == 0)
		err = release_half(l);
	else if (strcmp(kinds[i].name, "death") == 0) {
		err = close_space(l);
		if (!err)
			err = start_holder(l);
	}
	return err ? err : look(l, true);
}

static int measure(struct loop *l, int i, double *wall_us, double *cpu_us)
{
	int err = prepare(l, i);

	if (!err)
		err = kinds[i].run(l);
	if (!err)
		err = look(l, false);
	if (err)
		return err;
	*wall_us = json_number_value(json_object_get(l->turn, "max_us"));
	*cpu_us = json_number_value(json_object_get(l->turn, "max_cpu_us"));
	return 0;
}

static int start(struct loop *l)
{
	char pool[32];
	const char *const more[] = { "--pool", pool, NULL };
	int err;

	snprintf(pool, sizeof(pool), "%llu",
	         (unsigned long long)((l->o->pages * BYTES_A_NUMBER + (2u << 20) -
	                               1) >> 21 << 21));
	err = daemon_start(&l->daemon, more);
	if (!err) /* waits for it */
		err = daemon_connect(&l->daemon, "kvbench loop", &l->kvd);
	kvd_close(l->kvd);
	l->kvd = NULL;
	return err;
}

static void stop(struct loop *l)
{
	if (l->holder > 0) {
		kill(l->holder, SIGKILL);
		waitpid(l->holder, NULL, 0);
	}
	json_decref(l->stat);
	kvd_close(l->kvd);
	child_fini(&l->daemon);
}

static int one_round(const struct opts *o, handle_t *handles, unsigned round,
                     struct result *r)
{
	struct loop l = { .o = o, .daemon = CHILD_NULL, .handles = handles };
	int i, err = start(&l);

	for (i = 0; i < NR_KINDS && !err; i++) {
		err = measure(&l, i, &r->wall_us[i][round],
		              &r->cpu_us[i][round]);
		if (err)
			fprintf(stderr, "kvbench loop: %s: %s\n", kinds[i].name,
			        strerror(-err));
	}
	stop(&l);
	return err;
}

/* ---- what came out ---- */

static json_t *row_of(const struct opts *o, struct result *r, int i)
{
	double *wall = r->wall_us[i], *cpu = r->cpu_us[i];
	double wall_median = stats_median(wall, o->rounds);
	double cpu_median = stats_median(cpu, o->rounds);

	return json_pack("{s:s, s:f, s:f, s:f, s:f}", "kind", kinds[i].name,
	                 "cpu_us_median", cpu_median, "cpu_us_max",
	                 cpu[o->rounds - 1], "wall_us_median", wall_median,
	                 "wall_us_max", wall[o->rounds - 1]);
}

static int print(const struct opts *o, struct result *r)
{
	json_t *rows = json_array(), *row;
	size_t i;

	for (i = 0; i < NR_KINDS; i++)
		json_array_append_new(rows, row_of(o, r, (int)i));
	if (o->json)
		return report_print(json_pack("{s:s, s:s, s:i, s:i, s:o}",
		                              "bench", "loop", "device", "host",
		                              "pages", (int)o->pages, "rounds",
		                              (int)o->rounds, "kinds", rows),
		                    true);
	printf("longest turn, us  computing: median    worst  by the clock: "
	       "median    worst\n");
	json_array_foreach(rows, i, row)
		printf("%-16s  %17.0f  %7.0f  %20.0f  %7.0f\n",
		       kinds[i].name,
		       json_number_value(json_object_get(row, "cpu_us_median")),
		       json_number_value(json_object_get(row, "cpu_us_max")),
		       json_number_value(json_object_get(row, "wall_us_median")),
		       json_number_value(json_object_get(row, "wall_us_max")));
	json_decref(rows);
	return 0;
}

static int run(int argc, char **argv)
{
	struct opts o = { .pages = 1000000, .rounds = 3 };
	const struct arg args[] = {
		{ "pages", ARG_COUNT, &o.pages, "that the pool has" },
		{ "rounds", ARG_COUNT, &o.rounds, "a daemon each, at most 32" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	int err = 0, status = args_parse(argc, argv, args, summary);
	static struct result result;
	handle_t *handles;
	unsigned i;

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	if (o.rounds > MAX_ROUNDS || o.pages < 4096 || o.pages > 4u << 20) {
		fprintf(stderr, "kvbench loop: 4096 to %u pages, at most %u "
		        "rounds\n", 4u << 20, MAX_ROUNDS);
		return BENCH_USAGE;
	}
	handles = calloc(o.pages, sizeof(*handles));
	if (!handles)
		return BENCH_FAILED;
	for (i = 0; i < o.rounds && !err; i++)
		err = one_round(&o, handles, i, &result);
	free(handles);
	return err ? BENCH_FAILED : print(&o, &result);
}

const struct bench bench_loop = { "loop", summary, run };
