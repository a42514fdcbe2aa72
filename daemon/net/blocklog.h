/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocklog.h - the newest events of a space's blocks, for all who read them.
 *
 * A ring of BLOCKLOG_BYTES. Events are numbered from 1; each reader keeps the
 * number that it reads next, so that one who reads late costs nothing: what is
 * overwritten meanwhile is lost to it, and it can tell how much that was. No
 * I/O, no clock.
 */
#ifndef DAEMON_NET_BLOCKLOG_H
#define DAEMON_NET_BLOCKLOG_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/name.h"

#define BLOCKLOG_BYTES (1u << 20)

struct block_event {
	struct name name;
	struct name parent;	/* stored: this and the rest */
	struct name extra;
	uint32_t depth;
	uint32_t classes;
	uint32_t stored;	/* else removed */
	uint32_t tokens[];	/* of a page, or none */
};

struct blocklog {
	uint8_t *slots;
	uint32_t slot_bytes;
	uint32_t nr_slots;
	uint32_t nr_tokens;	/* of an event */
	uint64_t first;		/* number of what was put in slot 0 */
	uint64_t oldest;	/* that is still there */
	uint64_t next;		/* that the next event will have */
};

#define BLOCKLOG_NULL { .slots = NULL }

/* @nr_tokens: kept with each event. Return: 0 or -ENOMEM. */
int blocklog_init(struct blocklog *l, uint32_t nr_tokens);
void blocklog_fini(struct blocklog *l);

/* One more event, to be filled in. */
struct block_event *blocklog_add(struct blocklog *l);

/* Event number @nr, from oldest on and before next. */
const struct block_event *blocklog_get(const struct blocklog *l, uint64_t nr);

/* All have read all of it: memory that was used is used again first. */
void blocklog_rewind(struct blocklog *l);

#endif
