/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore.h - device and pool, with what a predecessor left.
 */
#ifndef DAEMON_NET_RESTORE_H
#define DAEMON_NET_RESTORE_H

#include <stddef.h>

struct server;
struct server_fd;

/**
 * restore_device() - open s->dev; where that is left to auto, what it has
 * chosen before
 *
 * Clients have that device's memory mapped, and its pages are in descriptors
 * that were kept: another device would lose both. So a GPU that is away is
 * waited for, by not starting without it. Parameters and return as below;
 * -ENODEV.
 */
int restore_device(struct server *s, struct server_fd *fds, size_t nr_fds,
		   char *why, size_t why_bytes);

/**
 * restore_pool() - make s->mem, with the pages of a predecessor if there are
 * @fds:	as the service manager handed them over; taken ones become -1
 * @why:	a sentence on failure
 *
 * Return: 0 or a negative errno.
 */
int restore_pool(struct server *s, struct server_fd *fds, size_t nr_fds,
		 char *why, size_t why_bytes);

/* A worker says that it is under MPS. A successor is told, as the worker may be
 * dead by then. */
void restore_note_mps(struct server *s);

#endif
