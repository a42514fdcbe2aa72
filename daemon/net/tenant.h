/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant.h - whose pages: users and groups to tenants, and their name keys.
 *
 * The daemon chooses the tenant from the socket's credentials: the first
 * configured one that lists the user, else the first that lists one of its
 * groups, else one of its own named uid-N, which a file may give limits but
 * not others' users. Each tenant has 32 random bytes
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
#include "daemon/net/level.h"
#include "daemon/net/pressure.h"
#include "proto/name.h"

struct peer;
struct waiter;

#define TENANT_NAME_BYTES 32	/* with its NUL */
#define TENANT_MAX_IDS 64	/* users, and groups, of one tenant */

/* Keys of a tenant's section, and bits of a set of them. */
enum tenant_limit {
	LIMIT_MIN,
	LIMIT_HIGH,
	LIMIT_MAX,
	NR_LIMITS
};

/* In bytes; see mem.h for what they mean. 0: none. */
struct tenant_limits {
	uint64_t of[NR_LIMITS];
};

/* Single flight (flight.h), since start; the last two: now. */
struct flight_counts {
	uint64_t announced;	/* blocks */
	uint64_t waited;	/* matches */
	uint64_t saved;		/* tokens published while somebody waited for
				 * them: each one's */
	uint64_t late;		/* waits */
	uint64_t stalled;	/* flights, as is the next */
	uint64_t given_up;
	uint32_t nr_flights;
	uint32_t nr_waits;
};

struct tenant {
	char name[TENANT_NAME_BYTES];
	struct tenant_limits limits; /* in force */
	struct tenant_limits stored; /* at the next start */
	struct tenant_limits next; /* while a reload is checked */
	unsigned set;		/* bits of those that some file has */
	unsigned kept;		/* of those in the file that kvd writes */
	bool known;		/* mem has its limits */
	uint8_t key[NAME_KEY_BYTES];
	uid_t uids[TENANT_MAX_IDS];
	unsigned nr_uids;
	gid_t gids[TENANT_MAX_IDS];
	unsigned nr_gids;
	bool configured;
	char key_file[256];	/* empty: STATE_DIR/NAME.key */
	TAILQ_HEAD(, waiter) waiters; /* see wait.c; unset when there are none */
	unsigned nr_waiting;	/* in it */
	bool stuck;		/* in waiters.stuck, not .tenants */
	TAILQ_ENTRY(tenant) waiting; /* waiters.tenants, when some wait */
	uint64_t nr_throttled;	/* answers held back, see throttle.h */
	uint64_t throttled_ms;	/* for how long, together */
	struct pressure pressure; /* of both: requests and answers */
	struct level level;	/* made of it, see events.c */
	struct flight_counts flights;
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

/* The key of @t, which is configured. As tenants_init(). */
int tenants_load_key(const struct tenants *ts, struct tenant *t, char *why,
		     size_t why_bytes);

/**
 * tenants_find() - the tenant of @p, made at its first visit
 * Return: 0, -ENOMEM, or what reading or writing its key gave.
 */
int tenants_find(struct tenants *ts, const struct peer *p,
		 struct tenant **ret);

/* The tenant @name, or NULL. */
struct tenant *tenants_by_name(struct tenants *ts, const char *name);

/**
 * tenants_by_user_name() - the tenant @name, made when it is a user's own
 * Return: 0; -ENOENT no such, and not uid-N; else as tenants_find().
 */
int tenants_by_user_name(struct tenants *ts, const char *name,
			 struct tenant **ret);

/* Is @name a user's own, uid-N? */
bool tenant_name_is_user(const char *name, uid_t *ret);

/* Is @name fit to be a tenant's (and a file's)? */
int tenant_name_check(const char *name);

#endif
