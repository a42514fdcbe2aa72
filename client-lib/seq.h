/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seq.h - a sequence: committed tokens and a block table per group.
 *
 * Entry i of a table is the page of positions [i * P, (i + 1) * P), absent
 * once it has left the group's window. A sequence may write a page only when
 * it is open and no one else here uses it; entries at and after the position
 * being written are always so (fork and truncate copy what is not).
 *
 * Where pages are sealed whole, a block that is being filled is in an open
 * page, opens[i]; when its last token comes the layer is quantized into the
 * page of the group's other class, holds[i], which is what all later tokens
 * see (seal.c). The open page goes when the tokens are committed; with a lag
 * that of the newest full block stays, for the tokens of the next one to see.
 * A block with NaN or Inf stays in its open page: that is then in holds[i].
 * Where the device works later, a word of refused[i] says so when it has: the
 * open page stays until then. Rows recorded meanwhile have attended over what
 * the page was quantized to, which nobody else gets to see.
 *
 * Blocks are settled in order. A full block becomes settled when the work
 * that wrote it is done and it is published, or sealed in private, or refused
 * for a NaN. Until then nothing of it leaves the table, whatever the window
 * says. seq_settle() is the one place where that happens.
 *
 * A sequence that is freed while full blocks wait for the device stays, on
 * the space's list of closing ones, until they are settled. It does not use
 * its stream any more: the caller may have destroyed that.
 */
#ifndef CLIENT_LIB_SEQ_H
#define CLIENT_LIB_SEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvd/kvd.h>
#include "client-lib/hold.h"
#include "client-lib/retire.h"
#include "client-lib/space.h"
#include "kernels/kernels.h"
#include "proto/name.h"

/* Positions fit what kernels and arithmetic here take. */
#define SEQ_MAX_TOKENS (1u << 30)

struct table {
	struct kv_page_ref *refs;	/* [nr] what kernels read */
	struct hold **holds;		/* [nr] NULL: absent, or not yet sealed */
	struct hold **opens;		/* [nr] NULL: none */
	struct flag **refused;		/* [nr] NULL: no quantizing under way */
	uint32_t nr;
	uint32_t room;
	uint32_t nr_gone;		/* leading entries that left the window */
	uint32_t open_from;		/* blocks below have no open page */
	uint32_t *stored;		/* [layers] positions below have K, V */
	uint32_t *sealed;		/* [layers] positions below, in full
					 * blocks, are quantized */
};

struct kvd_seq {
	struct kvd_space *sp;
	LIST_ENTRY(kvd_seq) link;
	struct name extra;
	uint32_t priority;	/* it is published with */
	bool no_publish;
	bool no_partial;	/* a match ends with a page, */
	bool partial_inexact;	/* or within one of which only the quantized
				 * form is there */
	bool stale;		/* pages were lost */
	bool closing;		/* freed; all its work is before event */
	bool poisoned;		/* nothing is published from the block on that
				 * was the first unsettled one: */
	uint32_t poison_block;
	uint32_t private_block;	/* nothing is published from it on: its tokens
				 * were quantized twice */
	bool inexact_lag;	/* the newest page matched has no exact copy */
	struct flag *flag;
	uint64_t mark;		/* space's mark of the last batch it was in */
	kvd_stream stream;	/* last used */
	struct kvd_batch *batch; /* whose last set it is in, or NULL, */
	uint32_t batch_item;	/* and where */
	bool pinned;		/* the block of this name: */
	struct name pin;
	LIST_ENTRY(kvd_seq) of_flights; /* kvd.flights, while flight is set */
	uint64_t flight;	/* its announcement, of blocks that end */
	uint32_t flight_end;	/* before this one; 0: none */
	struct match_wait *wait; /* a match that goes on, or NULL */
	kvd_stream match_stream; /* in which a match copies */
	uint32_t nr_copied;	/* tokens that it copied */

	uint32_t *tokens;	/* [nr_tokens] committed */
	struct name *names;	/* [nr_settled] at least */
	uint32_t nr_tokens;
	uint32_t room_blocks;	/* of tokens and names */
	uint32_t nr_settled;	/* blocks */

	struct device_event *event; /* of the work up to event_tokens */
	bool waiting;		    /* event is set (NULL is an event too) */
	uint32_t event_tokens;

	struct table tables[KVD_MAX_GROUPS];
};

static inline uint32_t blocks_of(const struct kvd_space *sp, uint32_t tokens)
{
	uint32_t p = space_page_tokens(sp);

	return (tokens + p - 1) / p;
}

/**
 * seq_first() - first block that a query at position @tokens can see
 *
 * Blocks before it are out of the window of @group for good.
 */
