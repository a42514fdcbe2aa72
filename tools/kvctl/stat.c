// SPDX-License-Identifier: Apache-2.0
/*
 * stat.c - kvctl stat: the pool's meminfo.
 */
#include <stdio.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/table.h"

static const char *const states[] = { "total",       "free",   "open",
	                              "sealed",      "cached", "demoted",
	                              "quarantined", "revoked" };

#define NR_STATES (sizeof(states) / sizeof(states[0]))

static json_t *class_to_json(const Kvd__ClassStat *c)
{
	uint64_t tokens = c->page_tokens ? c->page_tokens : 1;

	return json_pack("{s:i, s:i, s:i, s:s, s:I, s:I, s:f, s:o}", "space",
	                 (int)c->space, "page_class", (int)c->page_class,
	                 "group", (int)c->group, "format", c->format,
	                 "page_bytes", (json_int_t)c->page_bytes,
	                 "page_tokens", (json_int_t)c->page_tokens,
	                 "bytes_per_token", (double)c->page_bytes / tokens,
	                 "pages", json_counts(c->pages));
}

static json_t *reclaimed_to_json(const Kvd__PoolStat *p)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "background",
	                 (json_int_t)p->reclaimed_background, "direct",
	                 (json_int_t)p->reclaimed_direct, "demand",
	                 (json_int_t)p->reclaimed_demand, "limits",
	                 (json_int_t)p->reclaimed_limits);
}

static json_t *pool_to_json(const Kvd__PoolStat *p)
{
	json_t *classes = json_array();
	size_t i;

	for (i = 0; i < p->n_classes; i++)
		json_array_append_new(classes, class_to_json(p->classes[i]));
	return json_pack(
		"{s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I, s:I, s:o, s:o, s:I, s:o}",
		"device", p->device, "pages", json_counts(p->pages), "bytes",
		json_counts(p->bytes), "segments", (json_int_t)p->segments,
		"hits", (json_int_t)p->hits, "misses", (json_int_t)p->misses,
		"published", (json_int_t)p->published, "deduplicated",
		(json_int_t)p->deduplicated, "demoted", (json_int_t)p->demoted,
		"evicted", (json_int_t)p->evicted,
		"nonfinite", (json_int_t)p->nonfinite, "room",
		(json_int_t)p->room, "watermarks",
		json_marks(p->mark_min, p->mark_low, p->mark_high),
		"reclaimed", reclaimed_to_json(p), "quarantine_released",
		(json_int_t)p->quarantine_released, "classes", classes);
}

/* In microseconds. */
static json_t *loop_to_json(const Kvd__LoopStat *l)
{
	static const Kvd__LoopStat none = KVD__LOOP_STAT__INIT;

	if (!l)
		l = &none;
	return json_pack("{s:f, s:f, s:f, s:f}", "max_us",
	                 (double)l->wall_ns / 1e3, "max_cpu_us",
	                 (double)l->cpu_ns / 1e3, "ever_max_us",
	                 (double)l->ever_wall_ns / 1e3, "ever_max_cpu_us",
	                 (double)l->ever_cpu_ns / 1e3);
}

static json_t *flight_to_json(const Kvd__FlightStat *f)
{
	static const Kvd__FlightStat none = KVD__FLIGHT_STAT__INIT;

	if (!f)
		f = &none;
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i}",
	                 "announced", (json_int_t)f->announced, "waited",
	                 (json_int_t)f->waited, "saved_tokens",
	                 (json_int_t)f->saved_tokens, "late",
	                 (json_int_t)f->late, "stalled",
	                 (json_int_t)f->stalled, "given_up",
	                 (json_int_t)f->given_up, "flights", (int)f->flights,
	                 "waiting", (int)f->waiting);
}

static json_t *tier_to_json(const Kvd__TierStat *t)
{
	return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
	                 "s:I}",
	                 "name", t->name, "trouble",
	                 *t->trouble ? json_safe(t->trouble) : json_null(),
	                 "bytes", (json_int_t)t->bytes, "max_bytes",
	                 (json_int_t)t->max_bytes, "entries",
	                 (json_int_t)t->entries, "puts", (json_int_t)t->puts,
	                 "gets", (json_int_t)t->gets, "dropped",
	                 (json_int_t)t->dropped, "refused",
	                 (json_int_t)t->refused, "bad", (json_int_t)t->bad,
	                 "errors", (json_int_t)t->errors);
}

