/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - one connection: frames in, frames out, descriptors with them.
 *
 * Knows bytes, not what they mean. At most one message is received per wake,
 * so that busy clients take turns. Replies are sent at once; what the socket
 * does not take waits in a queue, and until that is empty nothing more is
 * received. So the queue holds, with its descriptors, what one request may
 * answer, and recalls and late answers besides; it is bounded in number and
 * bytes, and a peer that lets it fill is dropped. Events that it has
 * subscribed to are never in it: conn_try(). One to whom a frame cannot be sent
 * (the system is out of memory or descriptors in flight) is dropped too: it
 * would wait for ever.
 *
 * A connection ends in exactly one way: its poll callback finds the socket
 * hung up. conn_drop() therefore only shuts the socket down and may be called
 * from anywhere; gone() and then closed() follow from the loop.
 */
#ifndef DAEMON_NET_CONN_H
#define DAEMON_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>
#include "proto/wire.h"

#define CONN_MAX_QUEUED 256		/* frames */
#define CONN_MAX_QUEUED_BYTES (1u << 20)
#define CONN_MAX_RECV_FDS 253		/* the kernel's SCM_MAX_FD */

struct conn;

/* A message as received. */
struct conn_frame {
	const uint8_t *buf;
	size_t size;		/* of the message; more than was kept when it
				 * is over WIRE_MAX_FRAME */
	int *fds;		/* set those taken to -1; the rest is closed */
	unsigned nr_fds;
	bool fds_lost;		/* more were sent than could be received */
};

struct conn_ops {
	void (*frame)(struct conn *c, const struct conn_frame *f);
	/* No more frames. @hung_up: every descriptor of the peer's end is
	 * closed; false when it was we who ended it. */
	void (*gone)(struct conn *c, bool hung_up);
	/* What conn_try() could not send may be tried again. */
	void (*writable)(struct conn *c);
	/* The loop has let go of it: its memory may be freed. */
	void (*closed)(struct conn *c);
};

/* Receive buffers, shared by all connections of a loop. */
struct conn_io {
	uint8_t data[WIRE_MAX_FRAME];
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE(CONN_MAX_RECV_FDS * sizeof(int))];
	int fds[CONN_MAX_RECV_FDS];
};

struct conn_msg;

struct conn {
	uv_poll_t poll;
	int fd;
	const struct conn_ops *ops;
	struct conn_io *io;
	TAILQ_HEAD(conn_queue, conn_msg) queue;
	unsigned nr_queued;
	size_t queued_bytes;
	bool wants;		/* writable() is to be called */
	bool dropped;
};

/**
 * conn_init() - serve @fd on @loop; owns @fd on success
 * Return: 0 or a negative errno.
 */
int conn_init(struct conn *c, uv_loop_t *loop, int fd, struct conn_io *io,
	      const struct conn_ops *ops);

/**
 * conn_send() - send a frame, or queue it, or drop the peer
 * @buf:	whole frame
 * @size:	its length, at most WIRE_MAX_FRAME
 * @fds:	go with it; owned by the connection from here on
 * @nr_fds:	at most WIRE_MAX_FDS
 */
void conn_send(struct conn *c, const uint8_t *buf, size_t size, const int *fds,
	       unsigned nr_fds);

/**
 * conn_try() - send a frame at once, or not at all
 *
 * Never before what is queued. Return: 0; -EAGAIN: not now, writable() will
 * say when; another negative errno: the peer is gone.
 */
int conn_try(struct conn *c, const uint8_t *buf, size_t size);

/* Is it no use to conn_try() before writable() is called, or ever? */
static inline bool conn_is_full(const struct conn *c)
{
	return c->wants || c->dropped;
}

/* Has the peer read all that it was sent? Also when it has closed its end. */
bool conn_is_read(const struct conn *c);
bool socket_is_read(int fd);

/* Ends the connection from our side; gone() is called from the loop. */
void conn_drop(struct conn *c);

/* Lets go of the socket at once; closed() follows, gone() does not. */
void conn_close(struct conn *c);

#endif
