/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match.h - a match under way: what seq_match.c has found in the index, and
 * what match_ask.c has asked the daemon for.
 */
#ifndef CLIENT_LIB_MATCH_H
#define CLIENT_LIB_MATCH_H

#include "client-lib/request.h"
#include "client-lib/seq.h"

#define ASK_PAGES 512u	/* in one request: the next is made meanwhile, and */
#define ASKS_AHEAD 4u	/* so many are on their way: less than a socket takes */

/* A request, and where goes what it brings. */
struct ask {
	struct request_match request;
	handle_t handles[ASK_PAGES];
	uint32_t nr;		/* entries; a handle of 0 is not asked for */
	uint32_t nr_needed;	/* of these, from the front: copies of the
				 * newest whole block follow */
	uint32_t count;		/* that are not 0 */
	uint32_t first;		/* block of the first entries */
};

/* Blocks [0, next) are asked for, or held; the oldest requests come first. */
struct asks {
	struct ask ring[ASKS_AHEAD];
	uint32_t nr_sent, nr_ended;
	uint32_t next;
	uint32_t chunk;		/* blocks in one, at most */
	uint32_t got;		/* blocks before the first that was refused */
	int err;		/* of the first that failed */
};

struct match {
	struct kvd_seq *seq;
	const uint32_t *tokens;
	uint32_t nr_tokens;
	handle_t *pages;	/* [nr_max + 1][nr_classes] */
	uint32_t nr_max;	/* blocks asked for */
	uint32_t nr_found;
	uint32_t nr;		/* of which are being tried, */
	uint32_t tail;		/* and tokens of the block after them */
	bool no_tail;
	struct asks *asks;
};

/* Blocks that pages are held of, the tail's included. */
static inline uint32_t match_blocks(const struct match *m)
{
	return m->nr + (m->tail != 0);
}

/* The class of the page in which block @i of a group is read: demoted where
 * there is no other. */
static inline uint32_t match_read_class(const struct match *m, uint32_t i,
					uint32_t group)
{
	const struct kvd_space *sp = m->seq->sp;
	uint32_t c = space_class(sp, group, i);

	if (sp->demoted_class[group] == PAGE_NO_CLASS ||
	    m->pages[(size_t)i * sp->nr_classes + c])
		return c;
	return sp->demoted_class[group];
}

/* That page; 0: there is none. */
static inline handle_t match_page(const struct match *m, uint32_t i,
				  uint32_t group)
{
	return m->pages[(size_t)i * m->seq->sp->nr_classes +
			match_read_class(m, i, group)];
}

/* ---- a match as a whole: seq_match.c ---- */

/* May @n tokens be matched? Return: 0; -EINVAL, -ESTALE with a text. */
int match_check(struct kvd_seq *seq, const uint32_t *tokens, size_t n);

/* Takes all memory that is needed. match_free() in any case. 0 or -ENOMEM. */
int match_init(struct match *m, struct kvd_seq *seq, const uint32_t *tokens,
	       size_t n);
void match_free(struct match *m);

/**
 * match_find() - the longest prefix that can be had now
 * @end_ns:	until then it is tried again where a daemon went away
 *
 * What the sequence has without tokens is dropped. Pages found are in its
 * tables, nothing else is the sequence's yet. Return: 0 also for a miss; as
 * kvd_seq_match().
 */
int match_find(struct match *m, uint64_t end_ns);

/* What was found is not taken: the tables are empty again. */
void match_undo(struct match *m);

/* What was found is the sequence's. As kvd_seq_match(). */
int match_done(struct match *m, size_t *ret_hit);

/* ---- what of it is asked of the daemon: match_ask.c ---- */

/* Nothing is asked for. */
void match_start(struct match *m);

/**
 * match_ahead() - ask for blocks while others are being looked up
 * @nr:	so many have been found; all those before this, with the pages in
 *	which they are read
 *
 * What the match will need whatever is found after them, and all of it. Only
 * whole requests are made.
 */
void match_ahead(struct match *m, uint32_t nr);

/**
 * match_take() - holds on what is being tried
 * @ret_got: how many blocks of it could be had; if fewer, the caller has to
 *	     give back what is in the tables
 *
 * Ends everything match_ahead() began. Return: 0, or why a request failed; what
 * others brought is in the tables.
 */
int match_take(struct match *m, uint32_t *ret_got);

#endif
