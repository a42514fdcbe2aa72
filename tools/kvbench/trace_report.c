// SPDX-License-Identifier: Apache-2.0
/*
 * trace_report.c - what replays of a trace have shown.
 */
#include <stdio.h>
#include <string.h>
#include "tools/kvbench/report.h"
#include "tools/kvbench/trace_report.h"

static double share(uint64_t part, uint64_t all)
{
	return all ? (double)part / (double)all : 0;
}

static json_t *what_it_ran(const struct trace_options *o,
                           const struct trace_pool *p)
{
	char format[KVD_FORMATS_TEXT];
	const struct kvd_group *g = &p->geometry.groups[0];

	kvd_formats_name(p->geometry.k_format, p->geometry.v_format, format);
	return json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I}",
		"bench", "trace", "device", "host", "format", format, "clients",
		(json_int_t)o->clients, "pins", (json_int_t)o->pins, "policy",
		o->policy ? o->policy : "default", "page_tokens",
		(json_int_t)p->geometry.page_tokens, "kv_heads",
		(json_int_t)g->nr_kv_heads, "dim", (json_int_t)g->k_dim,
		"page_bytes", (json_int_t)p->sealed.page_bytes, "pool_bytes",
		(json_int_t)p->bytes, "pool_tokens", (json_int_t)p->tokens);
}

static json_t *what_it_hit(const struct trace_pool *p,
                           const struct trace_result *r)
{
	const struct trace_counts *c = &r->counts;
	double held = (double)c->held / (double)c->requests;

	return json_pack(
		"{s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:I, s:I, s:f, s:f, s:I, "
	        "s:f, s:I, s:I, s:I, s:I}",
		"requests", (json_int_t)c->requests, "input_tokens",
		(json_int_t)c->input_tokens, "hit_tokens",
		(json_int_t)c->hit_tokens, "copied_tokens",
		(json_int_t)c->copied_tokens, "hit_rate",
		share(c->hit_tokens, c->input_tokens), "hit_tokens_model",
		(json_int_t)r->model_hit_tokens, "hit_rate_model",
		share(r->model_hit_tokens, c->input_tokens), "pins_tokens",
		(json_int_t)r->pinned_blocks * TRACE_BLOCK, "hit_tokens_pins",
		(json_int_t)c->hit_pinned, "hit_rate_pins",
		share(c->hit_pinned, c->input_tokens), "pinned",
		held / (double)p->tokens, "pinned_tokens_max",
		(json_int_t)c->held_max, "pinned_tokens", held, "no_space",
		(json_int_t)c->no_space, "no_quota", (json_int_t)c->no_quota,
		"checked_pages", (json_int_t)c->checked, "bad_pages",
		(json_int_t)c->bad);
}

static json_t *what_it_stored(const struct trace_pool *p,
                              const struct trace_result *r)
{
	uint64_t tokens = r->counts.stored_tokens;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "stored_tokens",
	                 (json_int_t)tokens, "stored_bytes",
	                 (json_int_t)(tokens * p->sealed.page_bytes /
	                              p->sealed.page_tokens),
	                 "published", (json_int_t)r->stat.published,
	                 "deduplicated", (json_int_t)r->stat.deduplicated,
	                 "evicted", (json_int_t)r->stat.evicted, "waste",
	                 r->waste, "waste_max", r->waste_max);
}

static json_t *what_it_demoted(const struct trace_options *o,
                               const struct trace_pool *p,
                               const struct trace_result *r)
{
	const struct trace_counts *c = &r->counts;

	if (!o->demote)
		return json_object();
	return json_pack("{s:s, s:I, s:I, s:I, s:f}", "demote", o->demote,
	                 "pool_tokens_demoted",
	                 (json_int_t)(p->small_pages * p->small.page_tokens),
	                 "demoted", (json_int_t)r->stat.demoted,
	                 "hit_tokens_demoted", (json_int_t)c->hit_demoted,
	                 "hit_rate_demoted",
	                 share(c->hit_demoted, c->input_tokens));
}

static json_t *what_it_kept(const struct trace_options *o,
                            const struct trace_result *r)
{
	if (!o->tier)
		return json_object();
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "tier", o->tier,
	                 "tier_kind", o->tier_file ? "file" : "memory",
	                 "tier_saved", (json_int_t)r->stat.saved, "tier_lost",
	                 (json_int_t)r->stat.lost, "tier_fetched",
	                 (json_int_t)r->stat.fetched, "tier_missed",
	                 (json_int_t)r->stat.missed);
}

