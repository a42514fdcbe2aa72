/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - one client of the storm, as its files share it.
 *
 * It has two spaces open, in each some sequences and loose pages. What it may
 * be refused is room; all else has to work, but that pages of sequences may be
 * lost while its connection is torn or kvd is killed, and only then.
 */
#ifndef TESTS_STORM_CLIENT_H
#define TESTS_STORM_CLIENT_H

#include "tests/storm/storm.h"

#define NR_VIEWS    2
#define NR_SEQS	    5	/* of a view */
#define NR_LOOSE    8

struct entry {
	struct kvd_seq *seq;	/* NULL: none */
	uint32_t nr_prompt;	/* tokens that are known; the rest is chosen */
	uint32_t tokens[STORM_MAX_TOKENS];
	uint64_t chain[STORM_MAX_TOKENS + 1];
};

struct view {
	struct kvd_space *sp;	/* NULL: none */
	uint32_t kind;
	struct entry entries[NR_SEQS];
	struct kvd_page loose[NR_LOOSE];
	uint32_t nr_loose;
};

struct storm {
	const struct storm_options *o;
	struct storm_report *report;
	uint32_t id;
	uint64_t rng;
	struct kvd *k;
	struct view views[NR_VIEWS];
	bool torn;		/* the connection, since the last settling */
	enum storm_op op;
};

extern struct storm s;

/* ---- storm_client.c ---- */

static inline uint32_t roll(uint32_t below)
{
	return (uint32_t)(storm_random(&s.rng) % below);
}

/* Its connection may have gone since it last settled. */
static inline bool shaken(void)
{
	return s.torn || s.report->restart;
}

/* Did the call that returned @r work? A refusal is counted; what must not be
 * ends the storm. */
bool worked(int r);

struct view *view_any(void);

/* ---- storm_seq.c ---- */

void entry_free(struct entry *e);

void op_match(void);
void op_append(void);
void op_fork(void);
void op_truncate(void);
void op_free(void);
void op_reserve(void);
void op_pin(void);
void op_unpin(void);
void op_read(void);

/* Loose pages. */
void op_take(void);
void op_give(void);

#endif
