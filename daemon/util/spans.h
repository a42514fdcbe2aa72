/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spans.h - which of many things is worth least, by kind and by age.
 *
 * A thing stands in a span: with those of its kind that were last used at
 * about the same time. What a span is worth is asked for once a step, and all
 * in it are worth that. Old spans are joined, each being narrow beside its age,
 * so there are never many: adding and taking a thing is O(1), finding the one
 * that is worth least is bounded by the spans.
 *
 * Time is whatever the caller counts, and never goes back.
 */
#ifndef DAEMON_UTIL_SPANS_H
#define DAEMON_UTIL_SPANS_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/util/list.h"

#define SPANS_KINDS 4u
#define SPANS_MAX   96u	/* of a kind */

struct span {
	struct list all;	/* in the order in which they go */
	uint64_t begin, end;	/* last used: [begin, end) */
	double worth;
};

struct spans {
	struct {
		struct span spans[SPANS_MAX]; /* oldest first */
		uint32_t nr;
	} kinds[SPANS_KINDS];
	struct span *next;	/* the one worth least; NULL: to be found */
	uint64_t step, step_at;
};

/* Of one kind at an age; any unit, the same for all. */
struct spans_worth {
	double (*of)(const struct spans_worth *w, uint32_t kind, uint64_t age);
};

/* A new step begins after each @step. */
void spans_init(struct spans *s, uint64_t step, const struct spans_worth *w);

static inline bool spans_step_is_due(const struct spans *s, uint64_t now)
{
	return now >= s->step_at;
}

/* What all are worth from here on. */
void spans_step(struct spans *s, uint64_t now, const struct spans_worth *w);

/* @node, of a thing that was last used @at; @first: before others of its span.
 * It is taken out with list_del(). */
void spans_add(struct spans *s, struct list *node, uint32_t kind, uint64_t at,
	       bool first);

/* The one that goes next, and what it is worth; NULL: there is none. */
struct list *spans_next(struct spans *s, double *ret_worth);

/* Calls @look for each in the order in which they go, until it returns false.
 * It must take none out. Return: it did not. */
bool spans_walk(struct spans *s, bool (*look)(struct list *node, void *ctx),
		void *ctx);

#endif
