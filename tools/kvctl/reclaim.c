// SPDX-License-Identifier: Apache-2.0
/*
 * reclaim.c - kvctl reclaim: gives up cached pages, as writing to a cgroup's
 * memory.reclaim does.
 *
 * kvd does a step for each request; we ask until it is enough.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/size.h"

static const char usage[] =
	"usage: kvctl reclaim [--tenant NAME] SIZE|all [--json] [--socket PATH]\n"
	"\n"
	"Gives up cached pages, those first that would go next, until so many\n"
	"bytes are freed or nothing cached is left. SIZE is a number with K, M, G\n"
	"or T. What is in use stays. Without --tenant pages of all tenants go, but\n"
	"not what their min keeps.\n"
	"\n"
	"For root, the daemon's own user and the admin group; of their own tenant\n"
	"for its users.\n"
	"Exit status: 0; 1 refused, or less was freed than SIZE; 2 bad usage.\n";

struct reclaim_args {
	struct common common;
	const char *tenant;
	uint64_t bytes;		/* UINT64_MAX: all */
};

struct freed {
	uint64_t bytes;
	uint64_t pages;
};

static int parse_amount(const char *text, struct reclaim_args *a)
{
	if (a->bytes)
		return bad("what is ", text);
	if (strcmp(text, "all") == 0)
		a->bytes = UINT64_MAX;
	else if (size_parse(text, &a->bytes) < 0 || !a->bytes)
		return bad("not a size, with K, M, G or T, nor all: ", text);
	return 0;
}

static int take(int argc, char **argv, int *i, void *args)
{
	struct reclaim_args *a = args;

	if (strcmp(argv[*i], "--tenant") == 0 && *i + 1 < argc &&
	    argv[*i + 1][0]) {
		a->tenant = argv[++*i];
		return 0;
	}
	if (argv[*i][0] == '-')
		return bad("what is ", argv[*i]);
	return parse_amount(argv[*i], a);
}

static int check(const void *args)
{
	const struct reclaim_args *a = args;

	return a->bytes ? 0 : bad("how much? A size, or all", "");
}

/* One step. Return: 0 or -errno. */
static int step(struct kvd *k, const struct reclaim_args *a,
		struct freed *freed, bool *more)
{
	Kvd__ReclaimRequest m = KVD__RECLAIM_REQUEST__INIT;
	struct call c = { .type = WIRE_RECLAIM,
			  .request = &m.base,
			  .want = &kvd__reclaim_reply__descriptor };
	const Kvd__ReclaimReply *r;
	int err;

	m.tenant = (char *)(uintptr_t)(a->tenant ? a->tenant : "");
	m.bytes = a->bytes - freed->bytes;
	err = call(k, &c);
	if (!err) {
		r = (const Kvd__ReclaimReply *)c.reply;
		freed->bytes += r->bytes;
		freed->pages += r->pages;
		*more = r->more && r->pages && freed->bytes < a->bytes;
	}
	call_end(&c);
	return err;
}

static int print(const struct reclaim_args *a, const struct freed *freed)
{
	bool enough = a->bytes == UINT64_MAX || freed->bytes >= a->bytes;
	json_t *j;

	if (a->common.json) {
		j = json_pack("{s:I, s:I, s:b}", "bytes",
			      (json_int_t)freed->bytes, "pages",
			      (json_int_t)freed->pages, "enough", (int)enough);
		json_dumpf(j, stdout, 0);
		putchar('\n');
		json_decref(j);
	} else {
		printf("freed %llu bytes of %llu pages\n",
		       (unsigned long long)freed->bytes,
		       (unsigned long long)freed->pages);
	}
	if (!enough)
		fprintf(stderr, "kvctl: that is less than was asked for: "
			"nothing more is cached that may go\n");
	return enough ? 0 : FAILED;
}

static int work(struct kvd *k, void *args)
{
	const struct reclaim_args *a = args;
	struct freed freed = { 0 };
	bool more = true;
	int err = 0;

	while (more && !err)
		err = step(k, a, &freed, &more);
	return err ? err : print(a, &freed);
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "reclaim", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct reclaim_args a = { 0 };

	return run_with(&r, argc, argv, &a);
}

const struct command command_reclaim = {
	.name = "reclaim", .summary = "give up cached pages (reclaim --help)",
	.run = run
};
