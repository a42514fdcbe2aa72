// SPDX-License-Identifier: Apache-2.0
/*
 * alloc.c - kvbench alloc: a page from the local stock, 64 in one request.
 *
 * A page from the stock takes less time than reading the clock twice, so it
 * is timed in groups that the stock can serve; what was taken is given back
 * outside the timing. The second figure holds on to what it gets until the
 * end, so that the stock cannot answer for the daemon.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/session.h"
#include "tools/kvbench/stats.h"

#define GROUP 32

static const char summary[] =
	"a page from the local stock, many pages in one request";

struct opts {
	const char *socket;
	unsigned groups;
	unsigned pages; /* of one request */
	unsigned requests;
	bool json;
};

struct result {
	double page_ns;           /* median, from the stock */
	double request_us;        /* median */
	uint32_t round_trips_max; /* of one request */
	double round_trips;       /* mean */
};

static int time_group(struct kvd_space *sp, double *ret_ns)
{
	struct kvd_page pages[GROUP];
	uint64_t start = stats_now_ns();
	int i, err;

	for (i = 0; i < GROUP; i++) {
		err = kvd_page_alloc(sp, 0, 1, &pages[i]);
		if (err)
			return err;
	}
	*ret_ns = (double)(stats_now_ns() - start) / GROUP;
	return kvd_page_free(sp, pages, GROUP);
}

static int measure_stock(struct session *s, const struct opts *o,
                         struct result *r)
{
	double *ns = calloc(o->groups, sizeof(*ns));
	unsigned i;
	int err = ns ? 0 : -ENOMEM;

	for (i = 0; i < o->groups && !err; i++)
		err = time_group(s->space, &ns[i]);
	if (!err)
		r->page_ns = stats_median(ns, o->groups);
	free(ns);
	return err;
}

static int time_request(struct session *s, const struct opts *o,
                        struct kvd_page *pages, double *us, struct result *r)
{
	uint32_t before = session_requests(s), trips;
	uint64_t start = stats_now_ns();
	int err = kvd_page_alloc(s->space, 0, o->pages, pages);

	*us = (double)(stats_now_ns() - start) / 1e3;
	trips = session_requests(s) - before;
	if (trips > r->round_trips_max)
		r->round_trips_max = trips;
	r->round_trips += (double)trips / o->requests;
	return err;
}

static int measure_requests(struct session *s, const struct opts *o,
                            struct result *r)
{
	size_t nr = (size_t)o->requests * o->pages;
	struct kvd_page *pages = calloc(nr, sizeof(*pages));
	double *us = calloc(o->requests, sizeof(*us));
	unsigned i;
	int err = pages && us ? 0 : -ENOMEM;

	for (i = 0; i < o->requests && !err; i++)
		err = time_request(s, o, pages + (size_t)i * o->pages, &us[i],
		                   r);
	if (!err) {
		r->request_us = stats_median(us, o->requests);
		err = kvd_page_free(s->space, pages, nr);
	}
	free(us);
	free(pages);
	return err;
}

static json_t *figures(struct session *s, const struct opts *o,
                       const struct result *r)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:f, s:i, s:f, s:I, s:f}",
	                 "bench", "alloc", "device", kvd_device(s->kvd),
	                 "format", "f16", "threads", 1, "ns_median", r->page_ns,
	                 "pages", (int)o->pages, "us_median", r->request_us,
	                 "round_trips_max", (json_int_t)r->round_trips_max,
	                 "round_trips_mean", r->round_trips);
}

static int run(int argc, char **argv)
{
	struct opts o = { .groups = 1000, .pages = 64, .requests = 20 };
	const struct arg args[] = {
		{ "socket", ARG_TEXT, &o.socket, "of a running daemon" },
		{ "groups", ARG_COUNT, &o.groups, "of pages from the stock" },
		{ "pages", ARG_COUNT, &o.pages, "in one request" },
		{ "requests", ARG_COUNT, &o.requests, "of that many" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	struct session s = SESSION_NULL;
	struct result r = { 0 };
	int err, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	status = BENCH_FAILED;
	if (session_open(&s, "alloc", o.socket) == 0) {
		err = measure_stock(&s, &o, &r);
		if (!err)
			err = measure_requests(&s, &o, &r);
		if (err)
			fprintf(stderr, "kvbench alloc: %s: %s\n",
			        strerror(-err), kvd_error(s.kvd));
		else
			status = report_print(figures(&s, &o, &r), o.json);
	}
	session_close(&s);
	return status;
}

const struct bench bench_alloc = { "alloc", summary, run };
