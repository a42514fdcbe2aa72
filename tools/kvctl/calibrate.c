// SPDX-License-Identifier: Apache-2.0
/*
 * calibrate.c - kvctl calibrate: becomes a kvworker that makes a profile.
 *
 * The forward pass is the worker's, and its K and V are in a pool: so the
 * daemon is looked for first, where its absence can be told best.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kvd/kvd.h>
#include "tools/kvctl/calibrate.h"

#define FAILED 1
#define USAGE  2
#define WORKER "kvworker"

const char calibrate_summary[] = "make the profile that some formats need";

static const char usage[] =
	"usage: kvctl calibrate MODEL_DIR --text FILE -o PROFILE [OPTION]...\n"
	"\n"
	"Runs a text through a model and writes what its keys and values look\n"
	"like: scales of fp8, codebooks of kvquant, rotations of oscar2. Some\n"
	"16000 tokens like those the model will see are plenty. Needs a running\n"
	"kvd, and kvworker beside kvctl or in PATH.\n"
	"\n"
	"  --text FILE       of a byte model (vocabulary 256)\n"
	"  --ids FILE        or, of any model: token ids, by white space apart\n"
	"  -o, --output FILE the profile; replaced when the new one is complete\n"
	"  --max-bytes N     use the first N bytes of the text\n"
	"  --threads N       of the model's matrices (1)\n"
	"  --json            the summary as one JSON object\n"
	"  --socket PATH     of the daemon (KVD_SOCKET)\n";

struct job {
	const char *model, *text, *ids, *output, *max_bytes, *threads, *socket;
	bool json;
};

static int parse_option(struct job *j, int opt)
{
	switch (opt) {
	case 't':
		j->text = optarg;
		break;
	case 'i':
		j->ids = optarg;
		break;
	case 'o':
		j->output = optarg;
		break;
	case 'm':
		j->max_bytes = optarg;
		break;
	case 'n':
		j->threads = optarg;
		break;
	case 's':
		j->socket = optarg;
		break;
	case 'j':
		j->json = true;
		break;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	default: /* getopt has said what is wrong */
		return -EINVAL;
	}
	return 0;
}

static int refuse(const char *why)
{
	fprintf(stderr, "kvctl: %s (kvctl calibrate --help)\n", why);
	return -EINVAL;
}

/* Return: 0, or -EINVAL after a line on stderr. */
static int parse(struct job *j, int argc, char **argv)
{
	static const struct option options[] = {
		{ "text", required_argument, NULL, 't' },
		{ "ids", required_argument, NULL, 'i' },
		{ "output", required_argument, NULL, 'o' },
		{ "max-bytes", required_argument, NULL, 'm' },
		{ "threads", required_argument, NULL, 'n' },
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "o:", options, NULL)) != -1)
		if (parse_option(j, opt))
			return -EINVAL;
	if (optind + 1 != argc)
		return refuse("calibrate needs one model directory");
	j->model = argv[optind];
	if (!j->text == !j->ids)
		return refuse("calibrate needs either --text or --ids");
	if (!j->output)
		return refuse("calibrate needs a file to write, -o PROFILE");
	return 0;
}

static int find_daemon(const struct job *j)
{
	struct kvd_connect_opts opts = { .size = sizeof(opts),
		                         .program = "kvctl",
		                         .socket = j->socket };
	const char *path = j->socket ? j->socket : kvd_default_socket();
	struct kvd *k;
	int err = kvd_connect(&opts, &k);

	if (!err)
		kvd_close(k);
	else if (err == -ENOTCONN)
		fprintf(stderr,
		        "kvctl: no kvd at %s: calibrating runs the model on a "
		        "pool, so start the daemon (systemctl start "
		        "kvd.socket) or say where one is (KVD_SOCKET)\n",
		        path);
	else
		fprintf(stderr, "kvctl: %s: %s\n", path, strerror(-err));
	return err;
}

/* The worker beside this program. Return: the path, free() it; or NULL. */
static char *worker_beside(void)
{
	char self[4096], *slash, *path = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash ||
	    asprintf(&path, "%.*s/%s", (int)(slash - self), self, WORKER) < 0)
		return NULL;
	if (access(path, X_OK)) {
		free(path);
		return NULL;
	}
	return path;
}

static void add(const char **args, size_t *nr, const char *name,
		const char *value)
{
	if (!value)
		return;
	args[(*nr)++] = name;
	args[(*nr)++] = value;
}

static void become_worker(const struct job *j)
{
	const char *args[20] = { WORKER, "--model", j->model };
	char *path = worker_beside();
	size_t nr = 3;

	add(args, &nr, "--calibrate", j->output);
	add(args, &nr, "--ppl", j->text);
	add(args, &nr, "--prompt-ids", j->ids);
	add(args, &nr, "--max-bytes", j->max_bytes);
	add(args, &nr, "--threads", j->threads);
	add(args, &nr, "--socket", j->socket);
	if (j->json)
		args[nr++] = "--json";
	if (path)
		execv(path, (char *const *)args);
	else
		execvp(WORKER, (char *const *)args);
	fprintf(stderr,
	        "kvctl: cannot run %s: %s: install it beside kvctl or in a "
	        "directory of PATH\n",
	        path ? path : WORKER, strerror(errno));
	free(path);
}

int calibrate_main(int argc, char **argv)
{
	struct job j = { .json = false };

	argv[0] = (char[]){ "kvctl" }; /* whom getopt speaks for */
	if (parse(&j, argc, argv))
		return USAGE;
	if (find_daemon(&j))
		return FAILED;
	become_worker(&j);
	return FAILED;
}
