/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory that lives as long as one request.
 *
 * One per loop: a bump allocator that protobuf-c unpacks into and handlers
 * build replies in. It is emptied before each request, never grows, and so
 * bounds what a frame can make the daemon allocate.
 */
#ifndef DAEMON_NET_ARENA_H
#define DAEMON_NET_ARENA_H

#include <stddef.h>
#include <stdint.h>
#include <protobuf-c/protobuf-c.h>

/* More than any valid frame of 64 KiB unpacks to. */
#define ARENA_BYTES (2u << 20)

struct arena {
	uint8_t *base;
	size_t size;
	size_t used;
	ProtobufCAllocator pb;	/* allocates here; frees nothing */
};

int arena_init(struct arena *a, size_t size);
void arena_fini(struct arena *a);

static inline void arena_reset(struct arena *a)
{
	a->used = 0;
}

/* @bytes, 16-byte aligned, or NULL when the arena is full. */
void *arena_alloc(struct arena *a, size_t bytes);

/* An array of @nr zeroed elements, or NULL. */
void *arena_array(struct arena *a, size_t nr, size_t bytes);

#endif
