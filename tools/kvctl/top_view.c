// SPDX-License-Identifier: Apache-2.0
/*
 * top_view.c - two frames become what there is to show.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/top.h"

int top_ask(struct kvd *k, struct top_frame *f)
{
	const struct {
		const struct command *command;
		json_t **answer;
	} asks[] = {
		{ &command_status, &f->status },
		{ &command_stat, &f->stat },
		{ &command_clients, &f->clients },
		{ &command_tenants, &f->tenants },
		{ &command_pressure, &f->pressure },
	};
	const struct options o = { 0 };
	struct timespec t;
	size_t i;
	int err = 0;

	*f = (struct top_frame){ 0 };
	clock_gettime(CLOCK_MONOTONIC, &t);
	f->at_s = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	for (i = 0; i < sizeof(asks) / sizeof(asks[0]) && !err; i++)
		err = asks[i].command->ask(k, &o, asks[i].answer);
	return err;
}

void top_frame_fini(struct top_frame *f)
{
	json_decref(f->status);
	json_decref(f->stat);
	json_decref(f->clients);
	json_decref(f->tenants);
	json_decref(f->pressure);
	*f = (struct top_frame){ 0 };
}

/* Of all pools. */
static int64_t pools_sum(const struct top_frame *f, const char *key)
{
	const json_t *pool;
	int64_t sum = 0;
	size_t i;

	json_array_foreach(json_object_get(f->stat, "pools"), i, pool)
		sum += json_count(pool, key);
	return sum;
}

/* States of all pools, in bytes. */
static json_t *states_sum(const struct top_frame *f)
{
	json_t *sum = json_object(), *n;
	const json_t *pool;
	const char *state;
	size_t i;

	json_array_foreach(json_object_get(f->stat, "pools"), i, pool)
		json_object_foreach(json_object_get(pool, "bytes"), state, n)
			json_object_set_new(
				sum, state,
				json_integer(json_count(sum, state) +
			                     json_integer_value(n)));
	return sum;
}

/* The two are of one life of the daemon: counters count on. */
static bool counts_on(const struct top_frame *was, const struct top_frame *is)
{
	return was->status && is->at_s > was->at_s &&
	       strcmp(json_text(was->status, "instance"),
	              json_text(is->status, "instance")) == 0;
}

static json_t *rate(int64_t was, int64_t is, double seconds)
{
	return json_real(is < was ? 0 : (double)(is - was) / seconds);
}

static json_t *hit_rate(int64_t hits, int64_t misses)
{
	return hits + misses > 0 ? json_real((double)hits /
	                                     (double)(hits + misses))
	                         : json_null();
}

/* What has happened since @was. */
static json_t *interval(const struct top_frame *was, const struct top_frame *is)
{
	double s = is->at_s - was->at_s;
	int64_t hits = pools_sum(is, "hits") - pools_sum(was, "hits");
	int64_t misses = pools_sum(is, "misses") - pools_sum(was, "misses");

	if (!counts_on(was, is))
		return json_null();
	return json_pack(
		"{s:f, s:o, s:o, s:o, s:o}", "seconds", s, "hit_rate",
		hit_rate(hits, misses), "requests_per_s",
		rate(json_count(was->status, "requests"),
	             json_count(is->status, "requests"), s),
		"published_per_s",
		rate(pools_sum(was, "published"), pools_sum(is, "published"),
	             s),
		"evicted_per_s",
		rate(pools_sum(was, "evicted"), pools_sum(is, "evicted"), s));
}

/* The object of an array that has the same value under @key. */
static json_t *same(const json_t *array, const char *key, const json_t *as)
{
	json_t *one;
	size_t i;

	json_array_foreach(array, i, one)
		if (json_equal(json_object_get(one, key),
		               json_object_get(as, key)))
			return one;
	return NULL;
}

static json_t *avg10(const json_t *of)
{
	const json_t *n =
		json_object_get(json_object_get(of, "some"), "avg10");

	return json_is_real(n) ? json_real(json_real_value(n)) : json_null();
}

