/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch.h - from a frame to its handler and back to a reply.
 *
 * Requests are rows of one table. A handler gets the unpacked message and
 * fills a struct reply from the arena; it does no I/O.
 */
#ifndef DAEMON_NET_DISPATCH_DISPATCH_H
#define DAEMON_NET_DISPATCH_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <protobuf-c/protobuf-c.h>
#include "daemon/net/conn.h"
#include "proto/wire.h"

struct arena;
struct block_batch;
struct client;
struct server;

/* What a handler returns when the answer comes later. */
#define REPLY_LATER 1

#define REPLY_WHY_BYTES 256

struct request {
	const ProtobufCMessage *msg;
	uint32_t id;
	int *fds;		/* set those taken to -1 */
	unsigned nr_fds;
};

struct reply {
	struct arena *arena;
	ProtobufCMessage *msg;	/* NULL: a message without fields */
	int fds[WIRE_MAX_FDS];	/* the reply's own */
	unsigned nr_fds;
	uint64_t need_bytes;	/* with -ENOSPC */
	char why[REPLY_WHY_BYTES]; /* empty: the errno's own text */
	bool drop;		/* end the connection after this reply */
};

struct request_row {
	const ProtobufCMessageDescriptor *descriptor;
	/* Return: 0, REPLY_LATER, or a negative errno. */
	int (*handle)(struct client *c, const struct request *req,
		      struct reply *reply);
	bool before_hello;
	bool after_bye;
};

/* The row of a type that wire_get() has passed. */
const struct request_row *request_row(unsigned type);

/**
 * request_unpack() - header and payload of a received message
 * @a:		reset and filled
 * @f:		as received
 * @ret_header:	filled unless -EPROTO
 * @ret:	in @a
 *
 * Touches nothing but @a: this is what the fuzzer feeds.
 *
 * Return: 0, what wire_get() says, or -EBADMSG for a payload that is not
 * the type's message or is larger than any valid one.
 */
int request_unpack(struct arena *a, const struct conn_frame *f,
		   struct wire_header *ret_header, ProtobufCMessage **ret);

/* Handles one frame of @c. */
void dispatch_frame(struct client *c, const struct conn_frame *f);

/* Asks @c for its free stock. May be called while a request is handled. */
void dispatch_recall(struct client *c);

/* Asks @c to unmap a segment. The same. */
void dispatch_revoked(struct client *c, uint32_t segment);

/* Tells @c that the wait that frame @id began is over; @late: in time alone. */
void dispatch_flight(struct client *c, uint32_t id, bool late);

/**
 * dispatch_pack_blocks() - a frame of events of blocks
 * @tx:		room for WIRE_MAX_FRAME
 * @ret_nr:	events in it
 * Return: bytes of the frame.
 */
size_t dispatch_pack_blocks(const struct block_batch *b, uint8_t *tx,
			    uint32_t *ret_nr);

/* The same of levels, enum level_value. */
size_t dispatch_pack_levels(unsigned pool, unsigned tenant, uint8_t *tx);

void reply_init(struct reply *r, struct arena *a);

/* Says why, as printf does. Return: @err. */
int reply_fail(struct reply *r, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The answer to frame @id of @type, without descriptors, as it would be sent
 * now. Return: malloc'ed, or NULL: there is no memory, or it is too large.
 */
uint8_t *reply_pack(unsigned type, uint32_t id, const struct reply *r,
		    size_t *ret_size);

/* Answers frame @id of @type with @r, or with @err when it is not 0. */
void reply_send(struct client *c, unsigned type, uint32_t id, int err,
		struct reply *r);

#endif