static json_t *how_long(const struct trace_result *r)
{
	static const char *const names[] = { "match", "reserve", "commit",
		                             "free" };
	double pages = (double)(r->stat.published + r->stat.deduplicated);
	json_t *t = json_pack("{s:f, s:f, s:f, s:f, s:f}", "wall_s", r->wall_s,
	                      "requests_per_s",
	                      (double)r->counts.requests / r->wall_s,
	                      "client_cpu_s", r->client_cpu_s, "daemon_cpu_s",
	                      r->daemon_cpu_s, "daemon_us_a_page",
	                      pages > 0 ? r->daemon_cpu_s * 1e6 / pages : 0);
	char key[32];
	int i;

	for (i = 0; t && i < TRACE_NR_OPS; i++) {
		const struct hist *h = &r->counts.ns[i];

		snprintf(key, sizeof(key), "%s_us_median", names[i]);
		json_object_set_new(t, key,
		                    json_real(hist_percentile(h, 50) / 1e3));
		snprintf(key, sizeof(key), "%s_us_p99", names[i]);
		json_object_set_new(t, key,
		                    json_real(hist_percentile(h, 99) / 1e3));
		snprintf(key, sizeof(key), "%s_us_max", names[i]);
		json_object_set_new(t, key, json_real((double)h->max / 1e3));
	}
	return t;
}

json_t *trace_figures(const struct trace_options *o,
                      const struct trace_pool *pool,
                      const struct trace_result *r)
{
	json_t *figures = what_it_ran(o, pool);
	json_t *const more[] = { what_it_hit(pool, r), what_it_stored(pool, r),
		                 what_it_demoted(o, pool, r), what_it_kept(o, r),
		                 how_long(r) };
	size_t i;

	for (i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		if (json_object_update(figures, more[i])) {
			json_decref(figures);
			figures = NULL;
		}
		json_decref(more[i]);
	}
	return figures;
}

/* ---- several ---- */

static json_int_t count(const json_t *run, const char *key)
{
	return json_integer_value(json_object_get(run, key));
}

static double number(const json_t *run, const char *key)
{
	return json_number_value(json_object_get(run, key));
}

static const char *text(const json_t *run, const char *key)
{
	return json_string_value(json_object_get(run, key));
}

/* Of the same pool, number of clients, and @policy and @pins; NULL: none. */
static const json_t *find_like(const json_t *runs, const json_t *like,
                               const char *policy, json_int_t pins)
{
	const json_t *run;
	size_t i;

	json_array_foreach(runs, i, run)
	{
		if (strcmp(text(run, "policy"), policy) == 0 &&
		    count(run, "pins") == pins &&
		    count(run, "pool_tokens") == count(like, "pool_tokens") &&
		    count(run, "clients") == count(like, "clients"))
			return run;
	}
	return NULL;
}

static void set_ratio(json_t *run, const char *key, const json_t *to)
{
	double rate = to ? number(to, "hit_rate") : 0;

	if (rate > 0)
		json_object_set_new(run, key,
		                    json_real(number(run, "hit_rate") / rate));
}

/* To lru with as many pins, and where it has pins to the same without. */
static void set_ratios(const json_t *runs, json_t *run)
{
	json_int_t pins = count(run, "pins");

	set_ratio(run, "to_lru", find_like(runs, run, "lru", pins));
	if (pins)
		set_ratio(run, "to_no_pins",
		          find_like(runs, run, text(run, "policy"), 0));
}

static const char *ratio_text(const json_t *run, const char *key, char buf[16])
{
	const json_t *ratio = json_object_get(run, key);

	snprintf(buf, 16, "-");
	if (ratio)
		snprintf(buf, 16, "%.3f", json_number_value(ratio));
	return buf;
}

static void print_row(const json_t *run)
{
	char to_lru[16], to_no_pins[16];

	printf("%11lld  %-9s %7lld %5lld   %.4f  %6s  %7s  %6.4f  %.4f  "
	       "%6.4f  %9lld  %.4f  %7.1f\n",
	       (long long)count(run, "pool_tokens"), text(run, "policy"),
	       (long long)count(run, "clients"), (long long)count(run, "pins"),
	       number(run, "hit_rate"), ratio_text(run, "to_lru", to_lru),
	       ratio_text(run, "to_no_pins", to_no_pins),
	       number(run, "hit_rate_pins"), number(run, "hit_rate_model"),
	       number(run, "pinned"), (long long)count(run, "evicted"),
	       number(run, "waste"), number(run, "wall_s"));
}

static int print_table(json_t *runs)
{
	const json_t *run;
	size_t i;

	printf("pool tokens  policy    clients  pins  hit rate  to lru  "
	       "to none  by pins   model  pinned    evicted   waste   wall "
	       "s\n");
	json_array_foreach(runs, i, run)
	{
		print_row(run);
	}
	json_decref(runs);
	return 0;
}

int trace_report(json_t *runs, bool json)
{
	json_t *run;
	size_t i;

	json_array_foreach(runs, i, run)
	{
		set_ratios(runs, run);
	}
	if (json_array_size(runs) == 1) {
		run = json_incref(json_array_get(runs, 0));
		json_decref(runs);
		return report_print(run, json);
	}
	if (runs && !json)
		return print_table(runs);
	return report_print(
		json_pack("{s:s, s:o}", "bench", "trace", "runs", runs), true);
}
