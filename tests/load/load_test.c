// SPDX-License-Identifier: Apache-2.0
/*
 * load_test.c - many workers, mixed operations, for a long time.
 *
 *	load_mixed [--workers 256] [--seconds 600] [--rate 2560] [--seed N] [--json]
 *
 * Each worker is a process with a connection, and checks what it reads; any
 * error but a refusal for room ends the test. --rate is of operations a second,
 * of all together. Before that is a warm-up, a third as long, at four times the
 * rate, which is not timed. Daemon and machine are looked at each second. At
 * the end all stand still and everything is counted again; then all go.
 *
 * Fails also where the daemon's own memory (RssAnon; pool, tables and indexes
 * are not in it) grew by 1 % in ten minutes, as the line that fits its samples
 * best says. A run of less than two minutes says nothing about that, and is not
 * asked.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "tests/load/load.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define POOL	    (256ull << 20)
#define MAX_GROWTH  0.01
#define MIN_FIT_S   120
#define WARM_UP	    (1. / 3)	/* of the time, before it */
#define MAX_LAG_S   300		/* behind the end, before that is an error */

static const char *const args[] = { "--pool", "256M", "--segment", "8M",
				    "--set", "log-level=warning", NULL };

/* No tearing and no dying: here nothing goes wrong. */
static const uint32_t weights[STORM_NR_OPS] = {
	[STORM_MATCH] = 150,   [STORM_APPEND] = 300,  [STORM_FORK] = 40,
	[STORM_TRUNCATE] = 20, [STORM_FREE] = 60,     [STORM_RESERVE] = 10,
	[STORM_TAKE] = 120,    [STORM_GIVE] = 130,    [STORM_PIN] = 20,
	[STORM_UNPIN] = 10,    [STORM_READ] = 20,     [STORM_PROCESS] = 60,
	[STORM_SUBSCRIBE] = 10, [STORM_STAT] = 20,    [STORM_REOPEN] = 6,
	[STORM_RECONNECT] = 6, [STORM_RECLAIM] = 1,
};

static struct storm_options opts = { .weights = weights, .pace = load_next };
static struct storm_crew crew = { .o = &opts, .nr = 256 };
static struct load_result result = { .seconds = 600, .rate = 2560 };
static double whole_s;		/* with the warm-up */
static struct daemon d;
static bool json;

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED, "%s", strerror(errno));
	return p;
}

static void begin(void)
{
	daemon_start(&d, args);
	chmod(d.dir, 0711);
	chmod(d.socket, 0666);
	opts.socket = d.socket;
	load_times = shared(crew.nr * sizeof(*load_times));
	load_pace.warm_ns = (uint64_t)(result.warm_s * 1e9);
	load_pace.span_ns = (uint64_t)(whole_s * 1e9);
	load_pace.period_ns = (uint64_t)(1e9 * crew.nr / result.rate);
	crew.admin = raw_open(d.socket);
	crew_start(&crew);
	for (uint32_t i = 0; i < crew.nr; i++)
		crew_go(&crew, i); /* nothing yet: all have come */
	while (crew_poll(&crew, 1000))
		;
}

static void progress(const struct load_sample *s)
{
	uint64_t ops = 0;

	for (uint32_t i = 0; i < crew.nr; i++)
		for (int k = 0; k < STORM_NR_OPS; k++)
			ops += crew.mates[i].report->nr[k];
	fprintf(stderr, "\r%4.0f of %.0f s  %llu operations  RssAnon %llu KiB  "
		"load %.2f ", s->s, whole_s, (unsigned long long)ops,
		(unsigned long long)s->anon >> 10, s->loadavg);
}

/* Until all are done; what was seen goes to @samples. */
static unsigned watch(struct load_sample *samples, unsigned max)
{
	uint64_t begin_ns = load_now_ns();
	unsigned nr = 0, busy = crew.nr;

	while (busy) {
		double s = (double)(load_now_ns() - begin_ns) / 1e9;
		double until = nr + 1 - s;

		CHECK(s < whole_s + MAX_LAG_S, "%u workers do not end",
		      busy);
		if (until <= 0 && nr < max) {
			samples[nr].s = s;
			load_look(d.pid, &samples[nr]);
			progress(&samples[nr++]);
		}
		busy = crew_poll(&crew, until > 0 ? (int)(until * 1000) + 1 :
						    1);
	}
	fputc('\n', stderr);
	return nr;
}

static void run(void)
{
	unsigned max = (unsigned)whole_s;
	struct load_sample *samples = calloc(max, sizeof(*samples));

	CHECK(samples, "no memory");
	for (uint32_t i = 0; i < crew.nr; i++) {
		crew.mates[i].report->todo = UINT32_MAX;
		crew_go(&crew, i);
	}
	result.nr_samples = watch(samples, max);
	result.samples = samples;
	load_fit_anon(samples, result.nr_samples, result.warm_s, &result.fit);
	result.growth = result.fit.slope * 600 / result.fit.mean;
}

static void end(void)
{
	struct storm_world w = { d.socket, crew.admin, opts.seed, POOL, &crew };

	result.walk_us = storm_check(&w, false);
	crew_end(&crew);
	raw_bye(crew.admin);
	close(crew.admin);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

static void report(void)
{
	static struct load_times all;

	for (uint32_t i = 0; i < crew.nr; i++)
		for (unsigned k = 0; k < LOAD_NR; k++)
			hist_merge(&all.of[k], &load_times[i].of[k]);
	result.all = &all;
	result.crew = &crew;
	load_report(&result, json);
	CHECK(all.of[LOAD_ONE_PAGE].nr && all.of[WIRE_PUBLISH].nr,
	      "that was no load");
}

static void usage(void)
{
	fputs("usage: load_mixed [--workers N] [--seconds S] [--rate OPERATIONS] "
	      "[--seed N] [--json]\n", stderr);
	exit(2);
}

static void options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "workers", required_argument, NULL, 'w' },
		{ "seconds", required_argument, NULL, 's' },
		{ "rate", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 'e' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 }
	};
	int opt;

	opts.seed = (uint64_t)time(NULL);
	while ((opt = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (opt == 'w')
			crew.nr = (uint32_t)strtoul(optarg, NULL, 0);
		else if (opt == 's')
			result.seconds = strtod(optarg, NULL);
		else if (opt == 'r')
			result.rate = strtod(optarg, NULL);
		else if (opt == 'e')
			opts.seed = strtoull(optarg, NULL, 0);
		else if (opt == 'j')
			json = true;
		else
			usage();
	}
	if (optind < argc || !crew.nr || result.seconds < 1 ||
	    result.rate <= 0)
		usage();
	result.warm_s = result.seconds * WARM_UP;
	whole_s = result.warm_s + result.seconds;
	result.workers = crew.nr;
	result.seed = opts.seed;
	fprintf(stderr, "seed %llu\n", (unsigned long long)opts.seed);
}

int main(int argc, char **argv)
{
	options(argc, argv);
	begin();
	run();
	end();
	report();
	if (result.seconds >= MIN_FIT_S && result.growth >= MAX_GROWTH) {
		fprintf(stderr, "kvd's own memory grows\n");
		return 1;
	}
	return 0;
}
