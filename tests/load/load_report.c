// SPDX-License-Identifier: Apache-2.0
/*
 * load_report.c - what was seen, as text or as one JSON object.
 */
#include <jansson.h>
#include <stdio.h>
#include "tests/load/load.h"

/* Of one who tells them all. */
struct sums {
	uint64_t ops, refused, read, events, evicted;
};

static struct sums sum(const struct storm_crew *crew)
{
	struct sums a = { 0 };

	for (uint32_t i = 0; i < crew->nr; i++) {
		const struct storm_report *r = crew->mates[i].report;

		for (int k = 0; k < STORM_NR_OPS; k++)
			a.ops += r->nr[k];
		a.refused += r->refused;
		a.read += r->read;
		a.events += r->events;
	}
	return a;
}

/* ---- JSON ---- */

static json_t *times(const struct load_times *all)
{
	json_t *ret = json_object();

	for (unsigned i = 1; i < LOAD_NR; i++) {
		const struct hist *h = &all->of[i];

		if (!h->nr)
			continue;
		json_object_set_new(ret, load_name(i), json_pack(
			"{sI, sf, sf, sf, sf}", "nr", (json_int_t)h->nr,
			"mean_us", (double)h->sum / (double)h->nr / 1e3,
			"p50_us", hist_percentile(h, 50) / 1e3,
			"p99_us", hist_percentile(h, 99) / 1e3,
			"max_us", (double)h->max / 1e3));
	}
	return ret;
}

static json_t *memory(const struct load_result *r)
{
	json_t *ret = json_array();

	for (unsigned i = 0; i < r->nr_samples; i++) {
		const struct load_sample *s = &r->samples[i];

		json_array_append_new(ret, json_pack(
			"{sf, sI, sI, sI, sI, sf, sf}", "s", s->s,
			"rss_anon", (json_int_t)s->anon,
			"rss_shmem", (json_int_t)s->shmem,
			"fds", (json_int_t)s->fds,
			"maps", (json_int_t)s->maps, "cpu_s", s->cpu_s,
			"loadavg", s->loadavg));
	}
	return ret;
}

static void report_json(const struct load_result *r)
{
	struct sums a = sum(r->crew);
	json_t *j = json_pack(
		"{sI, sf, sf, sf, sI, sI, sI, sI, sI, sI, sf, sf, sf, so, so}",
		"workers", (json_int_t)r->workers, "seconds", r->seconds,
		"warm_up_s", r->warm_s, "rate", r->rate, "seed",
		(json_int_t)r->seed, "operations", (json_int_t)a.ops,
		"refused", (json_int_t)a.refused, "pages_read",
		(json_int_t)a.read, "events", (json_int_t)a.events, "walk_us",
		(json_int_t)r->walk_us, "rss_anon_mean", r->fit.mean,
		"rss_anon_slope", r->fit.slope, "rss_anon_growth_10min",
		r->growth, "times", times(r->all), "samples", memory(r));

	json_dumpf(j, stdout, JSON_REAL_PRECISION(8));
	putchar('\n');
	json_decref(j);
}

/* ---- text ---- */

static void report_times(const struct load_times *all)
{
	printf("%-18s %10s %10s %10s %10s %10s  us\n", "", "nr", "mean", "p50",
	       "p99", "max");
	for (unsigned i = 1; i < LOAD_NR; i++) {
		const struct hist *h = &all->of[i];

		if (h->nr)
			printf("%-18s %10llu %10.0f %10.0f %10.0f %10.0f\n",
			       load_name(i), (unsigned long long)h->nr,
			       (double)h->sum / (double)h->nr / 1e3,
			       hist_percentile(h, 50) / 1e3,
			       hist_percentile(h, 99) / 1e3,
			       (double)h->max / 1e3);
	}
}

static void report_memory(const struct load_result *r)
{
	unsigned step = r->nr_samples / 12 + 1;

	printf("%8s %12s %12s %6s %6s %8s %8s\n", "s", "RssAnon KiB",
	       "RssShmem MiB", "fds", "maps", "cpu s", "loadavg");
	for (unsigned i = 0; i < r->nr_samples; i++) {
		const struct load_sample *s = &r->samples[i];

		if (i % step == 0 || i == r->nr_samples - 1)
			printf("%8.0f %12llu %12.1f %6llu %6llu %8.2f %8.2f\n",
			       s->s, (unsigned long long)s->anon >> 10,
			       (double)s->shmem / (1 << 20),
			       (unsigned long long)s->fds,
			       (unsigned long long)s->maps, s->cpu_s,
			       s->loadavg);
	}
	printf("RssAnon after %.0f s: mean %.0f KiB, slope %.1f bytes/s, "
	       "%+.2f %% in ten minutes\n", r->warm_s, r->fit.mean / 1024,
	       r->fit.slope, 100 * r->growth);
}

void load_report(const struct load_result *r, bool json)
{
	struct sums a = sum(r->crew);

	if (json) {
		report_json(r);
		return;
	}
	printf("%u workers, %.0f s at %.0f operations a second, after a warm-up "
	       "of %.0f s at %u times that; %llu operations\n%llu refused for "
	       "room, %llu pages read back, %llu events told; the walker took "
	       "%llu us\nafter the warm-up:\n", r->workers, r->seconds,
	       r->rate, r->warm_s, LOAD_WARM_UP_RATE,
	       (unsigned long long)a.ops,
	       (unsigned long long)a.refused, (unsigned long long)a.read,
	       (unsigned long long)a.events, (unsigned long long)r->walk_us);
	report_times(r->all);
	report_memory(r);
}
