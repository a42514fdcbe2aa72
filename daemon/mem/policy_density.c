/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_density.c - the page goes first of which the fewest uses are to be
 * expected for the room and time it takes: reuse.h.
 *
 * Pages that nothing follows stand in spans, by kind and by when they were
 * released; others wait in a list of their own until what follows them is
 * gone, and go before the rest of their span then: a prefix is given up from
 * its end. A span is worth what its kind at its age is; that is looked up
 * anew once a step, a sixteenth of the pool's pages taken. Old spans are joined,
 * each being narrow beside its age, so there are never many: putting and
 * taking a page is O(1), finding the next is bounded by the spans.
 *
 * Pages that a tier was asked for (page.awaited) are about to be used, which
 * has been counted: they stand aside, for a step or two, and go last.
 *
 * Of pages that are given up the names are remembered (ghost.h). One that is
 * published again had been worth keeping: its wait ends then, and it counts as
 * used.
 */
#include <assert.h>
#include <stdlib.h>
#include "daemon/mem/ghost.h"
#include "daemon/mem/page.h"
#include "daemon/mem/policy.h"
#include "daemon/mem/reuse.h"

#define SPANS	   96u	 /* of a kind, at most */
#define SPAN_STEPS 16u	 /* one such part of the pool's pages is a step */
#define SPAN_WIDTH 8u	 /* spans are joined up to this part of their age */

_Static_assert(REUSE_KINDS <= GHOST_KINDS, "a ghost says of which kind it was");

struct span {
	struct list pages;
	uint64_t begin, end;	/* stamps: [begin, end) */
	double worth;
};

struct kind {
	struct span spans[SPANS]; /* oldest first */
	uint32_t nr;
};

struct shelf {
	struct kind kinds[REUSE_KINDS];
	struct list followed;	/* as they were released */
	struct list awaited[2];	/* this step's and the last one's */
	struct span *next;	/* the one worth least; NULL: to be found */
	struct reuse reuse;
	struct ghosts *ghosts;
	uint64_t salt;		/* of its names there */
	uint64_t step, step_at;
};

/* ---- spans ---- */

static void span_move(struct span *to, struct span *from)
{
	list_init(&to->pages);
	list_splice_tail(&to->pages, &from->pages);
	to->begin = from->begin;
	to->end = from->end;
}

/* Joins neighbours that are narrow beside their age; @force: any. */
static void kind_join(struct kind *k, uint64_t now, bool force)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < k->nr; i++) {
		struct span *last = nr ? &k->spans[nr - 1] : NULL;
		struct span *s = &k->spans[i];

		if (last && (force || (s->end - last->begin) * SPAN_WIDTH <=
					      now - s->end)) {
			list_splice_tail(&last->pages, &s->pages);
			last->end = s->end;
			force = false;
		} else {
			if (nr != i)
				span_move(&k->spans[nr], s);
			nr++;
		}
	}
	k->nr = nr;
}

/* One more span, from @now on. */
static void kind_open(struct kind *k, uint64_t now)
{
	struct span *s;

	kind_join(k, now, false);
	if (k->nr == SPANS)
		kind_join(k, now, true);
	if (k->nr)
		k->spans[k->nr - 1].end = now;
	s = &k->spans[k->nr++];
	list_init(&s->pages);
	s->begin = now;
	s->end = UINT64_MAX;
}

/* The span of stamp @at; stamps before all are in the oldest. */
static struct span *kind_span(struct kind *k, uint64_t at)
{
	uint32_t low = 0, high = k->nr;

	while (high - low > 1) {
		uint32_t mid = (low + high) / 2;

		if (k->spans[mid].begin <= at)
			low = mid;
		else
			high = mid;
	}
	return &k->spans[low];
}

static double span_worth(const struct shelf *s, uint32_t kind,
			 const struct span *span, uint64_t now)
{
	uint64_t end = span->end < now ? span->end : now;

	return s->reuse.worth[kind][reuse_age(
		&s->reuse, now - (span->begin + (end - span->begin) / 2))];
}

static uint32_t page_kind(const struct page *p)
{
	return p->uses < REUSE_KINDS - 1 ? p->uses : REUSE_KINDS - 1;
}

static void shelf_list(struct shelf *s, struct page *p, bool first);

/* Nobody has come for those of the last step: they wait as others do. */
static void shelf_await_no_more(struct shelf *s)
{
	while (!list_empty(&s->awaited[1])) {
		struct page *p = list_first(&s->awaited[1], struct page, link);

		p->awaited = false;
		reuse_wait(&page_home(p)->reuse, page_kind(p));
		list_del(&p->link);
		shelf_list(s, p, false);
	}
	list_splice_tail(&s->awaited[1], &s->awaited[0]);
}

/* What was learned in the last step tells in the next. */
static void shelf_step(struct shelf *s, uint64_t now)
{
	reuse_learn(&s->reuse);
	for (uint32_t i = 0; i < REUSE_KINDS; i++) {
		struct kind *k = &s->kinds[i];

		kind_open(k, now);
		for (uint32_t j = 0; j < k->nr; j++)
			k->spans[j].worth =
				span_worth(s, i, &k->spans[j], now);
	}
	s->next = NULL;
	s->step_at = now + s->step;
	shelf_await_no_more(s);
}

/* ---- pages ---- */

/* @first: before the others of its span. */
static void shelf_list(struct shelf *s, struct page *p, bool first)
{
	struct span *span;

	if (p->awaited) {
		list_add_tail(&s->awaited[0], &p->link);
		return;
	}
	if (page_is_followed(p)) {
		list_add_tail(&s->followed, &p->link);
		return;
	}
	span = kind_span(&s->kinds[page_kind(p)], p->stamp);
	if (first)
		list_add(&span->pages, &p->link);
	else
		list_add_tail(&span->pages, &p->link);
	if (s->next && span->worth < s->next->worth)
		s->next = NULL;
}

