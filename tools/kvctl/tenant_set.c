// SPDX-License-Identifier: Apache-2.0
/*
 * tenant_set.c - kvctl tenant set: a tenant's limits, now and from now on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/size.h"

static const char usage[] =
	"usage: kvctl tenant set NAME [min=SIZE] [high=SIZE] [max=SIZE]\n"
	"                        [--runtime] [--json] [--socket PATH]\n"
	"\n"
	"Sets a tenant's limits, at once. A user without a section in kvd.conf is\n"
	"the tenant uid-N. SIZE is a number with K, M, G or T; high and max may be\n"
	"infinity.\n"
	"\n"
	"  min        cached pages up to so much are never given up for others\n"
	"  high       above it its own cached pages go, and allocations are slowed\n"
	"  max        it never has more\n"
	"  --runtime  only until kvd is restarted (also --no-persist); else it is\n"
	"             kept in a file in kvd.conf.d, and the answer says where\n"
	"\n"
	"For root, the daemon's own user and the admin group.\n"
	"Exit status: 0; 1 refused, or not kept; 2 bad usage.\n";

struct set_args {
	struct common common;
	bool set;		/* that was said */
	Kvd__TenantSetRequest m;
};

/* As kvd.conf takes it. */
static int parse_size(const char *text, bool may_be_none, uint64_t *ret)
{
	if (may_be_none && strcmp(text, "infinity") == 0) {
		*ret = 0;
		return 0;
	}
	return size_parse(text, ret);
}

/* "max=4G". Return: 0, -EINVAL after a line, -ENOENT it is no such thing. */
static int parse_limit(const char *arg, Kvd__TenantSetRequest *m)
{
	static const char *const names[] = { "min", "high", "max" };
	uint64_t *to[] = { &m->min, &m->high, &m->max };
	const char *value = strchr(arg, '=');
	size_t n = value ? (size_t)(value - arg) : 0;
	unsigned i;

	for (i = 0; i < 3; i++)
		if (n == strlen(names[i]) && strncmp(arg, names[i], n) == 0)
			break;
	if (!value || i == 3)
		return -ENOENT;
	if (m->keys & 1u << i)
		return bad("twice: ", arg);
	if (parse_size(value + 1, i > 0, to[i]) < 0)
		return bad("not a size, with K, M, G or T: ", arg);
	m->keys |= 1u << i;
	return 0;
}

static int take(int argc, char **argv, int *i, void *args)
{
	struct set_args *a = args;
	int r;

	if (!a->set) {
		a->set = strcmp(argv[*i], "set") == 0;
		return a->set ? 0 : bad("what about the tenant? ", "set");
	}
	r = parse_limit(argv[*i], &a->m);
	if (r != -ENOENT)
		return r;
	if (strcmp(argv[*i], "--runtime") == 0 ||
	    strcmp(argv[*i], "--no-persist") == 0)
		a->m.runtime = true;
	else if (argv[*i][0] != '-' && !strchr(argv[*i], '=') && !a->m.name[0])
		a->m.name = argv[*i];
	else
		return bad("what is ", argv[*i]);
	return 0;
}

static int check(const void *args)
{
	const struct set_args *a = args;

	if (!a->set)
		return bad("what about the tenant? ", "set");
	if (!a->m.name[0])
		return bad("no tenant is named", "");
	return a->m.keys ? 0 : bad("nothing to set: min=, high= or max=", "");
}

static const char *size_text(uint64_t bytes, char buf[24])
{
	static const char units[] = "KMGT";
	unsigned unit = 0;

	if (!bytes)
		return "-";
	while (unit < 4 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, 24, "%llu%.1s", (unsigned long long)bytes,
	         unit ? &units[unit - 1] : "");
	return buf;
}

static void print(const struct set_args *a, const Kvd__TenantSetReply *r)
{
	char min[24], high[24], max[24];
	json_t *j;

	if (a->common.json) {
		j = json_pack("{s:s, s:I, s:I, s:I, s:o}", "name", a->m.name,
		              "min", (json_int_t)r->min, "high",
		              (json_int_t)r->high, "max", (json_int_t)r->max,
		              "path", r->path[0] ? json_safe(r->path) :
					           json_null());
		json_dumpf(j, stdout, 0);
		putchar('\n');
		json_decref(j);
		return;
	}
	printf("%s: min %s, high %s, max %s\n", a->m.name,
	       size_text(r->min, min), size_text(r->high, high),
	       size_text(r->max, max));
	if (r->path[0])
		printf("kept in %s\n", r->path);
	else
		printf("until kvd is restarted\n");
}

static int work(struct kvd *k, void *args)
{
	const struct set_args *a = args;
	struct call c = { .type = WIRE_TENANT_SET,
			  .request = &a->m.base,
			  .want = &kvd__tenant_set_reply__descriptor };
	int err = call(k, &c);

	if (!err)
		print(a, (const Kvd__TenantSetReply *)c.reply);
	call_end(&c);
	return err;
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "tenant", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct set_args a = { .m = KVD__TENANT_SET_REQUEST__INIT };

	return run_with(&r, argc, argv, &a);
}

const struct command command_tenant = {
	.name = "tenant", .summary = "set its limits (tenant --help)",
	.run = run
};
