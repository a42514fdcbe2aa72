// SPDX-License-Identifier: Apache-2.0
/*
 * tenants.c - kvctl tenants: who shares the pool, what each may and does have.
 */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/table.h"
#include "tools/kvctl/tenants.h"

/* The names are this machine's; a number that has none stays one. */
static json_t *id_to_json(uint32_t id, bool group)
{
	const struct passwd *pw = group ? NULL : getpwuid(id);
	const struct group *gr = group ? getgrgid(id) : NULL;
	char text[16];

	if (pw || gr)
		return json_safe(pw ? pw->pw_name : gr->gr_name);
	snprintf(text, sizeof(text), "%u", (unsigned)id);
	return json_string(text);
}

static json_t *ids_to_json(const uint32_t *ids, size_t nr, bool group)
{
	json_t *names = json_array();
	size_t i;

	for (i = 0; i < nr; i++)
		json_array_append_new(names, id_to_json(ids[i], group));
	return names;
}

static json_t *tenant_to_json(const Kvd__TenantStat *t)
{
	return json_pack(
		"{s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:i, "
		"s:I, s:I}",
		"name", json_safe(t->name), "users",
		ids_to_json(t->uids, t->n_uids, false), "groups",
		ids_to_json(t->gids, t->n_gids, true), "clients",
		(int)t->clients, "min", (json_int_t)t->min, "high",
		(json_int_t)t->high, "max", (json_int_t)t->max, "charged",
		(json_int_t)t->charged, "bytes", json_counts(t->bytes),
		"pinned", (json_int_t)t->pinned, "pin_max",
		(json_int_t)t->pin_max,
		"waiting", (int)t->waiting, "throttled",
		(json_int_t)t->throttled, "throttled_ms",
		(json_int_t)t->throttled_ms);
}

static void add(json_t *answer, const Kvd__TenantsReply *r)
{
	json_t *tenants = json_object_get(answer, "tenants");
	size_t i;

	for (i = 0; i < r->n_tenants; i++)
		json_array_append_new(tenants, tenant_to_json(r->tenants[i]));
}

int tenants_ask(struct kvd *k, json_t *answer,
                void (*each)(json_t *answer, const Kvd__TenantsReply *r))
{
	Kvd__TenantsRequest m = KVD__TENANTS_REQUEST__INIT;
	bool more;
	int err;

	do {
		struct call c = { .type = WIRE_TENANTS,
				  .request = &m.base,
				  .want = &kvd__tenants_reply__descriptor };
		const Kvd__TenantsReply *r;

		err = call(k, &c);
		r = err ? NULL : (const Kvd__TenantsReply *)c.reply;
		more = r && r->more && r->n_tenants;
		if (r) {
			each(answer, r);
			m.skip += (uint32_t)r->n_tenants;
		}
		call_end(&c);
	} while (more);
	return err;
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	*ret = json_pack("{s:[]}", "tenants");
	return tenants_ask(k, *ret, add);
}

/* "alice,bob,@staff", as much as a cell has room for. */
static void print_members(struct table *t, const json_t *tenant)
{
	static const char *const keys[] = { "users", "groups" };
	char text[TABLE_CELL] = "";
	const json_t *name;
	size_t i, n = 0;
	int key;

	for (key = 0; key < 2; key++)
		json_array_foreach(json_object_get(tenant, keys[key]), i, name)
			if (n < sizeof(text))
				n += (size_t)snprintf(
					text + n, sizeof(text) - n, "%s%s%s",
					n ? "," : "", key ? "@" : "",
					json_string_value(name));
	if (n >= sizeof(text))
		memcpy(text + sizeof(text) - 4, "...", 4);
	table_text(t, n ? text : "-");
}

static void print_limit(struct table *t, const json_t *tenant, const char *key)
{
	if (json_count(tenant, key))
		table_bytes(t, json_count(tenant, key));
	else
		table_text(t, "-");
}

static void print_tenant(struct table *t, const json_t *tenant)
{
	const json_t *bytes = json_object_get(tenant, "bytes");

	table_row(t);
	table_text(t, json_text(tenant, "name"));
	print_members(t, tenant);
	table_count(t, json_count(tenant, "clients"));
	print_limit(t, tenant, "min");
	print_limit(t, tenant, "high");
	print_limit(t, tenant, "max");
	table_bytes(t, json_count(tenant, "charged"));
	table_bytes(t, json_count(bytes, "open"));
	table_bytes(t, json_count(bytes, "sealed"));
	table_bytes(t, json_count(bytes, "cached"));
	table_bytes(t, json_count(tenant, "pinned"));
	table_count(t, json_count(tenant, "waiting"));
	table_time(t, json_count(tenant, "throttled_ms"));
}

static void print(const json_t *answer)
{
	static const char *const head[] = { "tenant", "members", "clients",
		                            "min",    "high",    "max",
		                            "charged", "open",   "sealed",
		                            "cached", "pinned", "waiting",
		                            "throttled" };
	struct table t = TABLE_NULL;
	const json_t *tenant;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	t.left = 1;
	json_array_foreach(json_object_get(answer, "tenants"), i, tenant)
		print_tenant(&t, tenant);
	table_print(&t);
}

const struct command command_tenants = { "tenants",
	                                 "their limits and what they have",
	                                 ask, print };
