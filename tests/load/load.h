/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h - many clients for a long time: what a request takes, and whether the
 * daemon grows.
 *
 * The clients are those of tests/storm, each a process with a connection, and
 * check what they read as there. Each begins an operation when it is due,
 * whatever the last one took, unless that is not over yet.
 */
#ifndef TESTS_LOAD_LOAD_H
#define TESTS_LOAD_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "proto/wire.h"
#include "tests/storm/storm.h"
#include "tools/kvbench/hist.h"

/* ---- load_time.c: in the clients ---- */

/* What is timed: a round trip of each wire_type, and */
enum {
	LOAD_ONE_PAGE = WIRE_NR_TYPES, /* of an allocation of one page, */
	LOAD_MATCH,		/* kvd_seq_match(), */
	LOAD_COMMIT,		/* kvd_commit(), */
	LOAD_LATE,		/* an operation, from when it was due until it
				 * began. */
	LOAD_NR
};

struct load_times {
	struct hist of[LOAD_NR]; /* nanoseconds */
};

/* Of each client, shared with it. */
extern struct load_times *load_times;

/* How much faster the warm-up is: to have behind it what memory is used for the
 * first time, and the most that is used at once. */
#define LOAD_WARM_UP_RATE 4u

/* When operations of a client are due: for @span_ns from its first on, one each
 * @period_ns on average; but faster, and not timed, for @warm_ns. */
struct load_pace {
	uint64_t warm_ns, span_ns, period_ns;
};

extern struct load_pace load_pace;

uint64_t load_now_ns(void);

/* storm_options.pace */
bool load_next(void);

const char *load_name(unsigned what);

/* ---- load_watch.c: the daemon as the system sees it ---- */

struct load_sample {
	double s;		/* since the beginning */
	uint64_t anon;		/* bytes: RssAnon, its own memory */
	uint64_t shmem;		/* RssShmem: pool, tables, indexes */
	uint64_t fds, maps;
	double cpu_s;		/* processor time until now */
	double loadavg;		/* of the machine, one minute */
};

void load_look(pid_t pid, struct load_sample *ret);

/* The straight line that fits samples from @from_s on best. */
struct load_fit {
	unsigned nr;		/* of them; fewer than 2: no line */
	double mean;		/* bytes */
	double slope;		/* bytes a second */
};

void load_fit_anon(const struct load_sample *of, unsigned nr, double from_s,
		   struct load_fit *ret);

/* ---- load_report.c ---- */

struct load_result {
	uint32_t workers;
	double seconds, warm_s, rate;
	uint64_t seed;
	const struct storm_crew *crew;
	const struct load_times *all;	/* of all clients together */
	const struct load_sample *samples;
	unsigned nr_samples;
	struct load_fit fit;
	double growth;		/* of anonymous memory in ten minutes, a part of
				 * its mean */
	uint64_t walk_us;
};

void load_report(const struct load_result *r, bool json);

#endif
