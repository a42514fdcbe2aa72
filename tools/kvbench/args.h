/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.h - a benchmark's command line, from a table.
 */
#ifndef TOOLS_KVBENCH_ARGS_H
#define TOOLS_KVBENCH_ARGS_H

enum arg_kind {
	ARG_FLAG,  /* value is a bool, set when given */
	ARG_COUNT, /* value is an unsigned, at least 1 */
	ARG_TEXT,  /* value is a const char *, points into argv */
	ARG_LIST,  /* value is a struct arg_list: counts with commas between */
	ARG_NAME,  /* as ARG_TEXT, but the argument itself: not an option */
};

#define ARG_LIST_MAX 16

struct arg_list {
	unsigned nr;
	unsigned n[ARG_LIST_MAX];
};

/* Defaults are what the values hold before. A NULL name ends the table. */
struct arg {
	const char *name;
	enum arg_kind kind;
	void *value;
	const char *help;
};

/**
 * args_parse() - fill the values of @args
 * @argv:	argv[0] is the benchmark's name
 * @summary:	first line of --help
 *
 * Return: 0; 1 when --help was asked for and printed; -EINVAL when one line
 * on stderr says what is wrong.
 */
int args_parse(int argc, char **argv, const struct arg *args,
               const char *summary);

#endif
