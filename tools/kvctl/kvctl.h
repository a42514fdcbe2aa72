/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl.h - one command of kvctl: what it asks, and how it shows the answer.
 *
 * The answer becomes JSON first; the text for people is made from the JSON,
 * so that both always say the same.
 */
#ifndef TOOLS_KVCTL_KVCTL_H
#define TOOLS_KVCTL_KVCTL_H

#include <jansson.h>
#include <stdbool.h>
#include <kvd/kvd.h>

/* Exit statuses, besides 0. */
#define FAILED 1
#define USAGE  2

struct options {
	const char *socket; /* NULL: the default */
	bool json;
	bool verify; /* stat only */
	bool loop_reset; /* stat only */
};

struct command {
	const char *name;
	const char *summary;
	/* The answer, the caller's even on failure; NULL is no memory.
	 * Return: 0 or -errno, kvd_error() has the reason. */
	int (*ask)(struct kvd *k, const struct options *o, json_t **ret);
	void (*print)(const json_t *answer);
	/* Instead of the two, where arguments are of its own: all of the
	 * command. argv is what comes after its name. Return: exit status. */
	int (*run)(int argc, char **argv);
};

extern const struct command command_top;
extern const struct command command_status;
extern const struct command command_stat;
extern const struct command command_fsck;
extern const struct command command_clients;
extern const struct command command_spaces;
extern const struct command command_tenants;
extern const struct command command_pressure;
extern const struct command command_tenant;
extern const struct command command_pool;
extern const struct command command_reclaim;
extern const struct command command_drop;
extern const struct command command_index;
extern const struct command command_events;
extern const struct command command_pin;
extern const struct command command_unpin;
extern const struct command command_pins;
extern const struct command command_quarantine;
extern const struct command command_plan;

/* A line: free room and watermarks of a status or a pool. */
void print_room(const json_t *answer);

/* What all commands take, and the structures begin with that the arguments of
 * one are read into. */
struct common {
	const char *socket; /* NULL: the default */
	bool json;
};

/* How a command with arguments of its own runs. */
struct runner {
	const char *name; /* kvctl NAME --help */
	const char *usage;
	/* Takes argv[*i], and what follows it as far as it belongs to it.
	 * Return: 0 or bad(). */
	int (*take)(int argc, char **argv, int *i, void *args);
	/* Is it all that is needed? May be NULL. Return: 0 or bad(). */
	int (*check)(const void *args);
	/* Return: 0, the exit status after a line on stderr, or -errno, and
	 * kvd_error() has the reason. */
	int (*work)(struct kvd *k, void *args);
};

/* @args begins with a struct common. Return: the exit status. */
int run_with(const struct runner *r, int argc, char **argv, void *args);

/* What is wrong with the arguments, on stderr. Return: -EINVAL. */
int bad(const char *what, const char *text);

/* Connects to the daemon. Return: 0, or the exit status after a line on
 * stderr. */
int kvctl_connect(const char *socket, struct kvd **ret);

#endif
