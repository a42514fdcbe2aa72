/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant.h - whose pages: users and groups to tenants, and their name keys.
 *
 * The daemon chooses the tenant from the socket's credentials: the first
 * configured one that lists the user, else the first that lists one of its
 * groups, else one of its own named uid-N. Each tenant has 32 random bytes
 * that key the names of its prefixes, in STATE_DIR/NAME.key: without them
 * cached pages cannot be found again, so they outlive the daemon.
 */
#ifndef DAEMON_NET_TENANT_H
#define DAEMON_NET_TENANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include "proto/name.h"

struct peer;

#define TENANT_NAME_BYTES 32	/* with its NUL */
#define TENANT_MAX_IDS 64	/* users, and groups, of one tenant */

struct tenant {
	char name[TENANT_NAME_BYTES];
	uint64_t max_bytes;	/* 0: no limit but the pool's */
	uint8_t key[NAME_KEY_BYTES];
	uid_t uids[TENANT_MAX_IDS];
	unsigned nr_uids;
	gid_t gids[TENANT_MAX_IDS];
	unsigned nr_gids;
	bool configured;
	char key_file[256];	/* empty: STATE_DIR/NAME.key */
	unsigned pass;		/* of the waiters' queue, see wait.c */
	unsigned nr_waiting;	/* in it */
	TAILQ_ENTRY(tenant) link;
};

TAILQ_HEAD(tenant_list, tenant);

struct tenants {
	struct tenant_list list;
	char state_dir[256];
	uint64_t default_max;	/* of tenants that nobody configured */
	/* fsync()s and closes @fd, off the loop's thread; NULL: right here */
	void (*sync)(void *ctx, int fd);
	void *ctx;
};

/**
 * tenants_init() - @list is taken over, in order of precedence
 *
 * Makes the state directory, and reads or makes the keys of configured
 * tenants. Blocks; before the loop runs.
 *
 * Return: 0, or a negative errno with a sentence in @why.
 */
int tenants_init(struct tenants *ts, struct tenant_list *list,
		 const char *state_dir, uint64_t default_max, char *why,
		 size_t why_bytes);
void tenants_fini(struct tenants *ts);

/**
 * tenants_find() - the tenant of @p, made at its first visit
 * Return: 0, -ENOMEM, or what reading or writing its key gave.
 */
int tenants_find(struct tenants *ts, const struct peer *p,
		 struct tenant **ret);

/* Is @name fit to be a tenant's (and a file's)? */
int tenant_name_check(const char *name);

#endif
