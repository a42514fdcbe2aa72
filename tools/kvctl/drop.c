// SPDX-License-Identifier: Apache-2.0
/*
 * drop.c - kvctl drop: gives up all that a space has cached, of a model that
 * is not served any more.
 *
 * kvd does a step for each request; we ask until it has been through.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/size.h"

static const char usage[] =
	"usage: kvctl drop SPACE [--json] [--socket PATH]\n"
	"\n"
	"Gives up all that a space has cached, what is pinned too: its pins end.\n"
	"Tiers forget it as well. kvctl spaces has its number. What is in use\n"
	"stays, and the space too.\n"
	"\n"
	"For root, the daemon's own user and the admin group; of their own tenant\n"
	"for its users.\n"
	"Exit status: 0; 1 refused; 2 bad usage.\n";

struct drop_args {
	struct common common;
	uint32_t space;
};

struct dropped {
	uint64_t bytes;
	uint64_t pages;
	uint64_t pins;
	uint64_t tier_bytes;
	uint64_t tier_pages;
	bool tier_owed;
};

static int take(int argc, char **argv, int *i, void *args)
{
	struct drop_args *a = args;

	if (argv[*i][0] == '-' || a->space)
		return bad("what is ", argv[*i]);
	if (space_parse(argv[*i], &a->space) < 0)
		return bad("not the number of a space: ", argv[*i]);
	return 0;
}

static int check(const void *args)
{
	const struct drop_args *a = args;

	return a->space ? 0 : bad("which space?", "");
}

#define WAIT_US 5000

/* One step from where @m says, which then says where to go on. Return: 0 or
 * -errno. */
static int step(struct kvd *k, Kvd__DropRequest *m, struct dropped *d)
{
	struct call c = { .type = WIRE_DROP,
			  .request = &m->base,
			  .want = &kvd__drop_reply__descriptor };
	const Kvd__DropReply *r;
	int err = call(k, &c);

	if (!err) {
		r = (const Kvd__DropReply *)c.reply;
		d->bytes += r->bytes;
		d->pages += r->pages;
		d->pins += r->pins;
		d->tier_bytes += r->tier_bytes;
		d->tier_pages += r->tier_pages;
		d->tier_owed = r->tier_owed;
		if (r->next && !r->pages && !r->tier_pages)
			usleep(WAIT_US); /* for a disk */
		m->serial = r->serial;
		m->from = r->next;
	}
	call_end(&c);
	return err;
}

static void print(const struct drop_args *a, const struct dropped *d)
{
	json_t *j;

	if (!a->common.json) {
		printf("freed %llu bytes of %llu pages\n",
		       (unsigned long long)d->bytes,
		       (unsigned long long)d->pages);
		if (d->pins)
			printf("ended %llu pins\n",
			       (unsigned long long)d->pins);
		if (d->tier_owed)
			fputs("a tier's file cannot be told just now (kvctl "
			      "stat): it is when it can be, or else it is not "
			      "forgotten after a restart\n", stdout);
		if (d->tier_pages)
			printf("tiers forgot %llu bytes of %llu pages\n",
			       (unsigned long long)d->tier_bytes,
			       (unsigned long long)d->tier_pages);
		return;
	}
	j = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:b}",
		      "space", (json_int_t)a->space,
		      "bytes", (json_int_t)d->bytes,
		      "pages", (json_int_t)d->pages,
		      "pins", (json_int_t)d->pins,
		      "tier_bytes", (json_int_t)d->tier_bytes,
		      "tier_pages", (json_int_t)d->tier_pages,
		      "tier_owed", (int)d->tier_owed);
	json_dumpf(j, stdout, 0);
	putchar('\n');
	json_decref(j);
}

static int work(struct kvd *k, void *args)
{
	Kvd__DropRequest m = KVD__DROP_REQUEST__INIT;
	const struct drop_args *a = args;
	struct dropped d = { 0 };
	int err;

	m.space = a->space;
	do
		err = step(k, &m, &d);
	while (!err && m.from);
	if (!err)
		print(a, &d);
	return err;
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "drop", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct drop_args a = { 0 };

	return run_with(&r, argc, argv, &a);
}

const struct command command_drop = {
	.name = "drop", .summary = "give up a space's cache (drop --help)",
	.run = run
};
