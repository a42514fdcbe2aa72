/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiers.h - the tiers behind the pool: begun, told of, ended.
 */
#ifndef DAEMON_NET_TIERS_H
#define DAEMON_NET_TIERS_H

#include <stdint.h>

struct server;
struct server_config;

/* As the configuration says. Return: 0 or a negative errno. */
int net_tiers_init(struct server *s);

/* What those that @cfg asks for may have. */
uint64_t net_tiers_bytes(const struct server_config *cfg);

/* Before mem_free(). */
void net_tiers_fini(struct server *s);

/* About once a second. */
void net_tiers_tick(struct server *s);

#endif
