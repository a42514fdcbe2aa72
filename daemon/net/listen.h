/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h - the socket that clients connect to.
 */
#ifndef DAEMON_NET_LISTEN_H
#define DAEMON_NET_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct listener {
	uv_poll_t poll;
	int fd;
	int spare_fd;		/* given up to refuse one when out of them */
	bool made;		/* by us: remove the file at the end */
	char path[108];
	dev_t dev;		/* of the file, so that only ours is removed */
	ino_t ino;
	uint64_t logged_ms;
	void (*accepted)(void *ctx, int fd);
	void *ctx;
};

/**
 * listener_open() - make the socket file, or adopt @fd
 * @fd:		a listening SOCK_SEQPACKET socket, or -1
 * @path:	where to make one
 * @mode:	permissions of the file
 * @gid:	group of the file; (gid_t)-1: left as it is
 *
 * A file left by a dead daemon is replaced; one that answers is not.
 *
 * Return: 0, or a negative errno with a sentence in @why.
 */
int listener_open(struct listener *l, int fd, const char *path, mode_t mode,
		  gid_t gid, char *why, size_t why_bytes);

/* Calls @accepted with each new connection; it owns the descriptor. */
int listener_start(struct listener *l, uv_loop_t *loop,
		   void (*accepted)(void *ctx, int fd), void *ctx);

/* Once in a while: looks again after it had to look away. */
void listener_tick(struct listener *l);

/* Says now and then that a connection was refused for want of descriptors. */
void listener_full(struct listener *l);

/* Stops, and removes the file if it is still ours. */
void listener_close(struct listener *l);

#endif
