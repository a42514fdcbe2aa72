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
 */
#ifndef CLIENT_LIB_CALL_H
#define CLIENT_LIB_CALL_H

#include <stdint.h>
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
 * -ENOMEM. kvd_error() has the text.
 */
int call(struct kvd *k, struct call *c);

/* Frees the reply, closes what is left of fds. After every call(). */
void call_end(struct call *c);

/*
 * Reads the events that have come, without waiting, as far as there is room to
 * keep them until they are delivered. 0 or -ENOTCONN.
 */
int call_events(struct kvd *k);

#endif
