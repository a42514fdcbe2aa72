/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - tenants' limits: from files, changed live, and kept.
 *
 * What is in force and what the next start will find are two things: a change
 * at run time may be for now only. Both have to be right, or a restart would
 * not come up. A change that is to be kept goes into a file of its own for
 * each tenant, a drop-in of kvd.conf that holds just the keys that were ever
 * changed so: beside the configuration file where kvd may write there, else
 * in the state directory. It is written and synced off the loop's thread,
 * beside its place, and renamed.
 */
#ifndef DAEMON_NET_LIMITS_H
#define DAEMON_NET_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include "daemon/net/tenant.h"

struct server;

#define LIMITS_DIR "kvd.conf.d"	/* within the state directory */
#define LIMITS_MAX_BYTES (1ULL << 50) /* as kvd.conf can say */
#define LIMITS_SIZE_TEXT 24	/* of limits_size_text() */
#define LIMITS_FILE_BYTES 64	/* of limits_file_name() */
#define LIMITS_PATH_BYTES 400
#define LIMITS_WHY_BYTES 256	/* of a reply's text */

/* "min", "high", "max". */
extern const char *const limits_names[NR_LIMITS];

/* @bytes as kvd.conf takes it: "4G", "1000"; 0 is "0". */
const char *limits_size_text(uint64_t bytes, char buf[LIMITS_SIZE_TEXT]);

/* Name of the file that kvd writes for tenant @name. */
void limits_file_name(const char *name, char buf[LIMITS_FILE_BYTES]);

/**
 * limits_check() - is min <= high <= max, and are promises kept?
 * @l:		of one tenant
 * @others:	what is promised to all others
 * @pool:	bytes there are
 *
 * Return: 0, or -EINVAL with a sentence in @why that begins with @name.
 */
int limits_check(const char *name, const struct tenant_limits *l,
		 uint64_t others, uint64_t pool, char *why, size_t why_bytes);

/* ---- live ---- */

struct limits_change {
	TAILQ_ENTRY(limits_change) link;
	struct tenant *tenant;
	unsigned keys;		/* bits of those in @to that are meant */
	struct tenant_limits to;
	/* Told when it is kept, or not, with the rest of the fields. */
	void (*done)(struct server *s, struct limits_change *ch);
	uint32_t client;	/* for @done */
	uint32_t frame_id;
	int err;		/* 0: kept in @path */
	char path[LIMITS_PATH_BYTES]; /* the file, or where it went wrong */
};

TAILQ_HEAD(limits_queue, limits_change);

/* Tells mem what all tenants have that there are. 0 or a negative errno. */
int limits_init(struct server *s);

/* Tells mem what @t has, if it does not know yet. */
int limits_tell(struct server *s, struct tenant *t);

/* Tells mem that @t has @l, which was checked. 0 or a negative errno. */
int limits_put(struct server *s, struct tenant *t,
	       const struct tenant_limits *l);

/**
 * limits_set() - change a tenant's limits, now
 * @runtime:	not after a restart
 *
 * Return: 0; -EINVAL they would contradict each other, or the pool, now or
 * (unless @runtime) after a restart; @why says how; -EBUSY too many changes
 * are being written; -ENOMEM. Nothing has changed then.
 */
int limits_set(struct server *s, struct tenant *t, unsigned keys,
	       const struct tenant_limits *to, bool runtime, char *why,
	       size_t why_bytes);

/* Keeps what limits_set() has set: @ch is copied. done() is called once, from
 * within only when memory is short. Return: 0 or -ENOMEM. */
int limits_keep(struct server *s, const struct limits_change *ch);

/* mem_trim(), a step each turn of the loop until there is nothing to do. */
void limits_trim(struct server *s);

#endif
