/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - events: for routers, and for who would rather shrink than wait.
 *
 * What is told unasked, in calls of a function of yours. Threads: it is called
 * from kvd_process() alone, by the thread that is in there. It may call
 * whatever does not subscribe or close: not kvd_subscribe(), kvd_space_close(),
 * kvd_close().
 *
 * What has come while another call waited for its answer is kept for it, up to
 * 1 MiB: call kvd_process() when kvd_fd() is readable, and after other calls.
 * kvd waits for nobody who reads late; he is told that he has missed something.
 */
#ifndef KVD_EVENTS_H
#define KVD_EVENTS_H

#include "kvd/kvd.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

enum kvd_event_kind {
	KVD_EVENT_PRESSURE = 1,	/* a level has changed; the first says what
				 * they are */
	KVD_EVENT_STORED = 2,	/* a block is in the index of the space; or it
				 * was, and has pages of other classes now */
	KVD_EVENT_REMOVED = 3,	/* a block has left it */
	KVD_EVENT_LOST = 4,	/* events were; list the space anew */
	KVD_EVENT_CLEARED = 5	/* the connection was made anew: forget what was
				 * told of the space, list it anew */
};

/*
 * Levels. Critical: in the last second somebody was refused pages, because
 * nothing could be given up for them or max was reached, or for a quarter of
 * the last ten seconds somebody had to wait. Low: for a twentieth of them. They
 * rise at once, and fall when for two seconds it was less than half of that.
 *
 * On low: keep a smaller stock (kvd_space_opts.stock_bytes of the next space;
 * kvd gives back what it is asked to by itself), free sequences that are idle
 * rather than keep them, start no long prompt. On critical: admit no new
 * request; free sequences that can be computed again, the longest first, until
 * it is over. The tenant's level says that this tenant waits: at its own high
 * or max, if the pool's level is none.
 */
enum kvd_level {
	KVD_LEVEL_NONE = 0,
	KVD_LEVEL_LOW = 1,
	KVD_LEVEL_CRITICAL = 2
};

/* A block of the index: page_tokens tokens, and what they follow. */
struct kvd_block {
	const uint8_t *name;	/* 16 bytes: of all tokens up to its last */
	const uint8_t *parent;	/* 16 bytes: of the block before; all zero:
				 * there is none. REMOVED: NULL */
	const uint8_t *extra;	/* 16 bytes, or NULL: not subscribed to */
	const uint32_t *tokens;	/* or NULL: not subscribed to */
	uint32_t nr_tokens;	/* page_tokens; REMOVED: 0 */
	uint32_t depth;		/* blocks before it */
	uint32_t classes;	/* bit c: it has a page of class c, whose
				 * formats kvd_space_record() knows */
};

struct kvd_event {
	uint32_t size;
	uint32_t kind;		/* enum kvd_event_kind */
	struct kvd_space *space; /* NULL: PRESSURE */
	uint64_t sequence;	/* STORED, REMOVED: each one more than the last
				 * of this space, but after LOST and CLEARED */
	uint64_t lost;		/* LOST: how many; 0: nobody knows */
	uint32_t pool;		/* PRESSURE: enum kvd_level of the pool */
	uint32_t tenant;	/* and of this connection's tenant */
	struct kvd_block block;	/* STORED, REMOVED */
};

/* @event and what it points to are good until it returns. */
typedef void (*kvd_event_fn)(const struct kvd_event *event, void *ctx);

#define KVD_SUBSCRIBE_PRESSURE 1u
#define KVD_SUBSCRIBE_BLOCKS   2u /* of a space */
#define KVD_SUBSCRIBE_TOKENS   4u /* and their token ids, and extra */

struct kvd_subscribe_opts {
	uint32_t size;
	uint32_t events;	/* KVD_SUBSCRIBE_*; 0: none any more */
	struct kvd_space *space; /* NULL: events is of pressure; else of the
				 * space's blocks. Either may be subscribed to
				 * without the other */
};

/**
 * kvd_subscribe() - be told of events from here on
 * @fn:		is told; may be NULL when there are no events to be told
 *
 * In place of what was asked for before of the same: pressure, or this space.
 * Closing the space ends it too. A new connection, after the daemon was
 * restarted, subscribes again by itself.
 *
 * A router opens the spaces that it routes for (read-only), subscribes to each
 * and then lists it. Events that came meanwhile say again what the list had, or
 * correct it: done in their order, on a set of names, they make it what the
 * index is. After LOST and CLEARED it begins again with the list.
 *
 * Return: 0; -EINVAL bad arguments, or called from @fn; -EBUSY more than 64
 * spaces of a connection, or connections of a space; -ENOTCONN, -ETIMEDOUT, -ENOMEM.
 */
int kvd_subscribe(struct kvd *k, const struct kvd_subscribe_opts *opts,
		  kvd_event_fn fn, void *ctx);

/**
 * kvd_space_blocks() - list the blocks that are in the index
 * @fn:		called for each, with all of kvd_block; not 0 ends it
 *
 * Asks nobody and waits for nobody: the index is mapped. All blocks that are
 * there, as they are, the whole time are told, once each; of those that come,
 * change or go meanwhile some: events tell of each, and so does a later call.
 * Memory it points to is good until @fn returns.
 *
 * Return: 0; what @fn returned; -EOPNOTSUPP the daemon is older; -ENOMEM.
 */
int kvd_space_blocks(struct kvd_space *sp,
		     int (*fn)(const struct kvd_block *block, void *ctx),
		     void *ctx);

/**
 * kvd_space_name() - the name of a block, to look up in what was told
 * @parent:	16 bytes, the name of the block before; NULL: it is the first
 * @extra:	as kvd_seq_opts.extra, 16 bytes; NULL: zero
 * @tokens:	page_tokens of them
 * @name:	16 bytes, filled
 */
void kvd_space_name(const struct kvd_space *sp, const uint8_t *parent,
		    const uint8_t *extra, const uint32_t *tokens,
		    uint8_t *name);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
