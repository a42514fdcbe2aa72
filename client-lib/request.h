/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - what the library asks the daemon, as plain C.
 *
 * All return 0 or a negative errno value as call() does, and ask on the
 * connection that is: after -ENOTCONN the caller decides (conn.h) whether to
 * begin again, because what it had learned before may no longer be so.
 */
#ifndef CLIENT_LIB_REQUEST_H
#define CLIENT_LIB_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <kvd/kvd.h>
#include "client-lib/call.h"
#include "client-lib/device.h"
#include "proto/name.h"
#include "proto/shm.h"
#include "proto/wire.h"

/* No more is claimed of what this connection's predecessors had in any space. */
int request_claim_rest(struct kvd *k);

/* In two halves, the second of which fills in epoch, instance and device of
 * the connection. */
int request_hello_begin(struct kvd *k, struct call *c);
int request_hello_end(struct kvd *k, struct call *c);

struct space_grant {
	uint32_t id;
	uint8_t name_key[NAME_KEY_BYTES];
	uint64_t fingerprint;
	uint64_t stock_bytes;
	uint32_t nr_classes;
	uint32_t page_bytes[PAGE_MAX_CLASSES];
	uint32_t group[PAGE_MAX_CLASSES];
	uint32_t nr_segments;
	uint32_t segments[WIRE_MAX_OPEN_SEGMENTS]; /* that have pages */
	int index_fd;	/* the caller's on success */
	int stats_fd;
};

int request_open_space(struct kvd_space *sp, struct space_grant *ret);
int request_close_space(struct kvd_space *sp);

/* One segment. s->fd is the caller's on success (-1: none). */
int request_map(struct kvd_space *sp, uint32_t id, struct device_segment *s);

/* @nr OPEN pages, at most WIRE_MAX_PAGES. Reports the counts. */
int request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
		  uint32_t deadline_ms, handle_t *handles, place_t *places);

/* Releases one hold each of any number; stale ones are passed over. */
int request_release(struct kvd *k, const handle_t *handles, uint32_t nr);

/* @nr at most WIRE_MAX_PAGES; 0 handles are skipped. Reports the counts. */
int request_match(struct kvd_space *sp, const handle_t *handles, uint32_t nr,
		  uint32_t *ret_granted, place_t *places);

/* A match whose reply is to come. */
struct request_match {
	struct call call;
	uint32_t nr;
	uint64_t hit, miss;	/* tokens reported with it */
};

/**
 * request_match_begin() - request_match() in two halves, this and the next
 *
 * Counts that a connection takes along as it breaks are due again. What was
 * begun must be ended, and stays where it is until then.
 */
int request_match_begin(struct kvd_space *sp, struct request_match *q,
			const handle_t *handles, uint32_t nr);
int request_match_end(struct kvd_space *sp, struct request_match *q,
		      uint32_t *ret_granted, place_t *places);

/* Blocks in one publish request: of any geometry they fit a frame. */
#define PUBLISH_MAX_BLOCKS 32u

struct publish_block {
	const struct name *parent;
	const struct name *extra;
	const uint32_t *tokens;
	uint32_t depth;
};

struct publish {
	bool private;
	uint32_t priority;	/* enum kvd_priority */
	uint32_t nonfinite;
	uint64_t flight;	/* announcement they are of; 0: none */
	uint32_t nr_blocks;
	const struct publish_block *blocks;
	handle_t *handles;	/* [nr_blocks][nr_classes]; in: the pages, out:
				 * those now under the names */
	place_t *places;	/* out */
};

/* At most PUBLISH_MAX_BLOCKS blocks. */
int request_publish(struct kvd_space *sp, struct publish *p);

/* Of blocks that are not in the index, from one on. */
struct flight_ask {
	const struct name *names;
	uint32_t nr;		/* at most WIRE_MAX_NAMES */
	uint32_t depth;		/* of the first */
	uint32_t wait_ms;	/* while somebody computes it; 0: no event is
				 * wanted */
	bool announce;		/* where nobody does, this connection will */
	bool again;		/* it has waited for some before */
};

struct flight_told {
	uint32_t state;		/* enum wire_flight */
	uint64_t flight;	/* OURS: its number */
	uint32_t blocks;	/* OURS, COMING: how many */
	uint32_t wait;		/* what the event is about; 0: none is wanted */
};

int request_flight(struct kvd_space *sp, const struct flight_ask *ask,
		   struct flight_told *ret);

/* This announcement, or this wait, has ended; 0: none. */
int request_flight_end(struct kvd *k, uint64_t flight, uint32_t wait);

/* One hold each of at most WIRE_MAX_PAGES. */
int request_claim(struct kvd_space *sp, const handle_t *handles, uint32_t nr,
		  bool *granted);

struct subscribe_grant {
	uint32_t pool, tenant;	/* enum wire_level */
	uint64_t next;		/* number of the first event that will come */
};

/* @mask of enum wire_subscribe; @space 0: of none. */
int request_subscribe(struct kvd *k, uint32_t space, uint32_t mask,
		      struct subscribe_grant *ret);

/* The prefix up to block @name, for @ttl_ms. *ret_tokens: how long it is. */
int request_pin(struct kvd_space *sp, const struct name *name, uint64_t ttl_ms,
		uint64_t *ret_tokens);
int request_unpin(struct kvd_space *sp, const struct name *name);

/* These segments are unmapped. */
int request_unmapped(struct kvd *k, const uint32_t *ids, uint32_t nr);
int request_bye(struct kvd *k);
int request_ping(struct kvd *k);

#endif