static inline uint32_t seq_first(const struct kvd_space *sp, uint32_t group,
				 uint32_t tokens)
{
	uint32_t window = sp->opts.geometry.groups[group].window;

	if (!window || tokens + 1 <= window)
		return 0;
	return (tokens + 1 - window) / space_page_tokens(sp);
}

/* Fails with a text when the sequence cannot be used: -ESTALE. */
int seq_usable(struct kvd_seq *seq);

/* Looks whether a page of the sequence has become stale. */
void seq_check_stale(struct kvd_seq *seq);

/* Room for @tokens committed tokens and their names. 0 or -ENOMEM. */
int seq_room(struct kvd_seq *seq, uint32_t tokens);

/* Pages of one group for positions below @tokens; as stock_take(). */
int seq_reserve(struct kvd_seq *seq, uint32_t group, uint32_t tokens);

/* K and V below @end are there, or will be; @sealed: full pages are sealed. */
void seq_vouch(struct kvd_seq *seq, uint32_t group, uint32_t end, bool sealed);

/* Sets entry @i of the group's table, within nr. NULL: absent. */
void table_set(struct kvd_seq *seq, uint32_t group, uint32_t i,
	       struct hold *h);

/* How kernels find page @h of a group; NULL: nowhere. */
struct kv_page_ref page_ref(uint32_t group, const struct hold *h);

/* The page that block @i of a group is appended to. */
static inline struct hold *table_append(const struct table *t, uint32_t i)
{
	return t->opens[i] ? t->opens[i] : t->holds[i];
}

/* Room for @nr entries. 0 or -ENOMEM. */
int table_room(struct table *t, uint32_t nr);

/* May the sequence write to this page? */
static inline bool hold_writable(const struct hold *h)
{
	return !h->sealed && h->refs == 1;
}

/* Takes entries from @nr on out of the table, into retirement. */
void table_cut(struct kvd_seq *seq, struct table *t, uint32_t nr);

/**
 * seal_append() - quantize what an append of @args filled
 * @args:	items whose K and V are in place up to their last token
 *
 * Return: 0, -ENOMEM, -EIO.
 */
int seal_append(struct kvd_space *sp, const struct batch_args *args,
		kvd_stream stream);

/**
 * seal_list() - what an append of @it will fill, for who quantizes it then
 * @pages:	[nr] filled
 * @flags:	[nr] filled: to be set where a page cannot be quantized; a use
 *		of each is the caller's
 *
 * Return: nr, which is no more than rows or blocks + 1; -ENOMEM, and @flags
 * has NULL after those that are the caller's.
 */
int seal_list(const struct kvd_item *it, uint32_t group,
	      struct kv_convert_page *pages, struct flag **flags);

/*
 * The same for all layers of full blocks below @tokens: for who writes pages
 * with kernels of his own.
 */
int seal_upto(struct kvd_seq *seq, uint32_t tokens, kvd_stream stream);

/* Block @i of a group into @to, which can be appended to: all its layers. */
int seal_undo(struct kvd_seq *seq, uint32_t group, uint32_t i,
	      const struct hold *to, kvd_stream stream);

/* What became of the full blocks below @tokens, whose work is done. */
void seal_settle(struct kvd_seq *seq, uint32_t tokens);

/* Lets go of the flag of block @i, which work under way may yet set. */
void seal_unflag(struct kvd_seq *seq, struct table *t, uint32_t i);

/* Lets go of open pages that no token to come will see. */
void seal_trim(struct kvd_seq *seq);

/* Is of block @i only a page left that cannot be appended to: sealed whole, or
 * demoted? */
bool seal_only(const struct kvd_seq *seq, uint32_t group, uint32_t i);

/* Will the next token see the newest full block other than the law says? */
bool seal_lag_lost(const struct kvd_seq *seq);

/**
 * seq_cut() - the committed tokens end at @n, within what the tables have
 *
 * A page that @n cuts and the sequence cannot write to is copied: @stream is
 * then the last it used. Return: as kvd_truncate(); nothing has changed then.
 */
int seq_cut(struct kvd_seq *seq, uint32_t n, kvd_stream stream);

/* Rows from @n on are gone in every layer, and with them their NaNs. */
void seq_forget(struct kvd_seq *seq, uint32_t n);

/* Forgets a mark in the stream that is not wanted any more. */
void seq_unwait(struct kvd_seq *seq);

/**
 * seqs_close() - settle sequences that were freed too early, let them go
 * @wait:	for the device, and leave none
 */
void seqs_close(struct kvd_space *sp, bool wait);

/**
 * seq_settle() - publish full blocks, give back what left the windows
 *
 * Does what the device's progress allows; never waits for it, nor for a lost
 * daemon. Return: 0, also when there is more to do later; -ENOTCONN, -ESTALE,
 * -EIO, or the daemon's refusal.
 */
int seq_settle(struct kvd_seq *seq);

#endif
