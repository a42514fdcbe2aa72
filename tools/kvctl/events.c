// SPDX-License-Identifier: Apache-2.0
/*
 * events.c - kvctl events: prints what kvd tells, a line for each event, until
 * it is interrupted or kvd goes.
 *
 * Each is made JSON first, as an answer is; the text is made from that.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <kvd/events.h>
#include "client-lib/call.h"
#include "proto/name.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/size.h"

#define MAX_SPACES 64

static const char usage[] =
	"usage: kvctl events [--space N]... [--tokens] [--json]\n"
	"                    [--socket PATH]\n"
	"\n"
	"Prints events as they come, a line for each, until it is interrupted:\n"
	"levels of pressure (none, low, critical), of the pool and of your own\n"
	"tenant, first as they are and then when one changes; and of each space N\n"
	"(kvctl spaces) the blocks that are stored and removed: number, name, how\n"
	"many are before it, the name of the one that it follows, classes of its\n"
	"pages. --tokens: its token ids too.\n"
	"\n"
	"Who reads so slowly that kvd cannot keep them all sees 'lost', and how\n"
	"many; 'gone' is a space that was recycled.\n"
	"\n"
	"Blocks are for root, the daemon's own user and the admin group; of their\n"
	"own tenant for its users.\n"
	"Exit status: 0 interrupted; 1 refused, or kvd went away; 2 bad usage.\n";

struct events_args {
	struct common common;
	uint32_t spaces[MAX_SPACES];
	uint32_t nr_spaces;
	bool tokens;
};

static int add_space(struct events_args *a, const char *text)
{
	if (a->nr_spaces == MAX_SPACES)
		return bad("too many spaces: ", text);
	if (space_parse(text, &a->spaces[a->nr_spaces]) < 0)
		return bad("not the number of a space: ", text);
	a->nr_spaces++;
	return 0;
}

static int take(int argc, char **argv, int *i, void *args)
{
	struct events_args *a = args;

	if (strcmp(argv[*i], "--tokens") == 0) {
		a->tokens = true;
		return 0;
	}
	if (strcmp(argv[*i], "--space") != 0 || *i + 1 == argc)
		return bad("what is ", argv[*i]);
	return add_space(a, argv[++*i]);
}

static int check(const void *args)
{
	const struct events_args *a = args;

	return a->tokens && !a->nr_spaces ?
		       bad("--tokens: of which space?", "") : 0;
}

/* ---- as JSON ---- */

/* What is told of one space, or of pressure. */
struct told {
	uint32_t space; /* 0: pressure */
	bool json;
};

static const char *level_name(uint32_t level)
{
	static const char *const names[] = { "none", "low", "critical" };

	return level <= KVD_LEVEL_CRITICAL ? names[level] : "?";
}

static void put_classes(json_t *j, uint32_t classes)
{
	json_t *list = json_array();
	uint32_t i;

	for (i = 0; i < 32; i++)
		if (classes >> i & 1)
			json_array_append_new(list, json_integer(i));
	json_object_set_new(j, "classes", list);
}

static void put_tokens(json_t *j, const struct kvd_block *b)
{
	json_t *list = json_array();
	uint32_t i;

	for (i = 0; i < b->nr_tokens; i++)
		json_array_append_new(list, json_integer(b->tokens[i]));
	json_object_set_new(j, "tokens", list);
	if (b->extra)
		json_object_set_new(j, "extra", json_hex(b->extra, NAME_BYTES));
}

/* A block's parent; null where it has none. */
static json_t *parent_json(const uint8_t *parent)
{
	static const uint8_t none[NAME_BYTES];

	return memcmp(parent, none, NAME_BYTES) ? json_hex(parent, NAME_BYTES) :
						  json_null();
}

static void put_block(json_t *j, const struct kvd_event *e)
{
	const struct kvd_block *b = &e->block;

	json_object_set_new(j, "sequence",
	                    json_integer((json_int_t)e->sequence));
	json_object_set_new(j, "name", json_hex(b->name, NAME_BYTES));
	if (e->kind != KVD_EVENT_STORED)
		return;
	json_object_set_new(j, "depth", json_integer(b->depth));
	json_object_set_new(j, "parent", parent_json(b->parent));
	put_classes(j, b->classes);
	if (b->tokens)
		put_tokens(j, b);
}

static const char *kind_name(uint32_t kind)
{
	switch (kind) {
	case KVD_EVENT_PRESSURE:
		return "pressure";
	case KVD_EVENT_STORED:
		return "stored";
	case KVD_EVENT_REMOVED:
		return "removed";
	case KVD_EVENT_LOST:
		return "lost";
	case EVENT_GONE:
		return "gone";
	default:
		return "?";
	}
}

