// SPDX-License-Identifier: Apache-2.0
/*
 * trace_watch.c - what a replay is doing: the pool's use, and progress.
 *
 * Waste is the part of the bytes in use that hold no token: open pages that
 * wait in a client's stock, what is yet to be filled of the others, exact
 * copies of pages that are sealed as well. It is looked at while half of the
 * pool or more is in use: what a stock is of an empty one says nothing. Or
 * else once, at the end.
 */
#include <errno.h>
#include <stdio.h>
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/stats.h"
#include "tools/kvbench/trace_run.h"

static uint64_t count(const json_t *pool, const char *of, const char *key)
{
	const json_t *o = of ? json_object_get(pool, of) : pool;

	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static int ask(const struct child *daemon, struct trace_stat *ret)
{
	json_t *answer = daemon_stat(daemon);
	const json_t *pool =
		json_array_get(json_object_get(answer, "pools"), 0);
	int err = pool ? 0 : -EPROTO;

	if (!err)
		*ret = (struct trace_stat){
			.bytes_in_use = count(pool, "bytes", "total") -
			                count(pool, "bytes", "free"),
			.bytes_open = count(pool, "bytes", "open"),
			.published = count(pool, NULL, "published"),
			.deduplicated = count(pool, NULL, "deduplicated"),
			.demoted = count(pool, NULL, "demoted"),
			.evicted = count(pool, NULL, "evicted"),
			.saved = count(answer, "tiers", "saved"),
			.lost = count(answer, "tiers", "lost"),
			.fetched = count(answer, "tiers", "fetched"),
			.missed = count(answer, "tiers", "missed"),
		};
	json_decref(answer);
	return err;
}

static double waste_of(const struct trace_run *run, const struct trace_stat *s)
{
	const struct page_layout *l = &run->pool->open;
	double tokens = (double)atomic_load(&run->in_open);
	double waste =
		(double)s->bytes_open - tokens * l->page_bytes / l->page_tokens;

	if (!s->bytes_in_use || waste < 0)
		return 0;
	return waste / (double)s->bytes_in_use;
}

int trace_watch(struct trace_run *run, bool last, struct trace_stat *ret)
{
	struct trace_watch *w = &run->watch;
	double waste;
	int err;

	pthread_mutex_lock(&w->lock);
	err = ask(&run->daemon, ret);
	if (err)
		fprintf(stderr, "kvbench trace: kvctl stat says nothing\n");
	waste = err ? 0 : waste_of(run, ret);
	if (!err &&
	    (ret->bytes_in_use * 2 >= run->pool->bytes || (last && !w->nr))) {
		w->nr++;
		w->waste += waste;
		if (waste > w->waste_max)
			w->waste_max = waste;
	}
	pthread_mutex_unlock(&w->lock);
	return err;
}

void trace_progress(const struct trace_run *run, bool last)
{
	double done = (double)atomic_load(&run->done);
	double all = run->o->total.requests;
	double input = (double)atomic_load(&run->input);
	double s = (double)(stats_now_ns() - run->start_ns) / 1e9;

	if (!done || s <= 0)
		return;
	fprintf(stderr,
	        "\r%5.1f %%  %.0f requests/s  hit rate %.4f  %s%.0f s%s",
	        100 * done / all, done / s,
	        (double)atomic_load(&run->hit) / input, last ? "in " : "left ",
	        last ? s : (all - done) * s / done, last ? "  \n" : "   ");
	fflush(stderr);
}
