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

/*
 * How a command with arguments of its own runs: @parse reads them into a
 * structure that begins with the path of the socket, and says what is wrong
 * (-EINVAL); @work returns 0, the exit status after a line on stderr, or
 * -errno, and kvd_error() has the reason.
 */
struct runner {
	const char *usage;
	int (*parse)(int argc, char **argv, void *args);
	int (*work)(struct kvd *k, void *args);
};

/* Return: the exit status. */
int run_with(const struct runner *r, int argc, char **argv, void *args);

/* Connects to the daemon. Return: 0, or the exit status after a line on
 * stderr. */
int kvctl_connect(const char *socket, struct kvd **ret);

#endif
