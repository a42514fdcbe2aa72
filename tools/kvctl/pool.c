// SPDX-License-Identifier: Apache-2.0
/*
 * pool.c - kvctl pool: how large the pool is, and may be.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/size.h"
#include "tools/kvctl/table.h"

static const char usage[] =
	"usage: kvctl pool [--json] [--socket PATH]\n"
	"       kvctl pool resize SIZE [--json] [--socket PATH]\n"
	"\n"
	"Says how large the pool may be, how large its segments are, and how much of\n"
	"them is still to go. resize gives it another size, from 2M to pool-max of\n"
	"kvd.conf: until kvd is started again. SIZE is a number with K, M, G or T.\n"
	"\n"
	"Smaller, it moves what is cached together, and gives the coldest up if there\n"
	"is no room. What is in use stays where it is until it is released, and is\n"
	"still to go meanwhile; and so does what workers have yet to unmap.\n"
	"\n"
	"resize is for root, the daemon's own user and the admin group.\n"
	"Exit status: 0; 1 refused; 2 bad usage.\n";

struct pool_args {
	struct common common;
	Kvd__PoolRequest m;
};

static int parse_resize(int argc, char **argv, int *i, struct pool_args *a)
{
	if (*i + 1 == argc)
		return bad("resize: to what size?", "");
	if (size_parse(argv[++*i], &a->m.resize) < 0 || !a->m.resize)
		return bad("not a size, with K, M, G or T: ", argv[*i]);
	return 0;
}

static int take(int argc, char **argv, int *i, void *args)
{
	struct pool_args *a = args;

	if (strcmp(argv[*i], "resize") != 0 || a->m.resize)
		return bad("what is ", argv[*i]);
	return parse_resize(argc, argv, i, a);
}

static json_t *to_json(const Kvd__PoolReply *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "bytes",
			 (json_int_t)r->bytes, "max", (json_int_t)r->max,
			 "segments", (json_int_t)r->segments, "draining",
			 (json_int_t)r->draining, "revoked",
			 (json_int_t)r->revoked, "moved",
			 (json_int_t)r->moved);
}

static void print(const json_t *pool)
{
	static const char *const keys[] = { "bytes", "max", "segments",
					    "draining", "revoked" };
	static const char *const head[] = { "pool", "max", "segments",
					    "still to go", "not unmapped",
					    "pages moved" };
	struct table t = TABLE_NULL;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	table_row(&t);
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		table_bytes(&t, json_count(pool, keys[i]));
	table_count(&t, json_count(pool, "moved"));
	table_print(&t);
}

static int work(struct kvd *k, void *args)
{
	const struct pool_args *a = args;
	struct call c = { .type = WIRE_POOL,
			  .request = &a->m.base,
			  .want = &kvd__pool_reply__descriptor };
	int err = call(k, &c);
	json_t *pool;

	if (!err) {
		pool = to_json((const Kvd__PoolReply *)c.reply);
		if (a->common.json) {
			json_dumpf(pool, stdout, 0);
			putchar('\n');
		} else {
			print(pool);
		}
		json_decref(pool);
	}
	call_end(&c);
	return err;
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "pool", .usage = usage, .take = take,
		.work = work
	};
	struct pool_args a = { .m = KVD__POOL_REQUEST__INIT };

	return run_with(&r, argc, argv, &a);
}

const struct command command_pool = {
	.name = "pool", .summary = "its size, and another one (pool --help)",
	.run = run
};
