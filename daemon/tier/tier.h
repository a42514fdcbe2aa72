/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier.h - a slower place behind a pool: from names to bytes.
 *
 * What is kept is a page's bytes and a head, in which the caller has written
 * what the page is; he compares it when he has got the page back, because keys
 * are hashes. A tier may lose anything at any time: what it does not have is a
 * miss. All calls are the loop's thread's and none waits; a tier that has to
 * wait for something has a thread of its own for that.
 *
 * A store elsewhere in a network is one more struct tier_ops: has() is a guess
 * then, and get() says so later.
 */
#ifndef DAEMON_TIER_TIER_H
#define DAEMON_TIER_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "daemon/util/spans.h"

#define TIER_ALIGN	4096u	/* of a page with its head, and their bytes */
#define TIER_HEAD_AT	128u	/* before it is a tier's own */
#define TIER_HEAD_BYTES (TIER_ALIGN - TIER_HEAD_AT) /* at most */
#define TIER_DATA_ALIGN 64u

struct tier_key {
	uint64_t name[2];
	uint64_t origin;	/* what it is of: forgotten together */
	uint64_t kind;
};

/* One page outside the pool. Whoever has a reference may read it. */
struct tier_page {
	uint32_t refs;		/* the loop's thread's */
	uint32_t head_bytes;
	uint32_t bytes;
	uint8_t *block;		/* tier_cost() bytes: head, page, zeros */
};

/* Where in the block the page is. */
static inline uint32_t tier_data_at(uint32_t head_bytes)
{
	return (TIER_HEAD_AT + head_bytes + TIER_DATA_ALIGN - 1) /
	       TIER_DATA_ALIGN * TIER_DATA_ALIGN;
}

/* Bytes of a page with all that belongs to it, in a tier. */
static inline uint64_t tier_cost(uint32_t head_bytes, uint32_t bytes)
{
	return ((uint64_t)tier_data_at(head_bytes) + bytes + TIER_ALIGN - 1) /
	       TIER_ALIGN * TIER_ALIGN;
}

/**
 * tier_page_new() - room for a page
 * Return: one reference to it; NULL: out of memory. What is in it is whatever
 * was there, but what is before and behind it is zero.
 */
struct tier_page *tier_page_new(uint32_t head_bytes, uint32_t bytes);

static inline struct tier_page *tier_page_get(struct tier_page *p)
{
	p->refs++;
	return p;
}

/* NULL is fine. */
void tier_page_put(struct tier_page *p);

static inline void *tier_page_head(const struct tier_page *p)
{
	return p->block + TIER_HEAD_AT;
}

static inline uint8_t *tier_page_data(const struct tier_page *p)
{
	return p->block + tier_data_at(p->head_bytes);
}

/*
 * What entries are worth that one policy of the pool orders, and learns of:
 * uses to be expected for each of its ticks, by kind and by ticks since the
 * last. Shared with it; the pool's is the first reference.
 */
struct tier_value {
	struct spans_worth worth;
	uint64_t step;		/* ticks after which that is looked up anew */
	uint32_t refs;
};

static inline void tier_value_put(struct tier_value *v)
{
	if (--v->refs == 0)
		free(v);
}

/* How a page is used. */
struct tier_use {
	struct tier_value *value; /* NULL: its tier goes by when it was put */
	uint32_t kind;		/* of what that knows, SPANS_KINDS of them */
	uint64_t at, now;	/* ticks: when it was last used; that it is now */
	struct tier_key parent;	/* without which it is of no use */
};

/* What is wanted; done() has a reference to it, or NULL. Embed it. */
struct tier_get {
	void (*done)(struct tier_get *get, struct tier_page *page);
};

/* What was there of an origin. */
struct tier_forgot {
	uint64_t pages, bytes;
	bool owed;		/* a restart just now would bring it back: a
				 * file cannot be written, or read */
};

struct tier_stat {
	const char *name;	/* of the tier */
	const char *trouble;	/* why it is not used now, or "" */
	uint64_t bytes, max_bytes;
	uint64_t entries;
	uint64_t puts, gets;	/* pages */
	uint64_t dropped;	/* to make room for others */
	uint64_t refused;	/* it could not take, or not so fast */
	uint64_t bad;		/* found, and not what was put */
	uint64_t errors;
};

struct tier;

struct tier_ops {
	const char *name;
	/* Ends all: what is wanted is told NULL. */
	void (*free)(struct tier *t);
	bool (*has)(const struct tier *t, const struct tier_key *key);
	/* Is it worth while to put anything now? */
	bool (*takes)(const struct tier *t);
	/*
	 * Somebody who has it (again) gives it up: it is as new, if it is
	 * there. Return: it is.
	 */
	bool (*renew)(struct tier *t, const struct tier_key *key,
		      const struct tier_use *use);
	/* Takes a reference. What was there under @key is replaced. A tier
	 * need not know what to make of @use. */
	void (*put)(struct tier *t, const struct tier_key *key,
		    struct tier_page *page, const struct tier_use *use);
	/* @get is told, perhaps before this returns. Where there is no such
	 * page it is told NULL. */
	void (*get)(struct tier *t, const struct tier_key *key,
		    struct tier_get *get);
	/*
	 * Forgets up to @max pages of @origin, and adds them to @ret. Return:
	 * there are more. With a @max of 0: whether it takes time still until a
	 * successor knows too, after which he finds none, but for what
	 * @ret->owed says. What is put meanwhile may be forgotten, or stay.
	 */
	bool (*forget)(struct tier *t, uint64_t origin, uint32_t max,
		       struct tier_forgot *ret);
	/* About once a second. */
	void (*tick)(struct tier *t, uint64_t now_ns);
	/* Work of its thread has ended: after a wake. May be NULL. */
	void (*reap)(struct tier *t);
	/* Waits until all that was put is there. For tests; may be NULL. */
	void (*flush)(struct tier *t);
	void (*stat)(const struct tier *t, struct tier_stat *ret);
};

/* What all begin with. */
struct tier {
	const struct tier_ops *ops;
};

/* What one has to say: it is of no use, it is again, or has ended and could not
 * forget what it was told to; with a sentence. */
enum tier_news { TIER_BAD, TIER_GOOD, TIER_OWES };

struct tier_say {
	void (*say)(void *ctx, enum tier_news news, const char *what);
	void *ctx;
};

/**
 * tier_memory_new() - plain memory of the host
 * @bytes:	of the pages it has, at most, with their heads
 * @spill:	told of each page that goes to make room; its reference is the
 *		tier's. May be NULL.
 * Return: NULL: out of memory.
 */
struct tier *tier_memory_new(uint64_t bytes,
			     void (*spill)(void *ctx,
					   const struct tier_key *key,
					   struct tier_page *page,
					   const struct tier_use *use),
			     void *ctx);

/**
 * tier_file_new() - a file, which is there after a restart
 * @path:	made if it is not there, with mode 0600; kept
 * @bytes:	of the file, at most
 * @wake:	on the tier's thread: reap() is to be called soon
 *
 * Opened by its thread: until then, and where that fails, it has nothing and
 * takes nothing. It is tried again. Return: 0, -ENOMEM, -EAGAIN no thread.
 */
int tier_file_new(const char *path, uint64_t bytes, const struct tier_say *say,
		  void (*wake)(void *ctx), void *wake_ctx, struct tier **ret);

#endif
