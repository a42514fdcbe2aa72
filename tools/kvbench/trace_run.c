// SPDX-License-Identifier: Apache-2.0
/*
 * trace_run.c - one replay of a trace: a daemon, clients, what they counted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/stats.h"
#include "tools/kvbench/trace_run.h"

#define POLL_US     20000
#define SET_TEXT    300
#define PROGRESS_NS 500000000ull

struct thread {
	pthread_t id;
	struct trace_run *run;
	struct trace_counts counts;
};

static double cpu_s(int who)
{
	struct rusage u;

	getrusage(who, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* --set KEY=VALUE, where there is a value. Return: words. */
static int add_set(const char **more, char text[SET_TEXT], const char *key,
                   const char *value)
{
	if (!value)
		return 0;
	snprintf(text, SET_TEXT, "%s=%s", key, value);
	more[0] = "--set";
	more[1] = text;
	return 2;
}

static int start(struct trace_run *run)
{
	const struct trace_options *o = run->o;
	char pool[32], segment[32], set[3][SET_TEXT];
	const char *more[15] = { "--pool", pool, "--segment", segment,
		                 "--set", "pin-max=100%", "--set",
		                 "pin-ttl-max=1440min" };
	struct kvd *probe = NULL;
	int err, nr = 8;

	snprintf(pool, sizeof(pool), "%llu",
	         (unsigned long long)run->pool->bytes);
	snprintf(segment, sizeof(segment), "%llu",
	         (unsigned long long)run->pool->segment_bytes);
	nr += add_set(more + nr, set[0], "policy", o->policy);
	nr += add_set(more + nr, set[1],
	              o->tier_file ? "tier-file-size" : "tier-memory", o->tier);
	add_set(more + nr, set[2], "tier-file", o->tier_file);
	err = daemon_start(&run->daemon, more);
	if (!err)
		err = daemon_connect(&run->daemon, "kvbench trace", &probe);
	kvd_close(probe);
	if (!err)
		return 0;
	daemon_print_log(&run->daemon);
	fprintf(stderr, "kvbench trace: no kvd of its own: %s\n",
	        strerror(-err));
	return err;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct trace_run *run = t->run;

	trace_client(run, &t->counts);
	atomic_store(&run->end_ns, stats_now_ns());
	atomic_fetch_sub(&run->running, 1);
	return NULL;
}

static void wait_all(struct trace_run *run)
{
	uint64_t shown_ns = run->start_ns;

	while (atomic_load(&run->running)) {
		usleep(POLL_US);
		if (!run->o->progress ||
		    stats_now_ns() - shown_ns < PROGRESS_NS)
			continue;
		shown_ns = stats_now_ns();
		trace_progress(run, false);
	}
	if (run->o->progress)
		trace_progress(run, true);
}

static void merge(struct trace_counts *to, const struct trace_counts *from)
{
	int i;

	to->requests += from->requests;
	to->input_tokens += from->input_tokens;
	to->hit_tokens += from->hit_tokens;
	to->copied_tokens += from->copied_tokens;
	to->hit_pinned += from->hit_pinned;
	to->hit_demoted += from->hit_demoted;
	to->stored_tokens += from->stored_tokens;
	to->no_space += from->no_space;
	to->no_quota += from->no_quota;
	to->checked += from->checked;
	to->bad += from->bad;
	to->held += from->held;
	if (from->held_max > to->held_max)
		to->held_max = from->held_max;
	for (i = 0; i < TRACE_NR_OPS; i++)
		hist_merge(&to->ns[i], &from->ns[i]);
}

/* Return: 0, or the first error. */
static int run_clients(struct trace_run *run, struct thread *threads,
                       struct trace_result *ret)
{
	unsigned i, nr;
	int err = 0;

	run->start_ns = stats_now_ns();
	for (nr = 0; nr < run->o->clients && !err; nr++) {
		threads[nr].run = run;
		atomic_fetch_add(&run->running, 1);
		err = -pthread_create(&threads[nr].id, NULL, thread_main,
		                      &threads[nr]);
	}
	if (err) {
		nr--;
		atomic_fetch_sub(&run->running, 1);
		atomic_store(&run->err, err);
		fprintf(stderr, "kvbench trace: a thread: %s\n",
		        strerror(-err));
	}
	wait_all(run);
	for (i = 0; i < nr; i++) {
		pthread_join(threads[i].id, NULL);
		merge(&ret->counts, &threads[i].counts);
	}
	ret->wall_s = (double)(run->end_ns - run->start_ns) / 1e9;
	return atomic_load(&run->err);
}

static uint32_t count_pinned(const struct trace_hot *h)
{
	uint32_t i, nr = 0;

	for (i = 0; i < h->nr; i++)
		nr += atomic_load(&h->are[i]) == TRACE_HOT_PINNED;
	return nr;
}

static int replay(struct trace_run *run, struct trace_result *ret)
{
	struct thread *threads = calloc(run->o->clients, sizeof(*threads));
	int err = threads ? start(run) : -ENOMEM;

	if (!err)
		err = run_clients(run, threads, ret);
	if (!err)
		err = trace_watch(run, true, &ret->stat);
	if (!err) {
		ret->model_hit_tokens = run->model.hit_tokens;
		ret->pinned_blocks = count_pinned(&run->hot);
		ret->waste = run->watch.waste / run->watch.nr;
		ret->waste_max = run->watch.waste_max;
	}
	free(threads);
	return err;
}

int trace_replay(const struct trace_options *o, const struct trace_pool *pool,
                 struct trace_result *ret)
{
	double self_s = cpu_s(RUSAGE_SELF), daemon_s = cpu_s(RUSAGE_CHILDREN);
	struct trace_run run = { .o = o,
		                 .pool = pool,
		                 .daemon = CHILD_NULL,
		                 .file_lock = PTHREAD_MUTEX_INITIALIZER,
		                 .watch.lock = PTHREAD_MUTEX_INITIALIZER };
	int err = trace_open(&run.file, o->path, o->limit);

	memset(ret, 0, sizeof(*ret));
	if (!err)
		err = trace_model_init(&run.model, (uint32_t)pool->small_pages,
		                       pool->open.page_tokens,
		                       o->total.longest);
	if (!err)
		err = trace_hot_find(&run.hot, o->path, o->limit, o->pins);
	if (!err)
		err = replay(&run, ret);
	child_fini(&run.daemon);
	trace_close(&run.file);
	trace_model_fini(&run.model);
	trace_hot_fini(&run.hot);
	ret->client_cpu_s = cpu_s(RUSAGE_SELF) - self_s;
	ret->daemon_cpu_s = cpu_s(RUSAGE_CHILDREN) - daemon_s;
	return err;
}
