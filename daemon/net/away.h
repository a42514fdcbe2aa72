/* SPDX-License-Identifier: Apache-2.0 */
/*
 * away.h - what a client held whose connection broke, until it comes back.
 *
 * Its process lives and may have lost no more than a socket: the next
 * connection of its series claims what it held, and all that cannot be found
 * by a name would be gone by then. So the holds stay as they are, charged as
 * before, until the next one has claimed or said bye, the process has ended,
 * or the grace time is over.
 */
#ifndef DAEMON_NET_AWAY_H
#define DAEMON_NET_AWAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Broken connections of one process that are waited for at a time. */
#define AWAY_MAX_OF_PROC 4

struct away;
struct client;
struct proc;
struct server;

TAILQ_HEAD(away_list, away);

/* Has the client something to come back to, and may it still? */
bool away_may_begin(const struct client *c);

/**
 * away_begin() - the connection of @c is no more, its process lives
 *
 * Takes over its mem_client and its part of the process. Return: false: there
 * is nothing to come back to, or nobody who could: @c is to be released.
 */
bool away_begin(struct client *c);

/* @p writes to nothing more that it left in @series; 0: it has exited. */
void away_end(struct server *s, const struct proc *p, uint32_t series);

/* About once a second: those whose time is over, a few at a time. */
void away_tick(struct server *s);

/* At the end of the server: what they hold stays theirs. */
void away_fini(struct server *s);

#endif
