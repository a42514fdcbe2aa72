/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user.h - what all connections of one uid may have together.
 *
 * A tenant's limits are about its pages; these are about what a process can
 * ask of kvd besides: connections, allocations that wait, subscriptions, and
 * descriptors on their way. The kernel counts the last against kvd, not
 * against who leaves them unread: without a limit one user could have none
 * left for the others. So a connection is charged what it is sent until it has
 * read everything, and one that we drop is kept for so long.
 *
 * A user is remembered until kvd ends, as its tenant is.
 */
#ifndef DAEMON_NET_USER_H
#define DAEMON_NET_USER_H

#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

struct client;
struct server;
struct unread;

struct user {
	LIST_ENTRY(user) link;
	uid_t uid;
	unsigned nr_clients;	/* connections */
	unsigned nr_procs;	/* that have, or had one, and live */
	unsigned nr_waiting;	/* allocations */
	unsigned nr_throttled;	/* whose answers are held back */
	unsigned nr_subscriptions; /* to blocks */
	unsigned nr_announced;	/* blocks, those still in the map too */
	unsigned nr_flight_waits; /* for such */
	unsigned nr_fds;	/* that it may not have read yet */
	uint64_t counted_ms;	/* uv_now() when those were last counted */
};

struct users {
	LIST_HEAD(, user) list;
	LIST_HEAD(, unread) unread; /* dropped, with descriptors in them */
};

/* The user @uid, made at the first visit; or NULL: out of memory. */
struct user *user_get(struct server *s, uid_t uid);

/**
 * user_take_fds() - charge @c for @nr descriptors that it is to be sent
 * Return: 0; -EBUSY its user has too many that it has not read.
 */
int user_take_fds(struct client *c, unsigned nr);

/* @c is going, its socket still open: what it has not read stays charged. */
void user_leave_fds(struct client *c);

/* About once a second: those who were dropped may have read, or have gone. */
void users_tick(struct server *s);

void users_fini(struct server *s);

#endif
