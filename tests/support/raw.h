/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - a client that may say anything: frames by hand over the socket.
 *
 * Calls wait at most RAW_TIMEOUT_MS. Whatever goes wrong on our own side
 * aborts the test; what the daemon does is returned.
 */
#ifndef TESTS_SUPPORT_RAW_H
#define TESTS_SUPPORT_RAW_H

#include <stddef.h>
#include <stdint.h>
#include "proto/kvd.pb-c.h"
#include "proto/wire.h"

#define RAW_TIMEOUT_MS 20000

struct raw_frame {
	struct wire_header header;
	uint8_t payload[WIRE_MAX_FRAME];
	int fds[WIRE_MAX_FDS];	/* the receiver closes them */
	unsigned nr_fds;
};

/* A connection without hello. Return: descriptor or a negative errno. */
int raw_connect(const char *socket);

/* A connection that has said hello. Aborts when refused. */
int raw_open(const char *socket);

/* The same, a connection of a series: see HelloRequest. */
int raw_open_series(const char *socket, uint32_t series);

/* One message of any bytes. Return: 0 or a negative errno. */
int raw_send_bytes(int fd, const void *buf, size_t size, const int *fds,
		   unsigned nr_fds);

/* A frame with any payload. Return: as above. */
int raw_send(int fd, unsigned type, uint32_t id, const void *payload,
	     size_t size);
int raw_send_msg(int fd, unsigned type, uint32_t id,
		 const ProtobufCMessage *msg);

/* The next frame. Return: 0; -ECONNRESET the end; -ETIMEDOUT. */
int raw_recv(int fd, struct raw_frame *f);

/* Is the connection closed by the daemon, after whatever frames? */
int raw_at_end(int fd);

/**
 * raw_call() - send a request, wait for its reply; events are skipped
 * @ret:	the reply, freed by protobuf_c_message_free_unpacked(); NULL
 *		when the status is not 0. May be NULL.
 * @f:		the frame; may be NULL, then descriptors are closed
 *
 * Return: the reply's status as a negative errno, or -ECONNRESET.
 */
int raw_call(int fd, unsigned type, const ProtobufCMessage *req,
	     const ProtobufCMessageDescriptor *reply, void *ret,
	     struct raw_frame *f);

/* Text of the error in @f. Static storage. */
const char *raw_error(const struct raw_frame *f);

/* ---- requests that many tests make ---- */

/* Opens a small f16 space. @model varies the space. Return: id or -errno. */
int raw_open_space(int fd, uint8_t model);

/* As raw_call(): status of an allocation; handles and places of @count. */
int raw_alloc(int fd, uint32_t space, uint32_t count, uint32_t deadline_ms,
	      uint64_t *handles, uint64_t *places);
int raw_release(int fd, const uint64_t *handles, size_t nr);

/* Publishes one page as the first block of a prompt made from @seed. */
int raw_publish(int fd, uint32_t space, uint64_t handle, uint32_t seed);

/* Return: how many were granted, or a negative errno. */
int raw_match(int fd, uint32_t space, const uint64_t *handles, size_t nr);

/* Is one hold on @handle given back? Return: 1, 0, or a negative errno. */
int raw_claim(int fd, uint32_t space, uint64_t handle);
/* No more will be claimed by the series. Return: how many requests it took. */
unsigned raw_claim_rest(int fd, uint32_t space);
int raw_ping(int fd);
int raw_bye(int fd);

#endif
