// SPDX-License-Identifier: Apache-2.0
/*
 * pressure.c - kvctl pressure: how long the pool and its tenants had to wait,
 * as /proc/pressure has it.
 */
#include <stdio.h>
#include <string.h>
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/tenants.h"

static const char pool_name[] = "pool";

/* A kvd that says nothing is one that does not know. */
static json_t *some_to_json(const Kvd__Pressure *p)
{
	if (!p)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:I}", "avg10", p->avg10 / 100.0,
	                 "avg60", p->avg60 / 100.0, "avg300",
	                 p->avg300 / 100.0, "total",
	                 (json_int_t)p->total_us);
}

static void add(json_t *answer, const Kvd__TenantsReply *r)
{
	json_t *tenants = json_object_get(answer, "tenants");
	size_t i;

	json_object_set_new(answer, "pool",
	                    json_pack("{s:o}", "some",
	                              some_to_json(r->pressure)));
	for (i = 0; i < r->n_tenants; i++)
		json_array_append_new(
			tenants,
			json_pack("{s:o, s:o}", "name",
		                  json_safe(r->tenants[i]->name), "some",
		                  some_to_json(r->tenants[i]->pressure)));
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	*ret = json_pack("{s:[]}", "tenants");
	return tenants_ask(k, *ret, add);
}

static void print_some(const char *name, int width, const json_t *of)
{
	const json_t *some = json_object_get(of, "some");

	if (!json_is_object(some)) {
		printf("%-*s  this kvd does not tell\n", width, name);
		return;
	}
	printf("%-*s  some avg10=%.2f avg60=%.2f avg300=%.2f total=%lld\n",
	       width, name, json_real_value(json_object_get(some, "avg10")),
	       json_real_value(json_object_get(some, "avg60")),
	       json_real_value(json_object_get(some, "avg300")),
	       (long long)json_count(some, "total"));
}

/* The pool is first, so that no tenant can pass for it. */
static void print(const json_t *answer)
{
	const json_t *tenants = json_object_get(answer, "tenants"), *tenant;
	size_t i, width = strlen(pool_name);

	json_array_foreach(tenants, i, tenant)
		if (strlen(json_text(tenant, "name")) > width)
			width = strlen(json_text(tenant, "name"));
	print_some(pool_name, (int)width, json_object_get(answer, "pool"));
	json_array_foreach(tenants, i, tenant)
		print_some(json_text(tenant, "name"), (int)width, tenant);
}

const struct command command_pressure = {
	"pressure", "how long they had to wait for pages", ask, print
};
