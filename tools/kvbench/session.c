// SPDX-License-Identifier: Apache-2.0
/*
 * session.c - a connection to a running daemon, or to a private one.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/conn.h"
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/session.h"

static int connect_to(struct session *s, const char *bench, const char *socket)
{
	char program[32];
	const struct kvd_connect_opts opts = { .size = sizeof(opts),
		                               .socket = socket,
		                               .program = program };

	snprintf(program, sizeof(program), "kvbench %s", bench);
	return socket || getenv("KVD_SOCKET")
	               ? kvd_connect(&opts, &s->kvd)
	               : daemon_connect(&s->daemon, program, &s->kvd);
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

	err = private ? daemon_start(&s->daemon, NULL) : 0;
	if (!err)
		err = connect_to(s, bench, socket);
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

int session_again(const struct session *s, const char *bench,
                  const char *socket, struct session *ret)
{
	int err;

	*ret = (struct session)SESSION_NULL;
	ret->daemon = s->daemon; /* for its socket */
	err = connect_to(ret, bench, socket);
	ret->daemon = (struct child)CHILD_NULL;
	return err ? err : open_space(ret);
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
