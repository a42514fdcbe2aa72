/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handlers.h - one handler per request; see kvd.proto for what each does.
 */
#ifndef DAEMON_NET_DISPATCH_HANDLERS_H
#define DAEMON_NET_DISPATCH_HANDLERS_H

#include "daemon/net/dispatch/dispatch.h"

struct alloc_args;

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

/**
 * alloc_try() - one attempt at an allocation, new or waiting
 * Return: 0 with the reply filled, -EAGAIN when room is being made, or
 * another negative errno that is final.
 */
int alloc_try(struct client *c, const struct alloc_args *args,
	      struct reply *r);

#endif
