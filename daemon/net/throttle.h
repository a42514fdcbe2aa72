/* SPDX-License-Identifier: Apache-2.0 */
/*
 * throttle.h - answers held back, of tenants above their high.
 *
 * The pages are the client's already; only that it learns of them later makes
 * it slower. Each answer has a timer of its own, so none waits behind
 * another's, and nothing else a client asks is late. How long is mem's to say
 * (mem_client_delay_ms()); here it is spent and counted, for each tenant.
 */
#ifndef DAEMON_NET_THROTTLE_H
#define DAEMON_NET_THROTTLE_H

#include <stddef.h>
#include <stdint.h>

struct client;

/**
 * throttle_send() - send a frame to @c in @delay_ms
 * @frame:	malloc'ed; owned from here on
 * Return: 0 or -ENOMEM, @frame is freed.
 */
int throttle_send(struct client *c, uint64_t delay_ms, uint8_t *frame,
		  size_t size);

/* Forgets the answers to a client that is going. */
void throttle_cancel(struct client *c);

#endif
