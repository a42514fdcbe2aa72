/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiers.h - the tiers behind the pool: begun, told of, ended.
 */
#ifndef DAEMON_NET_TIERS_H
#define DAEMON_NET_TIERS_H

struct server;

/* As the configuration says. Return: 0 or a negative errno. */
int net_tiers_init(struct server *s);

/* Before mem_free(). */
void net_tiers_fini(struct server *s);

/* About once a second. */
void net_tiers_tick(struct server *s);

#endif
