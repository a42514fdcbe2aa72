// SPDX-License-Identifier: Apache-2.0
/*
 * pins.c - kvctl pins and unpin: what is pinned, and its end.
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
	"usage: kvctl unpin SPACE:BLOCK|all [--json] [--socket PATH]\n"
	"\n"
	"Ends a pin (kvctl pins has them), or all that may be ended: what it kept\n"
	"is cached as anything else then.\n"
	"\n"
	"For root, the daemon's own user and the admin group; of their own tenant\n"
	"for its users.\n"
	"Exit status: 0; 1 refused; 2 bad usage.\n";

struct unpin_args {
	struct common common;
	uint32_t space;
	uint32_t block;
	bool all;
};

/* ---- pins ---- */

static json_t *stat_to_json(const Kvd__PinStat *p)
{
	json_t *first = json_array();
	char id[32];
	size_t i;

	snprintf(id, sizeof(id), "%u:%u", p->space, p->block);
	for (i = 0; i < p->n_first; i++)
		json_array_append_new(first, json_integer(p->first[i]));
	return json_pack("{s:s, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:o}", "id",
			 id, "space", (json_int_t)p->space, "block",
			 (json_int_t)p->block, "tenant", json_safe(p->tenant),
			 "tokens", (json_int_t)p->tokens, "pages",
			 (json_int_t)p->pages, "bytes", (json_int_t)p->bytes,
			 "ttl_ms", (json_int_t)p->ttl_ms, "first", first);
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__PinsRequest m = KVD__PINS_REQUEST__INIT;
	json_t *pins = json_array();
	const Kvd__PinsReply *r;
	bool more;
	size_t i;
	int err;

	do {
		struct call c = { .type = WIRE_PINS,
				  .request = &m.base,
				  .want = &kvd__pins_reply__descriptor };

		err = call(k, &c);
		r = err ? NULL : (const Kvd__PinsReply *)c.reply;
		for (i = 0; r && i < r->n_pins; i++)
			json_array_append_new(pins, stat_to_json(r->pins[i]));
		m.skip += (uint32_t)i;
		more = r && r->more && i;
		call_end(&c);
	} while (more);
	*ret = json_pack("{s:o}", "pins", pins);
	return err;
}

/* The tokens are last, and as long as they are. */
static void print_first(struct table *t, const json_t *pin)
{
	const json_t *token;
	char text[TABLE_CELL] = "";
	size_t i, n = 0;

	json_array_foreach(json_object_get(pin, "first"), i, token)
		if (n < sizeof(text))
			n += (size_t)snprintf(
				text + n, sizeof(text) - n, "%s%lld",
				n ? " " : "",
				(long long)json_integer_value(token));
	table_text(t, text);
}

static void print(const json_t *answer)
{
	static const char *const head[] = { "pin", "tenant", "tokens", "pages",
					    "bytes", "left", "begins with" };
	struct table t = TABLE_NULL;
	const json_t *pin;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	t.left = 6;
	json_array_foreach(json_object_get(answer, "pins"), i, pin) {
		table_row(&t);
		table_text(&t, json_text(pin, "id"));
		table_text(&t, json_text(pin, "tenant"));
		table_count(&t, json_count(pin, "tokens"));
		table_count(&t, json_count(pin, "pages"));
		table_bytes(&t, json_count(pin, "bytes"));
		table_time(&t, json_count(pin, "ttl_ms"));
		print_first(&t, pin);
	}
	table_print(&t);
}

/* ---- unpin ---- */

static int take(int argc, char **argv, int *i, void *args)
{
	struct unpin_args *a = args;

	if (argv[*i][0] == '-' || a->space || a->all)
		return bad("what is ", argv[*i]);
	if (strcmp(argv[*i], "all") == 0)
		a->all = true;
	else if (block_parse(argv[*i], &a->space, &a->block) < 0 || !a->block)
		return bad("not SPACE:BLOCK, nor all: ", argv[*i]);
	return 0;
}

static int check(const void *args)
{
	const struct unpin_args *a = args;

	return a->all || a->space ? 0 : bad("which? SPACE:BLOCK, or all", "");
}

static int unpin(struct kvd *k, uint32_t space, uint32_t block)
{
	Kvd__UnpinRequest m = KVD__UNPIN_REQUEST__INIT;
	struct call c = { .type = WIRE_UNPIN,
			  .request = &m.base,
			  .want = &kvd__unpin_reply__descriptor };
	int err;

	m.space = space;
	m.block = block;
	err = call(k, &c);
	call_end(&c);
	return err;
}

/* One that has ended while we ask is no failure. */
static int unpin_all(struct kvd *k, uint32_t *ret_nr)
{
	json_t *answer = NULL;
	const json_t *pin;
	size_t i;
	int err = ask(k, NULL, &answer);

	json_array_foreach(json_object_get(answer, "pins"), i, pin) {
		if (err)
			break;
		err = unpin(k, (uint32_t)json_count(pin, "space"),
			    (uint32_t)json_count(pin, "block"));
		*ret_nr += !err;
		if (err == -ENOENT)
			err = 0;
	}
	json_decref(answer);
	return err;
}

static int work(struct kvd *k, void *args)
{
	const struct unpin_args *a = args;
	uint32_t nr = !a->all;
	int err;

	err = a->all ? unpin_all(k, &nr) : unpin(k, a->space, a->block);
	if (!err)
		printf(a->common.json ? "{\"pins\": %u}\n" : "ended %u pins\n", nr);
	return err;
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "unpin", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct unpin_args a = { 0 };

	return run_with(&r, argc, argv, &a);
}

const struct command command_unpin = {
	.name = "unpin", .summary = "end a pin (unpin --help)",
	.run = run
};
const struct command command_pins = {
	.name = "pins", .summary = "what is pinned, and for how long",
	.ask = ask, .print = print
};