static json_t *event_json(const struct told *t, const struct kvd_event *e)
{
	struct timespec now;
	json_t *j;

	clock_gettime(CLOCK_REALTIME, &now);
	j = json_pack("{s:I, s:s}", "time_us",
	              (json_int_t)now.tv_sec * 1000000 + now.tv_nsec / 1000,
	              "event", kind_name(e->kind));
	if (t->space)
		json_object_set_new(j, "space", json_integer(t->space));
	if (e->kind == KVD_EVENT_STORED || e->kind == KVD_EVENT_REMOVED)
		put_block(j, e);
	if (e->kind == KVD_EVENT_LOST)
		json_object_set_new(j, "lost",
		                    json_integer((json_int_t)e->lost));
	if (e->kind == KVD_EVENT_PRESSURE) {
		json_object_set_new(j, "pool", json_string(level_name(e->pool)));
		json_object_set_new(j, "tenant",
		                    json_string(level_name(e->tenant)));
	}
	return j;
}

/* ---- as text ---- */

static void print_time(int64_t us)
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;

	localtime_r(&s, &tm);
	printf("%02d:%02d:%02d.%06d", tm.tm_hour, tm.tm_min, tm.tm_sec,
	       (int)(us % 1000000));
}

static void print_list(const char *name, const json_t *list)
{
	const json_t *value;
	size_t i;

	if (!list)
		return;
	printf(" %s", name);
	json_array_foreach(list, i, value)
		printf("%c%lld", i ? ',' : ' ',
		       (long long)json_integer_value(value));
}

static void print_block(const json_t *j)
{
	const char *parent = json_text(j, "parent");

	printf(" #%lld %s", (long long)json_count(j, "sequence"),
	       json_text(j, "name"));
	if (!json_object_get(j, "depth"))
		return;
	printf(" depth %lld after %s", (long long)json_count(j, "depth"),
	       parent[0] ? parent : "none");
	print_list("classes", json_object_get(j, "classes"));
	print_list("tokens", json_object_get(j, "tokens"));
}

static void print_text(const json_t *j)
{
	print_time(json_count(j, "time_us"));
	if (json_object_get(j, "space"))
		printf(" space %lld", (long long)json_count(j, "space"));
	printf(" %s", json_text(j, "event"));
	if (json_object_get(j, "name"))
		print_block(j);
	if (json_object_get(j, "lost"))
		printf(" %lld", (long long)json_count(j, "lost"));
	if (json_object_get(j, "pool"))
		printf(" pool %s tenant %s", json_text(j, "pool"),
		       json_text(j, "tenant"));
}

static void on_event(const struct kvd_event *e, void *ctx)
{
	const struct told *t = ctx;
	json_t *j = event_json(t, e);

	if (t->json)
		json_dumpf(j, stdout, 0);
	else
		print_text(j);
	putchar('\n');
	fflush(stdout);
	json_decref(j);
}

/* ---- until it ends ---- */

static volatile sig_atomic_t interrupted;

static void on_signal(int signum)
{
	interrupted = 1;
}

/* They come in ppoll() alone. @ret: the mask to wait with. */
static void catch_signals(sigset_t *ret)
{
	struct sigaction act = { .sa_handler = on_signal };
	sigset_t set;

	sigemptyset(&act.sa_mask);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, ret);
	sigdelset(ret, SIGINT);
	sigdelset(ret, SIGTERM);
}

/* A new kvd may have other spaces of those numbers: it is not asked again. */
static int listen_to(struct kvd *k)
{
	sigset_t mask;
	int err = 0;

	catch_signals(&mask);
	events_deliver(k);
	while (!err && !interrupted && !ferror(stdout)) {
		struct pollfd p = { .fd = kvd_fd(k), .events = POLLIN };

		if (ppoll(&p, 1, NULL, &mask) < 0)
			continue;
		err = call_events(k);
		events_deliver(k);
	}
	if (err)
		fprintf(stderr, "kvctl: kvd went away\n");
	return err ? FAILED : 0;
}

static int subscribe(struct kvd *k, const struct events_args *a,
                     struct told *told)
{
	uint32_t mask = KVD_SUBSCRIBE_BLOCKS, i;
	int err;

	if (a->tokens)
		mask |= KVD_SUBSCRIBE_TOKENS;
	err = events_subscribe(k, NULL, 0, KVD_SUBSCRIBE_PRESSURE, on_event,
	                       &told[0]);
	for (i = 0; !err && i < a->nr_spaces; i++) {
		told[i + 1].space = a->spaces[i];
		err = events_subscribe(k, NULL, a->spaces[i], mask, on_event,
		                       &told[i + 1]);
	}
	for (i = 0; i <= a->nr_spaces; i++)
		told[i].json = a->common.json;
	return err;
}

static int work(struct kvd *k, void *args)
{
	static struct told told[MAX_SPACES + 1];
	int err = subscribe(k, args, told);

	return err < 0 ? err : listen_to(k);
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "events", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct events_args a = { 0 };

	return run_with(&r, argc, argv, &a);
}

const struct command command_events = {
	.name = "events", .summary = "print events as they come (events --help)",
	.run = run
};