static json_t *tiers_to_json(const Kvd__TiersStat *s)
{
	json_t *tiers = json_array();
	size_t i;

	for (i = 0; i < s->n_tiers; i++)
		json_array_append_new(tiers, tier_to_json(s->tiers[i]));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "saved",
	                 (json_int_t)s->saved, "renewed",
	                 (json_int_t)s->renewed, "lost", (json_int_t)s->lost,
	                 "fetched", (json_int_t)s->fetched, "missed",
	                 (json_int_t)s->missed, "places", tiers);
}

static json_t *to_json(const Kvd__StatReply *r, bool verify)
{
	json_t *answer = json_object(), *pools = json_array();
	bool bad = r->verify_error && *r->verify_error;
	size_t i;

	for (i = 0; i < r->n_pools; i++)
		json_array_append_new(pools, pool_to_json(r->pools[i]));
	json_object_set_new(answer, "pools", pools);
	json_object_set_new(answer, "loop", loop_to_json(r->loop));
	json_object_set_new(answer, "flight", flight_to_json(r->flight));
	if (r->tiers)
		json_object_set_new(answer, "tiers", tiers_to_json(r->tiers));
	if (verify)
		json_object_set_new(answer, "verify_error",
		                    bad ? json_safe(r->verify_error)
		                        : json_null());
	return answer;
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__StatRequest m = KVD__STAT_REQUEST__INIT;
	struct call c = { .type = WIRE_STAT,
		          .request = &m.base,
		          .want = &kvd__stat_reply__descriptor };
	int err;

	m.verify = o->verify;
	m.loop_reset = o->loop_reset;
	err = call(k, &c);
	if (!err)
		*ret = to_json((const Kvd__StatReply *)c.reply, o->verify);
	call_end(&c);
	return err;
}

static void add_counts(struct table *t, const json_t *counts,
                       void (*add)(struct table *t, int64_t n))
{
	size_t i;

	for (i = 0; i < NR_STATES; i++)
		add(t, json_count(counts, states[i]));
}

static void print_states(const json_t *pool)
{
	struct table t = TABLE_NULL;
	size_t i;

	table_row(&t);
	table_text(&t, "");
	for (i = 0; i < NR_STATES; i++)
		table_text(&t, states[i]);
	table_row(&t);
	table_text(&t, "pages");
	add_counts(&t, json_object_get(pool, "pages"), table_count);
	table_row(&t);
	table_text(&t, "bytes");
	add_counts(&t, json_object_get(pool, "bytes"), table_bytes);
	table_print(&t);
}

static void print_counters(const json_t *pool)
{
	int64_t hits = json_count(pool, "hits");
	int64_t all = hits + json_count(pool, "misses");

	printf("tokens looked up  %lld, of them hit %lld (%.1f %%)\n",
	       (long long)all, (long long)hits,
	       all ? 100.0 * (double)hits / (double)all : 0.0);
	printf("pages published   %lld, deduplicated %lld, demoted %lld, "
	       "evicted %lld, not finite %lld\n",
	       (long long)json_count(pool, "published"),
	       (long long)json_count(pool, "deduplicated"),
	       (long long)json_count(pool, "demoted"),
	       (long long)json_count(pool, "evicted"),
	       (long long)json_count(pool, "nonfinite"));
}

void print_room(const json_t *answer)
{
	const json_t *marks = json_object_get(answer, "watermarks");
	char room[BYTES_TEXT], min[BYTES_TEXT], low[BYTES_TEXT],
		high[BYTES_TEXT];

	printf("%s", bytes_text(json_count(answer, "room"), room));
	if (json_count(marks, "high"))
		printf("; watermarks: min %s, low %s, high %s",
		       bytes_text(json_count(marks, "min"), min),
		       bytes_text(json_count(marks, "low"), low),
		       bytes_text(json_count(marks, "high"), high));
	putchar('\n');
}

static void print_reclaimed(const json_t *pool)
{
	const json_t *r = json_object_get(pool, "reclaimed");

	printf("pages reclaimed   %lld in the background, %lld directly, "
	       "%lld on demand, %lld above limits\n",
	       (long long)json_count(r, "background"),
	       (long long)json_count(r, "direct"),
	       (long long)json_count(r, "demand"),
	       (long long)json_count(r, "limits"));
	if (json_count(pool, "quarantine_released"))
		printf("pages released    %lld from quarantine, by hand\n",
		       (long long)json_count(pool, "quarantine_released"));
	printf("free room         ");
	print_room(pool);
}

