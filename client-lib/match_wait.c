// SPDX-License-Identifier: Apache-2.0
/*
 * match_wait.c - a match that waits for what others are computing.
 *
 * A match that ends at a block that is not in the index says to the daemon
 * which blocks it wants: those are announced as this sequence's to compute, or
 * are coming, and then it waits. Each time there is more it begins anew; pages
 * that it had stay held meanwhile, apart from the sequence, so that nobody
 * loses them and none is asked for twice. Between two steps the sequence is as
 * empty as it was.
 *
 * The daemon's word is a hint: whatever it says, the index decides. Where that
 * does not go on though it should, the match ends after MAX_TRIES.
 */
#include <errno.h>
#include <stdlib.h>
#include "client-lib/call.h"
#include "client-lib/clock.h"
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/flight.h"
#include "client-lib/match.h"

#define MAX_TRIES 8

static const struct name root; /* parent of every first block */

struct match_wait {
	LIST_ENTRY(match_wait) link; /* kvd.waits */
	struct match m;
	uint64_t end_ns;
	uint32_t id;		/* of the wait that goes on; 0: none */
	bool told;		/* it is over, */
	bool late;		/* and its time is */
	bool again;		/* it is not the first */
	uint32_t coming;	/* blocks, when it was last asked */
	uint32_t most;		/* blocks that were found */
	uint32_t nr_tries;	/* since that was more */
	struct hold **kept;	/* of blocks found, while none are in the
				 * tables */
	uint32_t nr_kept;
};

/* ---- pages between two steps ---- */

static void kept_add(struct match_wait *w, struct hold *h)
{
	if (h)
		w->kept[w->nr_kept++] = hold_get(h);
}

/* Keeps what is in the tables. -ENOMEM: it does not. */
static int wait_keep(struct match_wait *w)
{
	struct kvd_seq *seq = w->m.seq;
	size_t nr = 0;

	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++)
		nr += 2 * seq->tables[g].nr;
	w->kept = nr ? malloc(nr * sizeof(struct hold *)) : NULL;
	if (nr && !w->kept)
		return fail(seq->sp->k, -ENOMEM, "out of memory");
	for (uint32_t g = 0; g < space_nr_groups(seq->sp); g++)
		for (uint32_t i = 0; i < seq->tables[g].nr; i++) {
			kept_add(w, seq->tables[g].holds[i]);
			kept_add(w, seq->tables[g].opens[i]);
		}
	return 0;
}

static void wait_unkeep(struct match_wait *w)
{
	while (w->nr_kept)
		hold_put(w->kept[--w->nr_kept]);
	free(w->kept);
	w->kept = NULL;
}

/* ---- asking ---- */

/* Names of the @nr blocks after those found, which have theirs. */
static void wait_name(struct match_wait *w, uint32_t nr)
{
	struct kvd_seq *seq = w->m.seq;
	uint32_t p = space_page_tokens(seq->sp);

	for (uint32_t i = w->m.nr_found; nr; i++, nr--)
		seq->names[i] = name_block(&seq->sp->key,
					   i ? &seq->names[i - 1] : &root,
					   &seq->extra,
					   w->m.tokens + (size_t)i * p, p);
}

static uint32_t wait_left_ms(const struct match_wait *w)
{
	uint64_t now_ns = clock_ns();

	if (now_ns >= w->end_ns)
		return 0;
	return (uint32_t)((w->end_ns - now_ns) / NSEC_PER_MSEC) + 1;
}

/* Asks for the blocks after those found. */
static int wait_ask(struct match_wait *w, struct flight_told *told)
{
	struct kvd_seq *seq = w->m.seq;
	uint32_t nr = w->m.nr_max - w->m.nr_found;
	struct flight_ask ask = {
		.names = seq->names + w->m.nr_found,
		.nr = nr < WIRE_MAX_NAMES ? nr : WIRE_MAX_NAMES,
		.depth = w->m.nr_found,
		.wait_ms = wait_left_ms(w),
		.announce = !seq->no_publish && !seq->sp->opts.read_only,
		.again = w->again,
	};

	*told = (struct flight_told){ .state = WIRE_FLIGHT_NONE };
	if (!ask.wait_ms && !ask.announce)
		return 0;
	wait_name(w, ask.nr);
	return request_flight(seq->sp, &ask, told);
}

/* Is there anything that one could ask for, or has it been asked enough? */
static bool wait_goes_on(struct match_wait *w)
{
	if (w->m.nr_found > w->most) {
		w->most = w->m.nr_found;
		w->nr_tries = 0;
	}
	return !w->late && w->m.nr_found < w->m.nr_max &&
	       w->nr_tries++ < MAX_TRIES;
}

enum then { ENDED, WAITS, SEARCHES };

/* The event that ends wait @told->wait is awaited. */
static enum then wait_begin(struct match_wait *w,
			    const struct flight_told *told)
{
	w->coming = told->blocks;
	w->id = told->wait;
	w->told = false;
	w->again = true;
	w->nr_tries = 0;
	return w->id ? WAITS : ENDED;
}

/* What is to be done after a search. */
static enum then wait_decide(struct match_wait *w)
{
	struct kvd *k = w->m.seq->sp->k;
	struct flight_told told;

