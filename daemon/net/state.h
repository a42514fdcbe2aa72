/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - what the files of this room share: the server and its clients.
 */
#ifndef DAEMON_NET_STATE_H
#define DAEMON_NET_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>
#include "daemon/mem/mem.h"
#include "daemon/net/elastic.h"
#include "daemon/net/arena.h"
#include "daemon/net/away.h"
#include "daemon/net/conn.h"
#include "daemon/net/events.h"
#include "daemon/net/flight.h"
#include "daemon/net/limits.h"
#include "daemon/net/listen.h"
#include "daemon/net/log.h"
#include "daemon/net/peer.h"
#include "daemon/net/pressure.h"
#include "daemon/net/proc.h"
#include "daemon/net/reload.h"
#include "daemon/net/server.h"
#include "daemon/net/tenant.h"
#include "daemon/net/turn.h"
#include "daemon/net/user.h"
#include "daemon/net/wait.h"

struct dev;
struct mem;
struct mem_client;
struct tiers;

enum client_state {
	CLIENT_NEW,		/* has not said hello */
	CLIENT_READY,
	CLIENT_BYE		/* has given everything back */
};

#define CLIENT_PROGRAM_BYTES 65	/* with its NUL */

/* A space that a client has open. */
struct client_space {
	LIST_ENTRY(client_space) link;
	uint32_t id;
	uint32_t nr_opens;
	uint32_t page_tokens;
	uint32_t nr_classes;
	bool read_only;		/* every time */
};

struct client {
	struct conn conn;
	TAILQ_ENTRY(client) link;
	struct server *server;
	uint32_t id;
	uint32_t series;	/* of its connections; 0: it does not come back */
	enum client_state state;
	int refused;		/* negative errno that answers its hello */
	struct peer peer;
	struct user *user;
	unsigned nr_fds;	/* sent, and perhaps not read */
	bool admin;
	struct proc *proc;	/* NULL: cannot be told, so it has no pages */
	struct tenant *tenant;
	struct mem_client *mem;	/* READY only */
	LIST_HEAD(, client_space) spaces;
	LIST_HEAD(, waiter) waiters;	/* its allocations that wait */
	unsigned nr_waiting;
	LIST_HEAD(, throttled) throttled; /* answers held back */
	unsigned nr_throttled;
	struct listener_state events;	/* that it has subscribed to */
	struct flight_list flights;	/* that it has announced */
	unsigned nr_flights;
	unsigned nr_announced;		/* their blocks */
	LIST_HEAD(, flight_wait) flight_waits;
	unsigned nr_flight_waits;
	uint64_t fetch_ms;		/* until then this is not fetched for it: */
	struct name fetch_not;		/* it did not come */
	uint64_t since_ms;	/* uv_now() when it connected */
	uint64_t nr_requests;
	char program[CLIENT_PROGRAM_BYTES];
};

TAILQ_HEAD(client_list, client);

struct server {
	uv_loop_t loop;
	uv_async_t wake;	/* from the device's thread */
	uv_idle_t room;		/* runs while waiters may be served */
	uv_idle_t trim;		/* while tenants are above their limits */
	struct turns turns;
	uv_timer_t tick;
	uv_timer_t grace;
	uv_signal_t signals[3];
	struct listener listener;
	struct dev *dev;
	struct mem *mem;
	struct tiers *tiers;	/* behind it, or NULL */
	uv_async_t tier_wake;	/* from their threads */
	struct procs procs;
	struct tenants tenants;
	struct users users;
	struct waiters waiters;
	struct pressure pressure;	/* of all tenants */
	struct events events;
	struct flights flights;
	struct limits_queue limits_queue; /* being written, in order */
	unsigned limits_nr_queued;
	uint64_t limits_nr_kept;	/* were written */
	struct reload reload;
	struct client_list clients;	/* READY and BYE, by id */
	struct client_list greeting;	/* NEW, oldest first */
	struct away_list away;		/* longest first */
	unsigned nr_clients;		/* in both */
	unsigned nr_refused;		/* among greeting */
	uint32_t last_id;
	struct server_config cfg;	/* its tenants have moved */
	const struct server_ops *ops;
	void *ctx;
	uint64_t instance;
	uint64_t start_ms;
	uint64_t grace_end_ms;
	struct elastic elastic;
	uint64_t nr_requests;
	uint64_t trimmed_ms;		/* when the heap was, last */
	bool stuck;			/* the device has made no progress */
	bool lost;			/* and will make none; the end */
	uint64_t logged_ms;
	uint64_t lost_logged_ms;
	char device_note[256];
	char status[128];
	struct arena arena;
	struct conn_io io;
	uint8_t tx[WIRE_MAX_FRAME];
};

/* ---- client.c ---- */

/* A connection to the server @ctx has come in: owns @fd. */
void client_on_accept(void *ctx, int fd);

/* For lines of the log about @c. */
struct log_about client_about(const struct client *c);

/* Gives back what @c holds; its requests are refused from here on. */
void client_release(struct client *c, enum mem_end end);

/* Who is in the admin group, which is another one now. */
void clients_check_admin(struct server *s);

/* Drops those that have connected and said nothing. */
void clients_expire(struct server *s);

/* A request of @c begins to wait for pages, or its answer to be late. */
void client_stall_begin(struct client *c);

/* One that did so has been answered, or given up. */
void client_stall_end(struct client *c);

/* The time that pressure is told. */
uint64_t stall_now_us(void);

/* At the end of the server: lets go of all, gives nothing back. */
void clients_abandon(struct server *s);

/* A space that @c has open, or NULL. */
struct client_space *client_space_find(const struct client *c, uint32_t id);

#endif
