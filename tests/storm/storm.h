/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm.h - random operations by many clients of one daemon, all checked.
 *
 * K and V of a token are a function of the tokens up to it, so what a page has
 * to hold follows from the prefix it is found by, and from nothing else. That
 * prefix is a chain of hashes, one a token. Prompts are paths through a tree
 * that all clients share: a token follows from what is before it and a choice,
 * which is mostly the same.
 *
 * Each client is a process (storm_client.c, storm_crew.c) with one connection.
 * The storm (storm_test.c) lets all of them do some operations, waits until they
 * are done, and compares what they say they hold with what the daemon says.
 * tests/load does that once, with more of them, and keeps the time.
 */
#ifndef TESTS_STORM_STORM_H
#define TESTS_STORM_STORM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "client-lib/hold.h"
#include "client-lib/space.h"

#define STORM_TENANTS	 4
#define STORM_KINDS	 6
#define STORM_MAX_TOKENS 256u
#define STORM_MAX_HELD	 8192

#define STORM_OPS(X)                                                       \
	X(MATCH, "match")                                                  \
	X(APPEND, "append and commit")                                     \
	X(FORK, "fork")                                                    \
	X(TRUNCATE, "truncate")                                            \
	X(FREE, "free a sequence")                                         \
	X(RESERVE, "reserve")                                              \
	X(TAKE, "take loose pages")                                        \
	X(GIVE, "give loose pages back")                                   \
	X(PIN, "pin")                                                      \
	X(UNPIN, "unpin")                                                  \
	X(READ, "read back")                                               \
	X(PROCESS, "process, ping, info")                                  \
	X(SUBSCRIBE, "subscribe")                                          \
	X(STAT, "ask for figures")                                         \
	X(REOPEN, "close and open a space")                                \
	X(RECONNECT, "close and connect")                                  \
	X(TEAR, "tear the connection")                                     \
	X(ABANDON, "tear it, close, connect")                              \
	X(DIE, "kill the process")                                         \
	X(RECLAIM, "reclaim")                                              \
	X(DROP, "drop a space")                                            \
	X(LIMITS, "set limits")                                            \
	X(SURVEY, "survey an index")                                       \
	X(RESIZE, "resize the pool")

enum storm_op {
#define STORM_ENUM(name, text) STORM_##name,
	STORM_OPS(STORM_ENUM)
#undef STORM_ENUM
	STORM_NR_OPS
};

struct storm_held {
	handle_t handle;
	bool sealed;
};

/* What a client tells the storm; in memory of both. */
struct storm_report {
	uint64_t nr[STORM_NR_OPS];
	uint64_t refused;	/* -ENOSPC, -EDQUOT */
	uint64_t lost;		/* sequences whose pages were lost, by tearing
				 * or a restart */
	uint64_t tokens;	/* asked to match, */
	uint64_t hits;		/* found */
	uint64_t events;	/* told */
	uint64_t read;		/* pages compared, */
	uint64_t made;		/* of which were made again to compare with */
	uint32_t todo;		/* operations left in this round */
	uint32_t incarnation;
	uint32_t abandoned;	/* open pages that only its end gives back */
	bool dying;		/* on purpose */
	bool restart;		/* kvd may be killed in this round */
	uint32_t nr_held;
	struct storm_held held[STORM_MAX_HELD];
};

struct storm_options {
	uint64_t seed;
	const char *socket;
	const uint32_t *weights; /* [STORM_NR_OPS], NULL: the storm's own */
	uint32_t wait_ms;	/* of a match, for what is on its way; 0: none */
	bool (*pace)(void);	/* until the next operation is due. Return: the
				 * round is not over. NULL: as fast as it goes */
};

/* ---- storm_page.c ---- */

uint64_t storm_random(uint64_t *seed);

/* Below @n; a low number is more likely. */
uint32_t storm_zipf(uint64_t *seed, uint32_t n);

/* Of an empty prefix, of sequences with @extra. */
uint64_t storm_root(uint32_t extra);

/* The prefix @chain and @token after it. */
uint64_t storm_next(uint64_t chain, uint32_t token);

/* The token that follows @chain, if this is the choice. */
uint32_t storm_token(uint64_t chain, uint32_t choice);

/* K or V of the token that ends @chain, all heads of a layer. */
void storm_row(float *row, size_t n, uint64_t chain, uint32_t group,
	       uint32_t layer, bool is_v);

/* The geometry of a kind of space; STORM_KINDS of them. */
void storm_kind(uint32_t kind, struct kvd_space_opts *o);

/* The first @nr_rows rows of a page. */
struct storm_page {
	struct kvd_space *sp;
	const struct hold *hold;
	uint32_t group;
	const uint64_t *chain;	/* [nr_rows] of prefixes that end with each */
	uint32_t nr_rows;
	bool again;		/* make it, though its checksum is known */
	bool may_differ;	/* then say so, and do not abort */
};

/*
 * Compares a page, as this process reads it, with what its prefix says.
 * Return: 0; 1 it was made again; -EIO they differ.
 */
int storm_page_check(const struct storm_page *p);

/* ---- storm_crew.c ---- */

struct storm_mate {
	pid_t pid;
	int in, out;		/* our ends of its pipes */
	struct storm_report *report;
	bool busy;
};

struct storm_crew {
	const struct storm_options *o;
	int admin;		/* a connection that is not the clients' */
	uint32_t nr;
	struct storm_mate *mates;
};

/* Starts @c->nr clients: the tenants' users, where we are root. */
void crew_start(struct storm_crew *c);

/* Client @id does report->todo operations. */
void crew_go(struct storm_crew *c, uint32_t id);

/* Waits for whoever is done, those that have died on purpose are started
 * again; else aborts. Return: how many are busy still. */
unsigned crew_poll(struct storm_crew *c, int ms);

/* All close their connections and end. */
void crew_end(struct storm_crew *c);

/* Whose uid is tenant number @tenant. */
unsigned crew_uid(uint32_t tenant);

/* ---- storm_check.c ---- */

/* All that stands still. */
struct storm_world {
	const char *socket;
	int admin;		/* connection */
	uint64_t seed, pool_bytes; /* 0: that changes */
	const struct storm_crew *crew;
};

/*
 * Aborts where something does not add up. @again: kvd was killed since the
 * last time. Return: microseconds that the walker took.
 */
uint64_t storm_check(const struct storm_world *w, bool again);

/* ---- storm_client.c ---- */

/*
 * Client number @id, until it is told to end: reads one byte from @in for each
 * round, writes one to @out when report->todo operations are done.
 */
void storm_client(const struct storm_options *o, uint32_t id,
		  struct storm_report *report, int in, int out);

#endif
