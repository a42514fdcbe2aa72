// SPDX-License-Identifier: Apache-2.0
/*
 * main.c - kvctl: what the daemon holds, for whom.
 *
 * Exit status: as usage() says.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "tools/kvctl/calibrate.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"

#define DEGRADED 3

static const struct command *const commands[] = {
	&command_top,
	&command_status,
	&command_stat,
	&command_fsck,
	&command_clients,
	&command_spaces,
	&command_tenants,
	&command_pressure,
	&command_tenant,
	&command_pool,
	&command_reclaim,
	&command_drop,
	&command_index,
	&command_events,
	&command_pin,
	&command_unpin,
	&command_pins,
	&command_quarantine,
	&command_plan,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int usage(FILE *out, int status)
{
	size_t i;

	fprintf(out, "usage: kvctl COMMAND [--json] [--socket PATH]\n\n");
	for (i = 0; i < NR_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name,
		        commands[i]->summary);
	fprintf(out, "  %-10s %s\n", "calibrate", calibrate_summary);
	fprintf(out, "\n"
	             "  --json     the same as one JSON object\n"
	             "  --socket   of the daemon (KVD_SOCKET)\n"
	             "  --verify   stat: also walk the whole structure\n"
	             "  --loop-reset   stat: forget the longest turn of the loop,\n"
	             "             but since start\n"
	             "\n"
	             "Exit status: 0; 1 no daemon, or it refused, or what it holds does "
	             "not add up;\n"
	             "2 bad usage; 3 status: it is degraded.\n");
	return status;
}

static const struct command *find(const char *name)
{
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

/* Return: 0, or -EINVAL after a line on stderr. */
static int parse(int argc, char **argv, struct options *o,
                 const struct command **ret)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			o->json = true;
		} else if (strcmp(argv[i], "--verify") == 0) {
			o->verify = true;
		} else if (strcmp(argv[i], "--loop-reset") == 0) {
			o->loop_reset = true;
		} else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
			o->socket = argv[++i];
		} else if (!*ret && find(argv[i]) && !find(argv[i])->run) {
			*ret = find(argv[i]);
		} else {
			fprintf(stderr, "kvctl: what is %s? (kvctl --help)\n",
			        argv[i]);
			return -EINVAL;
		}
	}
	if (!*ret)
		fprintf(stderr, "kvctl: no command given (kvctl --help)\n");
	else if (o->verify && *ret != &command_stat)
		fprintf(stderr, "kvctl: --verify belongs to stat\n");
	else if (o->loop_reset && *ret != &command_stat)
		fprintf(stderr, "kvctl: --loop-reset belongs to stat\n");
	else
		return 0;
	return -EINVAL;
}

static int report_no_daemon(const char *socket, int err)
{
	const char *path = socket ? socket : kvd_default_socket();

	if (err == -ENOTCONN)
		fprintf(stderr,
		        "kvctl: no kvd at %s: start it (systemctl start "
		        "kvd.socket) or say where one is (KVD_SOCKET)\n",
		        path);
	else
		fprintf(stderr, "kvctl: %s: %s\n", path, strerror(-err));
	return FAILED;
}

int kvctl_connect(const char *socket, struct kvd **ret)
{
	struct kvd_connect_opts opts = { .size = sizeof(opts),
		                         .socket = socket,
		                         .program = "kvctl" };
	int err = kvd_connect(&opts, ret);

	return err ? report_no_daemon(socket, err) : 0;
}

/* ---- commands with arguments of their own ---- */

static const char *running; /* its name */

int bad(const char *what, const char *text)
{
	fprintf(stderr, "kvctl: %s%s (kvctl %s --help)\n", what, text, running);
	return -EINVAL;
}

static int read_args(const struct runner *r, int argc, char **argv, void *args)
{
	struct common *c = args;
	int err = 0;

	running = r->name;
	for (int i = 0; i < argc && !err; i++) {
		if (strcmp(argv[i], "--json") == 0)
			c->json = true;
		else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc)
			c->socket = argv[++i];
		else
			err = r->take(argc, argv, &i, args);
	}
	return err || !r->check ? err : r->check(args);
}

int run_with(const struct runner *r, int argc, char **argv, void *args)
{
	struct kvd *k;
	int err;

	if (argc == 1 && strcmp(argv[0], "--help") == 0) {
		fputs(r->usage, stdout);
		return 0;
	}
	if (read_args(r, argc, argv, args) < 0)
		return USAGE;
	err = kvctl_connect(((const struct common *)args)->socket, &k);
	if (err)
		return err;
	err = r->work(k, args);
	if (err < 0)
		fprintf(stderr, "kvctl: %s\n", kvd_error(k));
	kvd_close(k);
	return err < 0 ? FAILED : err;
}

/* What of the answer is bad news, as a line on stderr. Return: exit status. */
static int judge(const json_t *answer)
{
	if (json_is_string(json_object_get(answer, "verify_error"))) {
		fprintf(stderr, "kvctl: the pool does not add up\n");
		return FAILED;
	}
	if (strcmp(json_text(answer, "state"), "degraded") == 0) {
		fprintf(stderr, "kvctl: kvd is degraded: a call of the device "
		                "does not return, see its log\n");
		return DEGRADED;
	}
	return 0;
}

static int show(const struct command *c, const struct options *o, struct kvd *k)
{
	json_t *answer = NULL;
	int status, err = c->ask(k, o, &answer);

	if (err) {
		fprintf(stderr, "kvctl: %s\n", kvd_error(k));
		json_decref(answer);
		return FAILED;
	}
	if (!answer) {
		fprintf(stderr, "kvctl: %s\n", strerror(ENOMEM));
		return FAILED;
	}
	if (o->json) {
		json_dumpf(answer, stdout, 0);
		putchar('\n');
	} else {
		c->print(answer);
	}
	status = judge(answer);
	json_decref(answer);
	return status;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	const struct command *c = NULL;
	struct kvd *k;
	int status;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(stdout, 0);
	if (argc < 2)
		return usage(stderr, USAGE);
	if (strcmp(argv[1], "calibrate") == 0)
		return calibrate_main(argc - 1, argv + 1);
	c = find(argv[1]);
	if (c && c->run)
		return c->run(argc - 2, argv + 2);
	c = NULL;
	if (parse(argc, argv, &o, &c))
		return USAGE;
	status = kvctl_connect(o.socket, &k);
	if (status)
		return status;
	status = show(c, &o, k);
	kvd_close(k);
	return status;
}
