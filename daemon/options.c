// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - the command line, and the configuration that it leads to.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "daemon/options.h"

#define DEFAULT_CONFIG "/etc/kvd/kvd.conf"

static const char usage[] =
	"usage: kvd [OPTION...]\n"
	"Holds a pool of KV-cache pages and hands them to the workers that\n"
	"connect to its socket.\n"
	"\n"
	"  --config FILE     read FILE instead of " DEFAULT_CONFIG "\n"
	"                    (which only root's kvd reads by itself), then\n"
	"                    FILE.d/*.conf and STATE-DIR/kvd.conf.d/*.conf\n"
	"  --dropins DIR     with those, DIR/*.conf\n"
	"  --socket PATH     listen at PATH; default /run/kvd/kvd.sock, or\n"
	"                    $XDG_RUNTIME_DIR/kvd/kvd.sock for an ordinary user\n"
	"  --device DEVICE   auto, host, cuda-ipc:N or cuda-vmm:N\n"
	"  --pool SIZE       bytes of the pool, with K, M, G or T; default 1G\n"
	"  --segment SIZE    bytes of a segment, a multiple of 2M\n"
	"  --state-dir DIR   where name keys are kept\n"
	"  --grace TIME      how long clients may claim after a restart;\n"
	"                    default 10s\n"
	"  --set KEY=VALUE   any key of [kvd] in the configuration file\n"
	"  --check           read the configuration, say if it is good, exit\n"
	"  --version         print the version and exit\n"
	"  --help            print this and exit\n";

enum {
	OPT_CONFIG = 1000,
	OPT_DROPINS,
	OPT_SET,
	OPT_CHECK,
	OPT_VERSION,
	OPT_HELP,
	OPT_KEY			/* the option's name is a key */
};

static const struct option options[] = {
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "dropins", required_argument, NULL, OPT_DROPINS },
	{ "socket", required_argument, NULL, OPT_KEY },
	{ "device", required_argument, NULL, OPT_KEY },
	{ "pool", required_argument, NULL, OPT_KEY },
	{ "segment", required_argument, NULL, OPT_KEY },
	{ "state-dir", required_argument, NULL, OPT_KEY },
	{ "grace", required_argument, NULL, OPT_KEY },
	{ "set", required_argument, NULL, OPT_SET },
	{ "check", no_argument, NULL, OPT_CHECK },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 }
};

static int bad_usage(void)
{
	fputs("Try 'kvd --help'.\n", stderr);
	return -EINVAL;
}

int options_parse(int argc, char **argv, struct options *o)
{
	int opt;

	*o = (struct options){ .argc = argc, .argv = argv };
	optind = 1;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == '?')
			return bad_usage();
		if (opt == OPT_CONFIG)
			o->config = optarg;
		else if (opt == OPT_DROPINS)
			o->dropins = optarg;
		else if (opt == OPT_CHECK)
			o->check = true;
		else if (opt == OPT_HELP)
			fputs(usage, stdout);
		else if (opt == OPT_VERSION)
			puts("kvd " KVD_VERSION);
		o->done |= opt == OPT_HELP || opt == OPT_VERSION;
	}
	if (optind < argc) {
		fprintf(stderr, "kvd: '%s': no arguments are taken\n",
			argv[optind]);
		return bad_usage();
	}
	return 0;
}

/* KEY=VALUE of --set. */
static int set_pair(struct config *c, char *pair)
{
	char *value = strchr(pair, '=');
	int r;

	if (value) {
		*value = '\0';
		r = config_set(c, pair, value + 1, pair);
		*value = '=';
	}
	if (value && r != -ENOENT)
		return r;
	snprintf(c->why, sizeof(c->why), "--set %s: not KEY=VALUE with a key "
		 "of [kvd]", pair);
	return -EINVAL;
}

/* What the command line says wins over files. */
static int set_options(const struct options *o, struct config *c)
{
	int opt, index = 0, r = 0;
	char where[32];

	optind = 1;
	while (r == 0 && (opt = getopt_long(o->argc, o->argv, "", options,
					    &index)) != -1) {
		snprintf(where, sizeof(where), "--%s", options[index].name);
		if (opt == OPT_KEY)
			r = config_set(c, options[index].name, optarg, where);
		else if (opt == OPT_SET)
			r = set_pair(c, optarg);
	}
	return r;
}

int options_config(const struct options *o, struct config *c)
{
	const char *path = o->config;
	int r = 0;

	if (!path && geteuid() == 0 && access(DEFAULT_CONFIG, F_OK) == 0)
		path = DEFAULT_CONFIG;
	c->dropins = o->dropins;
	if (path)
		r = config_read(c, path);
	if (r == 0) /* it may say where the state directory is */
		r = set_options(o, c);
	if (r == 0)
		r = config_read_dropins(c, path);
	if (r == 0)
		r = set_options(o, c);
	if (r == 0)
		r = config_check(c);
	return r;
}
