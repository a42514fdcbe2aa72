/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the daemon's loop, as main sees it.
 *
 * Everything runs on the thread that calls server_run(), but for the device's
 * own thread, whose results come back as an event of the loop.
 */
#ifndef DAEMON_NET_SERVER_H
#define DAEMON_NET_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "daemon/net/tenant.h"

struct server;

/* Part of the pool: bytes, or millionths of it. */
struct server_part {
	uint64_t bytes;
	uint32_t ppm;
	bool set;		/* by whoever configures it, not by default */
};

#define SERVER_DEVICE_BYTES 32

/* What it comes to, of @pool bytes. */
static inline uint64_t server_part_bytes(const struct server_part *p,
					 uint64_t pool)
{
	return p->bytes + pool / 1000000 * p->ppm +
	       pool % 1000000 * p->ppm / 1000000;
}

struct server_config {
	char device[SERVER_DEVICE_BYTES]; /* dev_new()'s spec */
	uint64_t pool_bytes;	/* at first: kvctl pool resize */
	uint64_t pool_max;	/* 0: pool_bytes */
	uint64_t shrink_ms;	/* nothing allocated for so long: pool_bytes
				 * again; 0: it does not grow by itself */
	uint64_t segment_bytes;	/* 0: chosen */
	char socket[256];
	uint32_t socket_mode;
	gid_t socket_gid;	/* (gid_t)-1: left as it is */
	gid_t admin_gid;	/* (gid_t)-1: none */
	char state_dir[256];
	uint64_t grace_ms;	/* for claims after a restart */
	uint64_t hello_ms;	/* for a connection's first message */
	uint64_t max_wait_ms;	/* cap on the deadline of an allocation */
	uint32_t max_clients;
	uint32_t max_clients_per_user;
	uint32_t max_waiting;	/* allocations of one client that wait */
	uint32_t max_waiting_per_user;
	uint32_t max_subscriptions_per_user; /* to spaces' blocks */
	uint32_t max_announced_per_user; /* blocks that are to be computed */
	uint64_t announce_ms;	/* without one published they are not awaited */
	uint32_t max_spaces_per_tenant;
	uint32_t max_fds_per_user; /* sent to it, and unread */
	uint64_t tier_memory;	/* bytes; 0: none */
	char tier_file[256];	/* empty: none */
	uint64_t tier_file_bytes; /* 0: four times the pool */
	char policy[16];	/* what is given up first; "": the default */
	uint32_t pin_percent;	/* of its max that a tenant may pin */
	uint64_t pin_ttl_ms;	/* for which it may, at most */
	struct server_part watermark_low;
	struct server_part watermark_high;
	uint64_t low_bytes;	/* what the two come to */
	uint64_t high_bytes;
	uint64_t tenant_max;	/* of tenants nobody configured; 0: no limit */
	char dropin_dir[300];	/* beside the configuration file; empty: none */
	struct tenant_list tenants;
};

/* A descriptor that a predecessor left with the service manager. */
struct server_fd {
	const char *name;
	int fd;			/* -1 once it is taken */
};

/* What the server tells, and asks of, whoever runs it. Loop's thread. */
struct server_ops {
	void (*ready)(void *ctx);
	/* One line on what goes on; only when it has changed. */
	void (*status)(void *ctx, const char *line);
	/* The loop turns and the device makes progress; every tick. */
	void (*alive)(void *ctx);
	void (*stopping)(void *ctx);
	/* The configuration is being read anew; ready() follows. */
	void (*reloading)(void *ctx);
	/* Keep a duplicate of @fd for a successor; may be NULL. */
	void (*keep_fd)(void *ctx, const char *name, int fd);
	void (*drop_fd)(void *ctx, const char *name);
	uint64_t tick_ms;	/* how often alive() is wanted */
};

/* How the configuration is read anew, when SIGHUP has come. */
struct server_reload {
	/*
	 * A thread of its own, but one at a time: all of it, as the next
	 * start would have it but for what cannot change. Return: 0, or a
	 * negative errno with a sentence in @why.
	 */
	int (*read)(void *ctx, struct server_config **ret, char *why,
		    size_t why_bytes);
	/* Loop's thread, after each read(): what that has returned is in
	 * force (@r is 0), or nothing has changed. Not used any more. */
	void (*done)(void *ctx, int r);
};

/**
 * server_new() - open device, pool and socket
 * @cfg:	read during the call only; its tenants are taken over
 * @ops:	kept, must outlive the server
 * @ctx:	for @ops
 * @listen_fd:	socket made by the service manager, or -1: cfg->socket
 * @fds:	kept by the service manager for us
 * @nr_fds:	how many
 * @why:	a sentence, on failure
 *
 * Return: 0 or a negative errno.
 */
int server_new(struct server_config *cfg, const struct server_ops *ops,
	       void *ctx, int listen_fd, struct server_fd *fds, size_t nr_fds,
	       char *why, size_t why_bytes, struct server **ret);

/* Before it runs. Both are kept. */
void server_on_reload(struct server *s, const struct server_reload *how,
		      void *ctx);

/* Serves until SIGTERM or SIGINT: 0. -ENODEV: until the device was lost. */
int server_run(struct server *s);

/* NULL is fine. Pages stay in descriptors that were kept. */
void server_free(struct server *s);

#endif
