/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h - one request and its reply over a connection.
 *
 * The library's own requests are in request.h; kvctl makes the admin's with
 * this directly:
 *
 *	Kvd__StatusRequest m = KVD__STATUS_REQUEST__INIT;
 *	struct call c = { .type = WIRE_STATUS, .request = &m.base,
 *			  .want = &kvd__status_reply__descriptor };
 *	r = call(k, &c);
 *	if (!r)
 *		use((Kvd__StatusReply *)c.reply);
 *	call_end(&c);
 *
 * Several may be on their way at once: call_begin() each, then call_finish()
 * each. The daemon answers in the order it was asked; a reply that comes while
 * another is waited for is kept with its call. Whoever begins many must not
 * send more than the socket takes while nobody reads.
 */
#ifndef CLIENT_LIB_CALL_H
#define CLIENT_LIB_CALL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <protobuf-c/protobuf-c.h>
#include "client-lib/conn.h"
#include "proto/wire.h"

struct call {
	unsigned type;		/* enum wire_type */
	const ProtobufCMessage *request;
	const ProtobufCMessageDescriptor *want; /* of the reply */
	uint32_t extra_ms;	/* the daemon may think so long before it
				 * answers: added to the connection's timeout */
	const int *send_fd;	/* goes along with the request; NULL: none */

	ProtobufCMessage *reply;	/* out; of the type wanted */
	int fds[WIRE_MAX_FDS];		/* out; -1 those taken by the caller */
	unsigned nr_fds;		/* out */
	bool lost;			/* out; the connection went before the
					 * reply came */

	/* The call's own, from call_begin() to call_finish(). */
	LIST_ENTRY(call) link;		/* kvd.calls, while awaited */
	uint32_t id;
	bool awaited;
	int err;
};

/**
 * call() - send a request and wait for its reply
 *
 * Events that come meanwhile are noted. A connection that broke, spoke
 * nonsense, or gave no answer in time is closed: whatever it may have granted
 * is then claimed, or not, by the next.
 *
 * Return: 0; the daemon's refusal, a negative errno value; -ENOTCONN;
 * -ETIMEDOUT; -EPROTO; -EMSGSIZE when @c->request does not fit a frame;
 * -ENOMEM, and the connection is closed, when there is none for the reply;
 * -EMFILE when this process has no room for descriptors that came with it: the
 * reply is there. kvd_error() has the text.
 */
int call(struct kvd *k, struct call *c);

/**
 * call_begin() - send a request, leave the reply for later
 *
 * @c stays where it is until call_finish(), which is for calls that have begun
 * alone; its request is no more looked at. Return: as call().
 */
int call_begin(struct kvd *k, struct call *c);

/**
 * call_finish() - wait for the reply to a request that has been sent
 *
 * Return: as call(), -ENOTCONN too where the connection was lost while
 * something else was waited for.
 */
int call_finish(struct kvd *k, struct call *c);

/* The connection is gone, and so are all replies. For conn_lost(). */
void calls_lost(struct kvd *k);

/* Frees the reply, closes what is left of fds. After every call(), and every
 * call_finish(). */
void call_end(struct call *c);

/*
 * Reads the events that have come, without waiting, as far as there is room to
 * keep them until they are delivered. 0 or -ENOTCONN.
 */
int call_events(struct kvd *k);

/**
 * call_event_wait() - serve events until one has set @told, or till @end_ns
 *
 * Return: 0, also when it is not set; -ENOTCONN and the like, as call().
 */
int call_event_wait(struct kvd *k, const bool *told, uint64_t end_ns);

#endif
