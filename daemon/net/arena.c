// SPDX-License-Identifier: Apache-2.0
/*
 * arena.c - memory that lives as long as one request.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/net/arena.h"

static void *arena_pb_alloc(void *ctx, size_t bytes)
{
	return arena_alloc(ctx, bytes);
}

static void arena_pb_free(void *ctx, void *p)
{
	(void)ctx;
	(void)p;
}

/**
 * arena_init() - reserve @size bytes; touched only as they are used
 * Return: 0 or -ENOMEM.
 */
int arena_init(struct arena *a, size_t size)
{
	a->base = malloc(size);
	if (!a->base)
		return -ENOMEM;
	a->size = size;
	a->used = 0;
	a->pb = (ProtobufCAllocator){
		.alloc = arena_pb_alloc,
		.free = arena_pb_free,
		.allocator_data = a,
	};
	return 0;
}

/**
 * arena_fini() - give the memory back; a zeroed arena is fine
 */
void arena_fini(struct arena *a)
{
	free(a->base);
	a->base = NULL;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	size_t take;
	void *p;

	if (bytes > a->size)
		return NULL;
	take = (bytes + 15) & ~(size_t)15;
	if (take > a->size - a->used)
		return NULL;
	p = a->base + a->used;
	a->used += take;
	return p;
}

void *arena_array(struct arena *a, size_t nr, size_t bytes)
{
	size_t total;
	void *p;

	if (__builtin_mul_overflow(nr, bytes, &total))
		return NULL;
	p = arena_alloc(a, total);
	return p ? memset(p, 0, total) : NULL;
}
