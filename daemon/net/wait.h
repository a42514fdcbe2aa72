/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait.h - allocations that wait for room.
 *
 * A queue for each tenant: first come first served within it, and a request
 * is not tried while an older one of its tenant waits. Tenants take turns, and
 * none stands before another: neither one at its limit, nor one with many
 * requests. Each has a deadline, at which it gets the last refusal.
 */
#ifndef DAEMON_NET_WAIT_H
#define DAEMON_NET_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>
#include "daemon/net/tenant.h"

struct client;
struct server;
struct waiter;

/* An allocation as asked for. */
struct alloc_args {
	uint32_t frame_id;
	uint32_t space;
	uint32_t page_class;
	uint32_t count;
};

struct waiters {
	TAILQ_HEAD(, tenant) tenants; /* those with some, in turn */
	TAILQ_HEAD(, tenant) stuck; /* of those: tried in this pass, in vain */
};

void waiters_init(struct server *s);

/* Is there an older request of the client's tenant? */
bool waiters_ahead(const struct client *c);

/* Is it worth waiting after mem_alloc() has returned @err? */
bool waiter_may_wait(int err);

/**
 * waiter_add() - answer @args when there is room, or at @deadline_ms
 * @deadline_ms:	of uv_now()
 * @err:		why it was refused
 * @need_bytes:		what was missing
 *
 * Return: 0, -ENOMEM, -EBUSY too many of the client or its user wait.
 */
int waiter_add(struct client *c, const struct alloc_args *args,
	       uint64_t deadline_ms, int err, uint64_t need_bytes);

/* Forgets the requests of a client that is going. */
void waiters_cancel(struct client *c);

/* Tries them again, in order, at the loop's next turn. */
void waiters_retry(struct server *s);

#endif