	if (!wait_goes_on(w))
		return ENDED;
	if (w->m.nr < w->m.nr_found) /* some may have gone just now */
		return w->nr_tries > 1 ? ENDED : SEARCHES;
	if (wait_ask(w, &told)) /* refused: then without */
		return k->fd < 0 ? SEARCHES : ENDED;
	switch (told.state) {
	case WIRE_FLIGHT_OURS:
		if (told.flight)
			flight_begin(w->m.seq, told.flight, w->m.nr_found,
				     told.blocks);
		return ENDED;
	case WIRE_FLIGHT_COMING:
		return wait_begin(w, &told);
	case WIRE_FLIGHT_HERE:
		return SEARCHES;
	default:
		return ENDED;
	}
}

/* ---- steps ---- */

static void wait_free(struct match_wait *w)
{
	LIST_REMOVE(w, link);
	w->m.seq->wait = NULL;
	wait_unkeep(w);
	match_free(&w->m);
	free(w);
}

/* Searches until it has ended or is to wait. */
static int wait_step(struct match_wait *w, enum then *ret_then)
{
	uint64_t end_ns = conn_deadline_ns(w->m.seq->sp->k);
	struct asks asks;
	int r;

	w->m.asks = &asks;
	w->id = 0;
	do {
		r = match_find(&w->m, end_ns);
		wait_unkeep(w);
		*ret_then = r ? ENDED : wait_decide(w);
		if (*ret_then != ENDED) {
			r = wait_keep(w);
			match_undo(&w->m);
		}
	} while (!r && *ret_then == SEARCHES);
	return r;
}

static int wait_state(const struct match_wait *w, size_t *ret_hit,
		      size_t *ret_coming)
{
	uint32_t p = space_page_tokens(w->m.seq->sp);

	*ret_hit = (size_t)w->m.nr * p;
	*ret_coming = (size_t)w->coming * p;
	return -EAGAIN;
}

/* A step; and the end of it, if that is what it comes to. */
static int wait_run(struct match_wait *w, size_t *ret_hit, size_t *ret_coming)
{
	struct kvd_seq *seq = w->m.seq;
	enum then then;
	int r = wait_step(w, &then);

	if (!r && then == WAITS)
		return wait_state(w, ret_hit, ret_coming);
	if (!r)
		r = match_done(&w->m, ret_hit);
	if (r)
		flight_end(seq);
	else
		*ret_coming = 0;
	match_wait_end(seq);
	return r;
}

static int wait_new(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		    uint32_t wait_ms)
{
	struct match_wait *w;
	int r;

	r = match_check(seq, tokens, n);
	if (r)
		return r;
	match_wait_end(seq);
	flight_end(seq);
	w = calloc(1, sizeof(*w));
	if (!w)
		return fail(seq->sp->k, -ENOMEM, "out of memory");
	r = match_init(&w->m, seq, tokens, n);
	if (r) {
		match_free(&w->m);
		free(w);
		return r;
	}
	w->end_ns = clock_ns() + wait_ms * NSEC_PER_MSEC;
	seq->wait = w;
	LIST_INSERT_HEAD(&seq->sp->k->waits, w, link);
	return 0;
}

/* ---- its end, from outside ---- */

void match_wait_end(struct kvd_seq *seq)
{
	struct kvd *k = seq->sp->k;
	struct match_wait *w = seq->wait;
	uint32_t id;

	if (!w)
		return;
	id = w->told ? 0 : w->id;
	wait_free(w);
	if (id && k->fd >= 0)
		request_flight_end(k, 0, id);
}

void match_wait_told(struct kvd *k, uint32_t wait, bool late)
{
	struct match_wait *w;

	LIST_FOREACH(w, &k->waits, link)
		if (w->id && (!wait || w->id == wait)) {
			w->told = true;
			w->late = late;
		}
}

/* ---- calls ---- */

int kvd_seq_match_begin(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
			uint32_t wait_ms, size_t *ret_hit, size_t *ret_coming)
{
	int r = wait_new(seq, tokens, n, wait_ms);

	return r ? r : wait_run(seq->wait, ret_hit, ret_coming);
}

int kvd_seq_match_next(struct kvd_seq *seq, size_t *ret_hit, size_t *ret_coming)
{
	struct match_wait *w = seq->wait;
	struct kvd *k = seq->sp->k;
	int r;

	if (!w)
		return fail(k, -EINVAL, "no match of the sequence goes on");
	r = match_check(seq, w->m.tokens, w->m.nr_tokens);
	if (r)
		return r;
	if (!w->told && k->fd >= 0)
		call_events(k);
	if (w->told)
		return wait_run(w, ret_hit, ret_coming);
	return wait_state(w, ret_hit, ret_coming);
}

/*
 * It would hold up those who wait for what this connection has announced, so
 * then it does not wait: they might be who it waits for.
 */
int kvd_seq_match_wait(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		       uint32_t wait_ms, size_t *ret_hit)
{
	struct kvd *k = seq->sp->k;
	size_t coming;
	int r;

	r = wait_new(seq, tokens, n, 0);
	if (r)
		return r;
	if (LIST_EMPTY(&k->flights))
		seq->wait->end_ns += wait_ms * NSEC_PER_MSEC;
	r = wait_run(seq->wait, ret_hit, &coming);
	while (seq->wait) {
		struct match_wait *w = seq->wait;

		call_event_wait(k, &w->told, w->end_ns +
					     k->timeout_ms * NSEC_PER_MSEC);
		if (!w->told) { /* nor is the connection lost: overdue */
			w->told = w->late = true;
			request_flight_end(k, 0, w->id);
		}
		r = wait_run(w, ret_hit, &coming);
	}
	return r;
}
