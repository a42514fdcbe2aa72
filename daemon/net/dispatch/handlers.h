/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handlers.h - one handler per request; see kvd.proto for what each does.
 */
#ifndef DAEMON_NET_DISPATCH_HANDLERS_H
#define DAEMON_NET_DISPATCH_HANDLERS_H

#include "daemon/net/dispatch/dispatch.h"

struct Kvd__StatReply;
struct alloc_args;
struct arena;
struct mem_counts;
struct mem_space;

/* session.c */
int do_hello(struct client *c, const struct request *req, struct reply *r);
int do_bye(struct client *c, const struct request *req, struct reply *r);
int do_ping(struct client *c, const struct request *req, struct reply *r);

/* spaces.c */
int do_open_space(struct client *c, const struct request *req,
		  struct reply *r);
int do_close_space(struct client *c, const struct request *req,
		   struct reply *r);
int do_map(struct client *c, const struct request *req, struct reply *r);

/* pages.c */
int do_alloc(struct client *c, const struct request *req, struct reply *r);
int do_release(struct client *c, const struct request *req, struct reply *r);
int do_match(struct client *c, const struct request *req, struct reply *r);
int do_reference(struct client *c, const struct request *req,
		 struct reply *r);
int do_claim(struct client *c, const struct request *req, struct reply *r);

/* publish.c */
int do_publish(struct client *c, const struct request *req, struct reply *r);

/* stats.c */
int do_status(struct client *c, const struct request *req, struct reply *r);
int do_stat(struct client *c, const struct request *req, struct reply *r);
int do_clients(struct client *c, const struct request *req, struct reply *r);
int do_spaces(struct client *c, const struct request *req, struct reply *r);

/* tenants.c */
int do_tenants(struct client *c, const struct request *req, struct reply *r);
int do_tenant_set(struct client *c, const struct request *req,
		  struct reply *r);

/* demand.c */
int do_reclaim(struct client *c, const struct request *req, struct reply *r);
int do_drop(struct client *c, const struct request *req, struct reply *r);
int do_index(struct client *c, const struct request *req, struct reply *r);

/* subscribe.c */
int do_subscribe(struct client *c, const struct request *req,
		 struct reply *r);

/* flight.c */
int do_flight(struct client *c, const struct request *req, struct reply *r);

/* pin.c */
int do_pin(struct client *c, const struct request *req, struct reply *r);
int do_unpin(struct client *c, const struct request *req, struct reply *r);
int do_pins(struct client *c, const struct request *req, struct reply *r);

/* quarantine.c */
int do_quarantine(struct client *c, const struct request *req,
		  struct reply *r);
int do_quarantine_release(struct client *c, const struct request *req,
			  struct reply *r);

/* elastic.c */
int do_pool(struct client *c, const struct request *req, struct reply *r);
int do_unmapped(struct client *c, const struct request *req, struct reply *r);

/* Space @id, if there is one and @c may see it; else NULL with @r saying that
 * there is none. (demand.c) */
struct mem_space *find_space(const struct client *c, uint32_t id,
			     struct reply *r);

/* Where there are tiers what they say, into @to. Return: 0, -ENOMEM. (tiers.c) */
int put_tiers(const struct client *c, struct Kvd__StatReply *to,
	      struct arena *arena);

/* May @c see what is @tenant's? (stats.c) */
bool may_see(const struct client *c, const char *tenant);

/* In the arena, or NULL. (stats.c) */
struct Kvd__Counts *put_counts(const struct mem_counts *n,
			       struct arena *arena);

/**
 * alloc_try() - one attempt at an allocation, new or waiting
 * Return: 0 with the reply filled, -EAGAIN when room is being made, or
 * another negative errno that is final.
 */
int alloc_try(struct client *c, const struct alloc_args *args,
	      struct reply *r);

/**
 * alloc_slow() - hold an allocation's answer back, of a tenant above its high
 * @most_ms:	no longer than that
 * Return: 0 it may be sent; REPLY_LATER it will be.
 */
int alloc_slow(struct client *c, const struct alloc_args *args,
	       uint64_t most_ms, const struct reply *r);

#endif