static void print_classes(const json_t *classes)
{
	struct table t = TABLE_NULL;
	const json_t *class;
	size_t i;

	if (!json_array_size(classes))
		return;
	table_row(&t);
	table_text(&t, "space");
	table_text(&t, "group");
	table_text(&t, "format");
	table_text(&t, "page");
	table_text(&t, "a token");
	for (i = 0; i < NR_STATES; i++)
		table_text(&t, states[i]);
	json_array_foreach(classes, i, class) {
		table_row(&t);
		table_count(&t, json_count(class, "space"));
		table_count(&t, json_count(class, "group"));
		table_text(&t, json_text(class, "format"));
		table_bytes(&t, json_count(class, "page_bytes"));
		table_bytes(&t, (int64_t)json_number_value(
				    json_object_get(class, "bytes_per_token")));
		add_counts(&t, json_object_get(class, "pages"), table_count);
	}
	table_print(&t);
}

static void print_loop(const json_t *loop)
{
	static const char *const keys[] = { "max_us", "max_cpu_us",
		                            "ever_max_us", "ever_max_cpu_us" };
	double ms[4];
	size_t i;

	for (i = 0; i < 4; i++)
		ms[i] = json_number_value(json_object_get(loop, keys[i])) / 1e3;
	printf("loop max          %.3f ms, computing %.3f; since start %.3f, "
	       "computing %.3f\n", ms[0], ms[1], ms[2], ms[3]);
}

/* Nothing where nobody has announced anything. */
static void print_flight(const json_t *f)
{
	if (!json_count(f, "announced"))
		return;
	printf("blocks announced  %lld; announcements now %lld, stalled %lld, "
	       "given up %lld\n",
	       (long long)json_count(f, "announced"),
	       (long long)json_count(f, "flights"),
	       (long long)json_count(f, "stalled"),
	       (long long)json_count(f, "given_up"));
	printf("matches waited    %lld, now %lld, late %lld; tokens they did "
	       "not compute %lld\n",
	       (long long)json_count(f, "waited"),
	       (long long)json_count(f, "waiting"),
	       (long long)json_count(f, "late"),
	       (long long)json_count(f, "saved_tokens"));
}

static void print_tier(const json_t *t)
{
	const json_t *trouble = json_object_get(t, "trouble");
	char bytes[BYTES_TEXT], max[BYTES_TEXT];

	printf("tier %-12s %s of %s, pages %lld; dropped %lld, refused %lld, "
	       "bad %lld, errors %lld\n",
	       json_text(t, "name"), bytes_text(json_count(t, "bytes"), bytes),
	       bytes_text(json_count(t, "max_bytes"), max),
	       (long long)json_count(t, "entries"),
	       (long long)json_count(t, "dropped"),
	       (long long)json_count(t, "refused"),
	       (long long)json_count(t, "bad"),
	       (long long)json_count(t, "errors"));
	if (json_is_string(trouble))
		printf("                  out of use: %s\n",
		       json_string_value(trouble));
}

/* Nothing where there are none. */
static void print_tiers(const json_t *tiers)
{
	const json_t *tier;
	size_t i;

	if (!tiers)
		return;
	printf("to the tiers      pages saved %lld, there still %lld, lost "
	       "%lld; from them %lld, missed %lld\n",
	       (long long)json_count(tiers, "saved"),
	       (long long)json_count(tiers, "renewed"),
	       (long long)json_count(tiers, "lost"),
	       (long long)json_count(tiers, "fetched"),
	       (long long)json_count(tiers, "missed"));
	json_array_foreach(json_object_get(tiers, "places"), i, tier) {
		print_tier(tier);
	}
}

static void print(const json_t *answer)
{
	const json_t *pool, *why = json_object_get(answer, "verify_error");
	size_t i;

	json_array_foreach(json_object_get(answer, "pools"), i, pool) {
		printf("%spool %s, segments %lld\n", i ? "\n" : "",
		       json_text(pool, "device"),
		       (long long)json_count(pool, "segments"));
		print_states(pool);
		print_counters(pool);
		print_reclaimed(pool);
		print_classes(json_object_get(pool, "classes"));
	}
	print_tiers(json_object_get(answer, "tiers"));
	print_flight(json_object_get(answer, "flight"));
	print_loop(json_object_get(answer, "loop"));
	if (why)
		printf("verify            %s\n",
		       json_is_string(why) ? json_string_value(why)
		                           : "everything balances");
}

const struct command command_stat = { "stat",
	                              "the pool: pages by state and class", ask,
	                              print };
