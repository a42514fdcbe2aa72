/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_density.c - the page goes first of which the fewest uses are to be
 * expected for the room and time it takes: reuse.h.
 *
 * Pages that nothing follows stand in spans, by kind and by when they were
 * released (util/spans.h); others wait in a list of their own until what
 * follows them is gone, and go before the rest of their span then: a prefix is
 * given up from its end. A step is a sixteenth of the pages that pool and tiers
 * keep, taken.
 *
 * Pages that a tier was asked for (page.awaited) are about to be used, which
 * has been counted: they stand aside, for a step or two, and go last.
 *
 * Of pages that are given up the names are remembered (ghost.h). One that is
 * published again had been worth keeping: its wait ends then, and it counts as
 * used.
 */
#include <stdlib.h>
#include "daemon/mem/ghost.h"
#include "daemon/mem/page.h"
#include "daemon/mem/policy.h"
#include "daemon/mem/reuse.h"
#include "daemon/tier/tier.h"
#include "daemon/util/spans.h"

#define SHELF_STEPS 16u	/* one such part of the pages kept is a step */
#define AWAIT_MOVES 8

_Static_assert(REUSE_KINDS <= GHOST_KINDS, "a ghost says of which kind it was");
_Static_assert(REUSE_KINDS == SPANS_KINDS, "a span has pages of one kind");

/* What is learned; the tiers go by it too. */
struct density {
	struct tier_value value;
	struct reuse reuse;
};

struct shelf {
	struct spans spans;
	struct list followed;	/* as they were released */
	struct list awaited[2];	/* this step's and the last one's */
	struct density *d;
	struct ghosts *ghosts;
	uint64_t salt;		/* of its names there */
};

/* Uses to be expected for each tick. */
static double density_of(const struct spans_worth *w, uint32_t kind,
			 uint64_t age)
{
	const struct reuse *r =
		&((const struct density *)(const void *)w)->reuse;

	return r->worth[kind][reuse_age(r, age)] / r->unit;
}

static struct reuse *shelf_reuse(struct shelf *s)
{
	return &s->d->reuse;
}

static uint32_t page_kind(const struct page *p)
{
	return p->uses < REUSE_KINDS - 1 ? p->uses : REUSE_KINDS - 1;
}

/* @first: before the others of its span. */
static void shelf_list(struct shelf *s, struct page *p, bool first)
{
	if (p->awaited)
		list_add_tail(&s->awaited[0], &p->link);
	else if (page_is_followed(p))
		list_add_tail(&s->followed, &p->link);
	else
		spans_add(&s->spans, &p->link, page_kind(p), p->stamp, first);
}

/* Nobody has come for those of the last step: they wait as others do. A few of
 * them with each page that is put. */
static void shelf_await_no_more(struct shelf *s)
{
	for (int i = 0; i < AWAIT_MOVES && !list_empty(&s->awaited[1]); i++) {
		struct page *p = list_first(&s->awaited[1], struct page, link);

		p->awaited = false;
		reuse_wait(shelf_reuse(page_home(p)), page_kind(p));
		list_del(&p->link);
		shelf_list(s, p, false);
	}
}

/* What was learned in the last step tells in the next. */
static void shelf_step(struct shelf *s, uint64_t now)
{
	reuse_learn(shelf_reuse(s));
	spans_step(&s->spans, now, &s->d->value.worth);
	if (list_empty(&s->awaited[1]))
		list_splice_tail(&s->awaited[1], &s->awaited[0]);
}

static struct density *density_make(uint64_t nr_pages)
{
	struct density *d = malloc(sizeof(*d));

	if (!d)
		return NULL;
	d->value = (struct tier_value){
		.worth.of = density_of,
		.step = nr_pages / SHELF_STEPS + 1,
		.refs = 1,
	};
	reuse_init(&d->reuse, nr_pages);
	return d;
}

static struct shelf *density_new(uint64_t nr_pages, uint64_t nr_kept,
				 struct ghosts *ghosts)
{
	struct shelf *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	s->d = density_make(nr_kept);
	if (!s->d) {
		free(s);
		return NULL;
	}
	list_init(&s->followed);
	list_init(&s->awaited[0]);
	list_init(&s->awaited[1]);
	spans_init(&s->spans, s->d->value.step, &s->d->value.worth);
	s->ghosts = ghosts;
	s->salt = ghosts_salt(ghosts);
	return s;
}

static void density_free(struct shelf *s)
{
	tier_value_put(&s->d->value);
	free(s);
}

static void density_put(struct shelf *s, struct page *p)
{
	if (spans_step_is_due(&s->spans, p->stamp))
		shelf_step(s, p->stamp);
	shelf_await_no_more(s);
	if (!p->demoting && !p->awaited) /* else it has begun before */
		reuse_wait(shelf_reuse(page_home(p)), page_kind(p));
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
		reuse_use(shelf_reuse(s), page_kind(p), now - p->stamp);
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
	reuse_use(shelf_reuse(s), kind, age);
	p->uses = (uint8_t)(kind + !p->awaited);
}

static void density_followed(struct shelf *s, struct page *p)
{
	list_del(&p->link);
	shelf_list(s, p, true);
}

static struct page *density_next(struct shelf *s)
{
	struct list *const last[] = { &s->followed, &s->awaited[1],
				      &s->awaited[0] };
	double worth;
	struct list *pos = spans_next(&s->spans, &worth);

	for (uint32_t i = 0; !pos && i < sizeof(last) / sizeof(last[0]); i++)
		if (!list_empty(last[i]))
			pos = last[i]->next;
	return pos ? list_entry(pos, struct page, link) : NULL;
}

/* Uses for bytes and ticks. Doubles that are not negative are in the order of
 * their bits. */
static uint64_t density_worth(struct shelf *s, const struct page *p,
			      uint64_t now)
{
	const struct spans_worth *w = &page_home(p)->d->value.worth;
	union {
		double d;
		uint64_t u;
	} worth;
	uint64_t age = now > p->stamp ? now - p->stamp : 0;

	(void)s;
	worth.d = w->of(w, page_kind(p), age) / page_bytes(p);
	return worth.u;
}

struct walk {
	bool (*look)(struct page *p, void *ctx);
	void *ctx;
};

static bool walk_node(struct list *pos, void *walk)
{
	const struct walk *w = walk;

	return w->look(list_entry(pos, struct page, link), w->ctx);
}

static bool walk_list(struct list *pages, struct walk *w)
{
	list_for_each(pos, pages)
		if (!walk_node(pos, w))
			return false;
	return true;
}

static void density_walk(struct shelf *s,
			 bool (*look)(struct page *p, void *ctx), void *ctx)
{
	struct walk w = { look, ctx };

	if (spans_walk(&s->spans, walk_node, &w) &&
	    walk_list(&s->followed, &w) && walk_list(&s->awaited[1], &w))
		walk_list(&s->awaited[0], &w);
}

static struct tier_value *density_value(struct shelf *home,
					const struct page *p,
					uint32_t *ret_kind)
{
	*ret_kind = page_kind(p);
	return &home->d->value;
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
	.value = density_value,
};