static struct shelf *density_new(uint64_t nr_pages, struct ghosts *ghosts)
{
	struct shelf *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_init(&s->followed);
	list_init(&s->awaited[0]);
	list_init(&s->awaited[1]);
	reuse_init(&s->reuse, nr_pages);
	s->step = nr_pages / SPAN_STEPS + 1;
	s->ghosts = ghosts;
	s->salt = ghosts_salt(ghosts);
	shelf_step(s, 0);
	return s;
}

static void density_free(struct shelf *s)
{
	free(s);
}

static void density_put(struct shelf *s, struct page *p)
{
	if (p->stamp >= s->step_at)
		shelf_step(s, p->stamp);
	if (!p->demoting && !p->awaited) /* else it has begun before */
		reuse_wait(&page_home(p)->reuse, page_kind(p));
	shelf_list(s, p, false);
}

static uint64_t ghost_name(const struct shelf *s, const struct page *p)
{
	return name_hash(page_name(p)) ^ s->salt;
}

static void ghost_leave(const struct shelf *s, const struct page *p,
			uint64_t now)
{
	ghost_add(s->ghosts, ghost_name(s, p), p->stamp, page_kind(p), now);
}

static void density_take(struct shelf *s, struct page *p, bool used)
{
	uint64_t now = p->space->m->tick;

	list_del(&p->link);
	if (p->demoting)
		return;
	s = page_home(p);
	if (!used)
		ghost_leave(s, p, now);
	else if (!p->awaited)
		reuse_use(&s->reuse, page_kind(p), now - p->stamp);
}

/* One that was given up too early is as good as one that was found. */
static void density_named(struct shelf *s, struct page *p)
{
	uint64_t age;
	uint32_t kind;

	s = page_home(p);
	if (!ghost_take(s->ghosts, ghost_name(s, p), p->space->m->tick, &age,
			&kind))
		return;
	reuse_use(&s->reuse, kind, age);
	p->uses = (uint8_t)(kind + !p->awaited);
}

static void density_followed(struct shelf *s, struct page *p)
{
	list_del(&p->link);
	shelf_list(s, p, true);
}

/* Is @a given up before @b? */
static bool span_goes_before(const struct span *a, const struct span *b)
{
	return a->worth < b->worth ||
	       (a->worth == b->worth && a->begin < b->begin);
}

static struct span *shelf_next(struct shelf *s)
{
	struct span *next = NULL;

	for (uint32_t i = 0; i < REUSE_KINDS; i++) {
		struct kind *k = &s->kinds[i];

		for (uint32_t j = 0; j < k->nr; j++) {
			struct span *span = &k->spans[j];

			if (!list_empty(&span->pages) &&
			    (!next || span_goes_before(span, next)))
				next = span;
		}
	}
	return next;
}

static struct page *density_next(struct shelf *s)
{
	struct list *const last[] = { &s->followed, &s->awaited[1],
				      &s->awaited[0] };

	if (!s->next || list_empty(&s->next->pages))
		s->next = shelf_next(s);
	if (s->next)
		return list_first(&s->next->pages, struct page, link);
	for (uint32_t i = 0; i < sizeof(last) / sizeof(last[0]); i++)
		if (!list_empty(last[i]))
			return list_first(last[i], struct page, link);
	return NULL;
}

/* Uses for bytes and ticks. Doubles that are not negative are in the order of
 * their bits. */
static uint64_t density_worth(struct shelf *s, const struct page *p,
			      uint64_t now)
{
	const struct reuse *r = &page_home(p)->reuse;
	union {
		double d;
		uint64_t u;
	} worth;
	uint64_t age = now > p->stamp ? now - p->stamp : 0;

	(void)s;
	worth.d = r->worth[page_kind(p)][reuse_age(r, age)] /
		  (r->unit * page_bytes(p));
	return worth.u;
}

static bool list_walk(struct list *pages,
		      bool (*look)(struct page *p, void *ctx), void *ctx)
{
	list_for_each(pos, pages)
		if (!look(list_entry(pos, struct page, link), ctx))
			return false;
	return true;
}

/*
 * Spans in the order in which they go, the one that goes now being first: few
 * enough to search anew for each.
 */
static void density_walk(struct shelf *s,
			 bool (*look)(struct page *p, void *ctx), void *ctx)
{
	bool seen[REUSE_KINDS][SPANS] = { { false } };
	struct span *first = s->next;

	if (first && !list_walk(&first->pages, look, ctx))
		return;
	for (;;) {
		uint32_t kind = 0, nr = SPANS;

		for (uint32_t i = 0; i < REUSE_KINDS; i++)
			for (uint32_t j = 0; j < s->kinds[i].nr; j++)
				if (!seen[i][j] &&
				    (nr == SPANS ||
				     span_goes_before(
					     &s->kinds[i].spans[j],
					     &s->kinds[kind].spans[nr]))) {
					kind = i;
					nr = j;
				}
		if (nr == SPANS)
			break;
		seen[kind][nr] = true;
		if (&s->kinds[kind].spans[nr] != first &&
		    !list_walk(&s->kinds[kind].spans[nr].pages, look, ctx))
			return;
	}
	if (list_walk(&s->followed, look, ctx) &&
	    list_walk(&s->awaited[1], look, ctx))
		list_walk(&s->awaited[0], look, ctx);
}

const struct policy policy_density = {
	.name = "density",
	.shelf_new = density_new,
	.shelf_free = density_free,
	.put = density_put,
	.take = density_take,
	.named = density_named,
	.followed = density_followed,
	.next = density_next,
	.worth = density_worth,
	.walk = density_walk,
};
