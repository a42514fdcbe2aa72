// SPDX-License-Identifier: Apache-2.0
/*
 * session.c - a connection to a running daemon, or to a private one.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client-lib/conn.h"
#include "tools/kvbench/session.h"

#define START_MS 10000

/* The kvd beside this program. */
static int daemon_path(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - sizeof("kvd"));
	char *slash;

	if (n < 0)
		return -errno;
	path[n] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash + 1, "kvd");
	return access(path, X_OK) ? -errno : 0;
}

static int start_daemon(struct session *s, const char *socket)
{
	char path[PATH_MAX];
	const char *const argv[] = { "kvd",
				     "--config",
				     "/dev/null",
				     "--socket",
				     socket,
				     "--device",
				     "host",
				     "--state-dir",
				     s->daemon.dir,
				     NULL };
	int err = daemon_path(path, sizeof(path));

	return err ? err : child_start(&s->daemon, path, argv);
}

static int connect_to(struct session *s, const char *bench, const char *socket)
{
	char program[32];
	const struct kvd_connect_opts opts = { .size = sizeof(opts),
		                               .socket = socket,
		                               .program = program };

	snprintf(program, sizeof(program), "kvbench %s", bench);
	return kvd_connect(&opts, &s->kvd);
}

static int connect_private(struct session *s, const char *bench)
{
	char socket[CHILD_PATH + 16];
	int ms, err = child_init(&s->daemon);

	if (err)
		return err;
	snprintf(socket, sizeof(socket), "%s/kvd.sock", s->daemon.dir);
	err = start_daemon(s, socket);
	if (err)
		return err;
	for (ms = 0; ms < START_MS; ms++) {
		err = connect_to(s, bench, socket);
		if (err != -ENOTCONN || !child_alive(&s->daemon))
			break;
		usleep(1000);
	}
	return err;
}

static int open_space(struct session *s)
{
	struct kvd_space_opts o = { .size = sizeof(o), .nr_threads = 1 };

	memcpy(o.model, "kvbench", sizeof("kvbench"));
	o.geometry.size = sizeof(o.geometry);
	o.geometry.page_tokens = SESSION_PAGE_TOKENS;
	o.geometry.nr_groups = 1;
	o.geometry.groups[0] = (struct kvd_group){ .nr_layers = 1,
		                                   .nr_kv_heads = 1,
		                                   .k_dim = SESSION_DIM,
		                                   .v_dim = SESSION_DIM };
	return kvd_space_open(s->kvd, &o, &s->space);
}

int session_open(struct session *s, const char *bench, const char *socket)
{
	bool private = !socket && !getenv("KVD_SOCKET");
	int err;

	err = private ? connect_private(s, bench)
	              : connect_to(s, bench, socket);
	if (err) {
		fprintf(stderr, "kvbench %s: no kvd at %s: %s\n", bench,
		        private  ? "a socket of its own"
		        : socket ? socket
		                 : kvd_default_socket(),
		        strerror(-err));
		return err;
	}
	err = open_space(s);
	if (err)
		fprintf(stderr, "kvbench %s: %s\n", bench, kvd_error(s->kvd));
	return err;
}

void session_close(struct session *s)
{
	kvd_close(s->kvd);
	s->kvd = NULL;
	child_fini(&s->daemon);
}

uint32_t session_requests(const struct session *s)
{
	return s->kvd->next_id;
}
