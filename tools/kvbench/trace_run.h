/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_run.h - one replay of a trace: a daemon, clients, what they counted.
 *
 * Each client is a thread with a connection of its own. They take requests
 * from the file in turn, under file_lock. Whichever is due to asks how the
 * pool is used (trace_watch.c), when its sequence is at its longest.
 */
#ifndef TOOLS_KVBENCH_TRACE_RUN_H
#define TOOLS_KVBENCH_TRACE_RUN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <kvd/kvd.h>
#include "tools/kvbench/child.h"
#include "tools/kvbench/hist.h"
#include "tools/kvbench/trace_file.h"
#include "tools/kvbench/trace_hot.h"
#include "tools/kvbench/trace_model.h"
#include "tools/kvbench/trace_pool.h"

#define TRACE_MAX_CLIENTS 64

enum trace_op {
	TRACE_MATCH,
	TRACE_RESERVE,
	TRACE_COMMIT,
	TRACE_FREE,
	TRACE_NR_OPS
};

struct trace_options {
	const char *path;
	const char *policy; /* NULL: the daemon's default */
	struct trace_total total;
	unsigned limit; /* requests; 0: all */
	unsigned clients;
	unsigned chunk; /* tokens */
	unsigned pins;  /* blocks of TRACE_BLOCK tokens that are to be pinned */
	const char *demote;    /* a smaller format; NULL: none */
	const char *tier;      /* bytes of a tier in memory; NULL: none */
	const char *tier_file; /* and in a file: its path */
	bool outputs;
	bool progress;
};

struct trace_counts {
	uint64_t requests;
	uint64_t input_tokens;
	uint64_t hit_tokens;
	uint64_t copied_tokens; /* of them, where a hit ended inside a page */
	uint64_t hit_pinned; /* of these, in pinned pages */
	uint64_t hit_demoted; /* and in demoted ones */
	uint64_t stored_tokens;
	uint64_t no_space; /* requests cut short */
	uint64_t no_quota;
	uint64_t checked; /* pages of hits */
	uint64_t bad;
	uint64_t held; /* tokens by all clients: a sample each request */
	uint64_t held_max;
	struct hist ns[TRACE_NR_OPS];
};

/* What the daemon says of its pool. */
struct trace_stat {
	uint64_t bytes_in_use; /* not free */
	uint64_t bytes_open;
	uint64_t published;
	uint64_t deduplicated;
	uint64_t demoted;
	uint64_t evicted;
	uint64_t saved; /* to tiers */
	uint64_t lost;  /* evicted before they could be */
	uint64_t fetched;
	uint64_t missed;
};

struct trace_watch {
	pthread_mutex_t lock;
	uint32_t nr;
	double waste; /* sum of nr */
	double waste_max;
};

struct trace_run {
	const struct trace_options *o;
	const struct trace_pool *pool;
	struct child daemon;
	pthread_mutex_t file_lock;
	struct trace_file file;
	struct trace_model model; /* as the file: under file_lock */
	struct trace_watch watch;
	struct trace_hot hot;

	atomic_int err;      /* the first; all stop */
	atomic_uint running; /* clients */
	atomic_ullong done;  /* requests, and their tokens: */
	atomic_ullong input;
	atomic_ullong hit;
	atomic_llong held;    /* tokens by sequences in progress */
	atomic_llong in_open; /* of these, those in pages not yet full */
	uint64_t start_ns;
	atomic_ullong end_ns; /* of the last client to end */
};

struct trace_result {
	struct trace_counts counts;
	struct trace_stat stat;
	uint64_t model_hit_tokens;
	uint32_t pinned_blocks; /* of TRACE_BLOCK tokens */
	double waste;
	double waste_max;
	double wall_s;
	double client_cpu_s;
	double daemon_cpu_s;
};

/**
 * trace_replay() - all of it, on a daemon of its own
 *
 * Return: 0, or -errno with a line on stderr. Pages that are not what was
 * written are counted, and no error here.
 */
int trace_replay(const struct trace_options *o, const struct trace_pool *pool,
                 struct trace_result *ret);

/* One client, until there is no request left: trace_client.c. */
void trace_client(struct trace_run *run, struct trace_counts *counts);

/* ---- trace_watch.c ---- */

/* Asks, and takes a sample of the waste. Return: 0 or -errno. */
int trace_watch(struct trace_run *run, bool last, struct trace_stat *ret);

/* Rewrites a line on stderr; the last one ends it. */
void trace_progress(const struct trace_run *run, bool last);

#endif
