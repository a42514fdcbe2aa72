/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spans.c - which of many things is worth least, by kind and by age.
 */
#include "daemon/util/spans.h"

#include <string.h>

#define SPAN_WIDTH 8u /* spans are joined up to this part of their age */

static void span_move(struct span *to, struct span *from)
{
	list_init(&to->all);
	list_splice_tail(&to->all, &from->all);
	to->begin = from->begin;
	to->end = from->end;
}

/* Joins neighbours that are narrow beside their age; @force: any. */
static void kind_join(struct spans *s, uint32_t kind, uint64_t now, bool force)
{
	struct span *spans = s->kinds[kind].spans;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < s->kinds[kind].nr; i++) {
		struct span *last = nr ? &spans[nr - 1] : NULL;
		struct span *it = &spans[i];

		if (last && (force || (it->end - last->begin) * SPAN_WIDTH <=
					      now - it->end)) {
			list_splice_tail(&last->all, &it->all);
			last->end = it->end;
			force = false;
		} else {
			if (nr != i)
				span_move(&spans[nr], it);
			nr++;
		}
	}
	s->kinds[kind].nr = nr;
}

/* One more span, from @now on. */
static void kind_open(struct spans *s, uint32_t kind, uint64_t now)
{
	struct span *spans = s->kinds[kind].spans, *it;

	kind_join(s, kind, now, false);
	if (s->kinds[kind].nr == SPANS_MAX)
		kind_join(s, kind, now, true);
	if (s->kinds[kind].nr)
		spans[s->kinds[kind].nr - 1].end = now;
	it = &spans[s->kinds[kind].nr++];
	list_init(&it->all);
	it->begin = now;
	it->end = UINT64_MAX;
}

/* The span of what was last used @at; before all it is the oldest. */
static struct span *kind_span(struct spans *s, uint32_t kind, uint64_t at)
{
	struct span *spans = s->kinds[kind].spans;
	uint32_t low = 0, high = s->kinds[kind].nr;

	while (high - low > 1) {
		uint32_t mid = (low + high) / 2;

		if (spans[mid].begin <= at)
			low = mid;
		else
			high = mid;
	}
	return &spans[low];
}

static double span_worth(const struct span *span, uint32_t kind, uint64_t now,
			 const struct spans_worth *w)
{
	uint64_t end = span->end < now ? span->end : now;

	return w->of(w, kind, now - (span->begin + (end - span->begin) / 2));
}

void spans_step(struct spans *s, uint64_t now, const struct spans_worth *w)
{
	for (uint32_t i = 0; i < SPANS_KINDS; i++) {
		kind_open(s, i, now);
		for (uint32_t j = 0; j < s->kinds[i].nr; j++) {
			struct span *span = &s->kinds[i].spans[j];

			span->worth = span_worth(span, i, now, w);
		}
	}
	s->next = NULL;
	s->step_at = now + s->step;
}

void spans_init(struct spans *s, uint64_t step, const struct spans_worth *w)
{
	memset(s, 0, sizeof(*s));
	s->step = step;
	spans_step(s, 0, w);
}

void spans_add(struct spans *s, struct list *node, uint32_t kind, uint64_t at,
	       bool first)
{
	struct span *span = kind_span(s, kind, at);

	if (first)
		list_add(&span->all, node);
	else
		list_add_tail(&span->all, node);
	if (s->next && span->worth < s->next->worth)
		s->next = NULL;
}

/* ---- the order ---- */

static bool span_goes_before(const struct span *a, const struct span *b)
{
	return a->worth < b->worth ||
	       (a->worth == b->worth && a->begin < b->begin);
}

static struct span *spans_find(struct spans *s)
{
	struct span *next = NULL;

	for (uint32_t i = 0; i < SPANS_KINDS; i++)
		for (uint32_t j = 0; j < s->kinds[i].nr; j++) {
			struct span *span = &s->kinds[i].spans[j];

			if (!list_empty(&span->all) &&
			    (!next || span_goes_before(span, next)))
				next = span;
		}
	return next;
}

struct list *spans_next(struct spans *s, double *ret_worth)
{
	if (!s->next || list_empty(&s->next->all))
		s->next = spans_find(s);
	if (!s->next)
		return NULL;
	*ret_worth = s->next->worth;
	return s->next->all.next;
}

static bool span_walk(struct span *span,
		      bool (*look)(struct list *node, void *ctx), void *ctx)
{
	list_for_each(pos, &span->all)
		if (!look(pos, ctx))
			return false;
	return true;
}

/* The one that goes first of those that are not @seen; NULL: all are. */
static struct span *spans_least(struct spans *s,
				bool seen[SPANS_KINDS][SPANS_MAX])
{
	struct span *least = NULL;
	bool *mark = NULL;

	for (uint32_t i = 0; i < SPANS_KINDS; i++)
		for (uint32_t j = 0; j < s->kinds[i].nr; j++) {
			struct span *span = &s->kinds[i].spans[j];

			if (seen[i][j] ||
			    (least && !span_goes_before(span, least)))
				continue;
			least = span;
			mark = &seen[i][j];
		}
	if (mark)
		*mark = true;
	return least;
}

/* Few enough to search anew for each. */
bool spans_walk(struct spans *s, bool (*look)(struct list *node, void *ctx),
		void *ctx)
{
	bool seen[SPANS_KINDS][SPANS_MAX] = { { false } };
	struct span *first = s->next, *span;

	if (first && !span_walk(first, look, ctx))
		return false;
	while ((span = spans_least(s, seen)))
		if (span != first && !span_walk(span, look, ctx))
			return false;
	return true;
}
