/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - a connection to a running daemon, or to a private one.
 *
 * Without --socket and KVD_SOCKET a benchmark starts the kvd that lies beside
 * kvbench, on the host device, and stops it afterwards. The space is a small
 * one: these benchmarks time who owns a page, not what is in it.
 */
#ifndef TOOLS_KVBENCH_SESSION_H
#define TOOLS_KVBENCH_SESSION_H

#include <kvd/kvd.h>
#include "tools/kvbench/child.h"

#define SESSION_PAGE_TOKENS 64
#define SESSION_DIM         64

struct session {
	struct kvd *kvd;
	struct kvd_space *space; /* one layer, one kv head, f16 */
	struct child daemon;
};

#define SESSION_NULL                                                           \
	{                                                                      \
		.daemon = CHILD_NULL                                           \
	}

/**
 * session_open() - connect, and open the space
 * @bench:	for messages, and the program name that kvctl shows
 * @socket:	NULL: KVD_SOCKET, or a private daemon when that is not set
 *
 * Return: 0, or -errno with the reason on stderr; session_close() it in both
 * cases.
 */
int session_open(struct session *s, const char *bench, const char *socket);

/* Another connection to the same daemon. Return: as session_open(). */
int session_again(const struct session *s, const char *bench,
                  const char *socket, struct session *ret);
void session_close(struct session *s);

/* Frames sent on s->kvd so far: a difference of two is round trips made. */
uint32_t session_requests(const struct session *s);

#endif
