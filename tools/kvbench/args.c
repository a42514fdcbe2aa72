// SPDX-License-Identifier: Apache-2.0
/*
 * args.c - a benchmark's command line, from a table.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"

static int complain(const char *bench, const char *arg, const char *what)
{
	fprintf(stderr, "kvbench %s: %s: %s\n", bench, arg, what);
	return -EINVAL;
}

/* Where an argument that is no option goes; NULL: none is taken. */
static const struct arg *find_name(const struct arg *a)
{
	for (; a->name; a++) {
		if (a->kind == ARG_NAME)
			return a;
	}
	return NULL;
}

static void help(const char *bench, const struct arg *a, const char *summary)
{
	static const char *const of_kind[] = {
		[ARG_FLAG] = "",
		[ARG_COUNT] = " N",
		[ARG_TEXT] = " TEXT",
		[ARG_LIST] = " N,...",
		[ARG_NAME] = "",
	};
	const struct arg *name = find_name(a);

	printf("usage: kvbench %s %s%s[options]\n\n%s\n\n", bench,
	       name ? name->name : "", name ? " " : "", summary);
	if (name)
		printf("  %-18s %s\n", name->name, name->help);
	for (; a->name; a++)
		if (a->kind != ARG_NAME)
			printf("  --%s%-*s %s\n", a->name, (int)(16 - strlen(a->name)),
			       of_kind[a->kind], a->help);
	printf("  --%-16s %s\n", "help", "this");
}

static const struct arg *find(const struct arg *a, const char *name)
{
	for (; a->name; a++) {
		if (a->kind != ARG_NAME && strcmp(a->name, name) == 0)
			return a;
	}
	return NULL;
}

static int set_count(unsigned *value, const char *text)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < 1 || n > INT_MAX)
		return -EINVAL;
	*value = (unsigned)n;
	return 0;
}

/* Up to ARG_LIST_MAX counts. */
static int set_list(struct arg_list *list, const char *text)
{
	char copy[ARG_LIST_MAX * 12], *save, *word;

	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	list->nr = 0;
	for (word = strtok_r(copy, ",", &save); word;
	     word = strtok_r(NULL, ",", &save))
		if (list->nr == ARG_LIST_MAX ||
		    set_count(&list->n[list->nr++], word))
			return -EINVAL;
	return list->nr ? 0 : -EINVAL;
}

/* Return: 0, or -EINVAL when @text is no such value. */
static int set_value(const struct arg *a, const char *text)
{
	if (a->kind == ARG_COUNT)
		return set_count(a->value, text);
	if (a->kind == ARG_LIST)
		return set_list(a->value, text);
	*(const char **)a->value = text;
	return 0;
}

int args_parse(int argc, char **argv, const struct arg *args,
               const char *summary)
{
	const char *bench = argv[0];
	const struct arg *a;
	int i;

	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			help(bench, args, summary);
			return 1;
		}
		if (strncmp(argv[i], "--", 2) != 0) {
			a = find_name(args);
			if (!a || *(const char **)a->value)
				return complain(bench, argv[i],
				                "not an option");
			*(const char **)a->value = argv[i];
			continue;
		}
		a = find(args, argv[i] + 2);
		if (!a)
			return complain(bench, argv[i], "no such option");
		if (a->kind == ARG_FLAG) {
			*(bool *)a->value = true;
			continue;
		}
		if (++i == argc)
			return complain(bench, argv[i - 1], "needs a value");
		if (set_value(a, argv[i]))
			return complain(bench, argv[i],
			                a->kind == ARG_LIST ? "not counts"
			                                    : "not a count");
	}
	return 0;
}