static json_t *tenants(const struct top_frame *f)
{
	json_t *list = json_array();
	const json_t *t, *pressure = json_object_get(f->pressure, "tenants");
	size_t i;

	json_array_foreach(json_object_get(f->tenants, "tenants"), i, t) {
		const json_t *bytes = json_object_get(t, "bytes");

		json_array_append_new(
			list,
			json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		                  "s:o}",
		                  "name", json_text(t, "name"), "clients",
		                  json_count(t, "clients"), "charged",
		                  json_count(t, "charged"), "cached",
		                  json_count(bytes, "cached"), "min",
		                  json_count(t, "min"), "high",
		                  json_count(t, "high"), "max",
		                  json_count(t, "max"), "waiting",
		                  json_count(t, "waiting"), "avg10",
		                  avg10(same(pressure, "name", t))));
	}
	return list;
}

/* What the kernel calls a process; it may be one of another machine's view. */
static json_t *comm_of(int64_t pid)
{
	char path[40], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%lld/comm", (long long)pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	if (!f)
		return json_null();
	if (!fgets(comm, sizeof(comm), f))
		comm[0] = '\0';
	fclose(f);
	comm[strcspn(comm, "\n")] = '\0';
	return json_safe(comm);
}

static json_t *client(const struct top_frame *was, const struct top_frame *is,
                      const json_t *c)
{
	const json_t *then = NULL;
	json_t *requests = json_null();

	if (counts_on(was, is))
		then = same(json_object_get(was->clients, "clients"), "id", c);
	if (then)
		requests = rate(json_count(then, "requests"),
		                json_count(c, "requests"),
		                is->at_s - was->at_s);
	return json_pack("{s:I, s:I, s:o, s:s, s:s, s:I, s:I, s:I, s:o}", "id",
	                 json_count(c, "id"), "pid", json_count(c, "pid"),
	                 "comm", comm_of(json_count(c, "pid")), "program",
	                 json_text(c, "program"), "tenant",
	                 json_text(c, "tenant"), "held_pages",
	                 json_count(c, "held_pages"), "open_pages",
	                 json_count(c, "open_pages"), "bytes",
	                 json_count(c, "bytes"), "requests_per_s", requests);
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static int compare(const void *a, const void *b, void *key)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	double n = number(y, key) - number(x, key);

	if (n == 0)
		n = number(x, "id") - number(y, "id");
	return (n > 0) - (n < 0);
}

static json_t *clients(const struct top_frame *was, const struct top_frame *is,
                       enum top_sort sort)
{
	const json_t *from = json_object_get(is->clients, "clients");
	size_t i, nr = json_array_size(from);
	json_t **list = calloc(nr + 1, sizeof(json_t *));
	json_t *sorted = json_array();
	char key[16];

	strcpy(key, sort == TOP_BY_PAGES ? "held_pages" : "requests_per_s");
	for (i = 0; list && i < nr; i++)
		list[i] = client(was, is, json_array_get(from, i));
	if (list)
		qsort_r(list, nr, sizeof(*list), compare, key);
	for (i = 0; list && i < nr; i++)
		json_array_append_new(sorted, list[i]);
	free(list);
	return sorted;
}

static int64_t waiting(const struct top_frame *f)
{
	const json_t *t;
	int64_t sum = 0;
	size_t i;

	json_array_foreach(json_object_get(f->tenants, "tenants"), i, t)
		sum += json_count(t, "waiting");
	return sum;
}

json_t *top_view(const struct top_frame *was, const struct top_frame *is,
                 enum top_sort sort)
{
	const json_t *s = is->status;

	return json_pack(
		"{s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:o, s:o, s:I, s:o, s:o, "
		"s:s, s:o, s:o}",
		"state", json_text(s, "state"), "version",
		json_text(s, "version"), "pid", json_count(s, "pid"),
		"uptime_ms", json_count(s, "uptime_ms"), "device",
		json_text(s, "device"), "nr_clients", json_count(s, "clients"),
		"nr_spaces", json_count(s, "spaces"), "bytes", states_sum(is),
		"hit_rate",
		hit_rate(pools_sum(is, "hits"), pools_sum(is, "misses")),
		"waiting", waiting(is), "avg10",
		avg10(json_object_get(is->pressure, "pool")), "interval",
		interval(was, is), "sort",
		sort == TOP_BY_PAGES ? "pages" : "requests", "tenants",
		tenants(is), "clients", clients(was, is, sort));
}

json_t *top_view_lost(const char *why)
{
	return json_pack("{s:s, s:o}", "state", "reconnecting", "why",
	                 json_safe(why));
}
