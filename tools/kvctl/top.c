// SPDX-License-Identifier: Apache-2.0
/*
 * top.c - kvctl top: the pool, its tenants and its clients, again and again.
 *
 * On a terminal it is a screen that is drawn over; elsewhere, or with -b, one
 * view follows the other; with --json each is a line. A daemon that goes away
 * is waited for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/top.h"

#define MIN_DELAY .1
#define MAX_DELAY 86400.

static const char usage_text[] =
	"usage: kvctl top [-d SECONDS] [-n COUNT] [-b] [--json] "
	"[--socket PATH]\n\n"
	"  -d         seconds from view to view; 1\n"
	"  -n         views, then it ends; without end\n"
	"  -b         no screen: one after the other\n"
	"  --json     the same, each a JSON object in a line\n"
	"  --socket   of the daemon (KVD_SOCKET)\n\n"
	"Keys: q ends, p sorts clients by pages held, c by calls a second.\n";

struct top {
	const char *socket;
	double delay;
	unsigned long count; /* 0: no end */
	bool batch, json;
	struct kvd *k;
	struct top_term term;
	struct top_frame was, is;
	enum top_sort sort;
	bool lost;
	unsigned long nr; /* shown so far */
};

static int complain(const char *what, const char *arg)
{
	fprintf(stderr, "kvctl top: %s %s (kvctl top --help)\n", what, arg);
	return -EINVAL;
}

static int parse_delay(struct top *t, const char *text)
{
	char *end;

	t->delay = strtod(text, &end);
	if (end == text || *end || !(t->delay >= MIN_DELAY) ||
	    t->delay > MAX_DELAY)
		return complain("not a time from .1 s to a day:", text);
	return 0;
}

static int parse_count(struct top *t, const char *text)
{
	char *end;

	errno = 0;
	t->count = strtoul(text, &end, 10);
	if (*text < '1' || *text > '9' || *end || errno)
		return complain("not a count:", text);
	return 0;
}

/* Return: 0; 1: help was asked for; -EINVAL after a line on stderr. */
static int parse(struct top *t, int argc, char **argv)
{
	int i, err = 0;

	for (i = 0; i < argc && !err; i++) {
		const char *arg = argv[i], *value = argv[i + 1];

		if (strcmp(arg, "--help") == 0)
			return 1;
		if (strcmp(arg, "-b") == 0)
			t->batch = true;
		else if (strcmp(arg, "--json") == 0)
			t->json = true;
		else if (strcmp(arg, "-d") && strcmp(arg, "-n") &&
		         strcmp(arg, "--socket"))
			err = complain("what is", arg);
		else if (++i == argc)
			err = complain("nothing after", arg);
		else if (strcmp(arg, "-d") == 0)
			err = parse_delay(t, value);
		else if (strcmp(arg, "-n") == 0)
			err = parse_count(t, value);
		else
			t->socket = value;
	}
	return err;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The frame that was asked for last is the one before now. */
static void ask(struct top *t)
{
	struct top_frame next;

	if (t->lost && kvd_process(t->k))
		return;
	t->lost = top_ask(t->k, &next) != 0;
	if (t->lost) {
		top_frame_fini(&next);
		return;
	}
	top_frame_fini(&t->was);
	t->was = t->is;
	t->is = next;
}

static json_t *view(struct top *t)
{
	return t->lost ? top_view_lost(kvd_error(t->k))
	               : top_view(&t->was, &t->is, t->sort);
}

static void put_screen(const json_t *v)
{
	unsigned columns, rows;
	char *text;

	top_term_size(&columns, &rows);
	text = top_text(v, columns, rows);
	if (text)
		top_term_draw(text);
	free(text);
}

static void put_plain(const json_t *v, bool first)
{
	char *text = top_text(v, 120, 0);

	if (text)
		printf("%s%s", first ? "" : "\n", text);
	free(text);
}

/* Return: 0, or -EPIPE when nobody reads any more. */
static int show(struct top *t)
{
	json_t *v = view(t);

	if (v && t->json) {
		json_dumpf(v, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (v && t->term.screen) {
		put_screen(v);
	} else if (v) {
		put_plain(v, !t->nr);
	}
	json_decref(v);
	return fflush(stdout) ? -EPIPE : 0;
}

/* Keys, till the next view is due. Return: whether to go on. */
static bool wait_next(struct top *t, double due)
{
	for (;;) {
		double left = due - now_s();
		int key = top_term_wait(&t->term, left);

		if (key == 'q' || key == 'Q')
			return false;
		if (key == 'p' || key == 'c')
			t->sort = key == 'p' ? TOP_BY_PAGES : TOP_BY_REQUESTS;
		if (key == 'p' || key == 'c' || key == '\f')
			show(t);
		else if (!key && due <= now_s())
			return true;
	}
}

static void loop(struct top *t)
{
	double due = now_s();

	for (;;) {
		ask(t);
		if (show(t) || ++t->nr == t->count)
			return;
		due += t->delay;
		if (due < now_s()) /* it was stopped, or asking took long */
			due = now_s();
		if (!wait_next(t, due))
			return;
	}
}

static int run(int argc, char **argv)
{
	struct top t = { .delay = 1 };
	int status, err = parse(&t, argc, argv);

	if (err) {
		fputs(err > 0 ? usage_text : "", stdout);
		return err > 0 ? 0 : USAGE;
	}
	status = kvctl_connect(t.socket, &t.k);
	if (status)
		return status;
	signal(SIGPIPE, SIG_IGN);
	top_term_init(&t.term, !t.batch && !t.json && isatty(STDOUT_FILENO));
	loop(&t);
	top_term_fini(&t.term);
	top_frame_fini(&t.was);
	top_frame_fini(&t.is);
	kvd_close(t.k);
	return 0;
}

const struct command command_top = { .name = "top",
	                             .summary = "all of it, live",
	                             .run = run };
