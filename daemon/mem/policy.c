/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - the policies there are, and the simplest of them: the page that
 * was used longest ago goes first.
 */
#include "daemon/mem/policy.h"

#include <stdlib.h>
#include <string.h>
#include "daemon/mem/page.h"

const struct policy *policy_find(const char *name)
{
	static const struct policy *const all[] = {
		&policy_density, &policy_lru, &policy_s3fifo,
	};

	if (!name[0])
		return all[0];
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
}

/* ---- lru ---- */

/*
 * Those released together stand with the deepest first: see page_settle().
 * Demoted pages come later than they were released, and stand apart.
 */
struct shelf {
	struct list pages, demoted;
};

static struct shelf *lru_new(uint64_t nr_pages, uint64_t nr_kept,
			     struct ghosts *ghosts)
{
	struct shelf *s = malloc(sizeof(*s));

	(void)nr_pages;
	(void)ghosts;
	if (s) {
		list_init(&s->pages);
		list_init(&s->demoted);
	}
	return s;
}

static void lru_free(struct shelf *s)
{
	free(s);
}

static void lru_put(struct shelf *s, struct page *p)
{
	list_add_tail(p->demoting ? &s->demoted : &s->pages, &p->link);
}

static void lru_take(struct shelf *s, struct page *p, bool used)
{
	(void)s;
	(void)used;
	list_del(&p->link);
}

static void lru_named(struct shelf *s, struct page *p)
{
	(void)s;
	(void)p;
}

/* Which of two positions goes first; either may be at the end of its list. */
static struct list *lru_first(struct shelf *s, struct list *a, struct list *b)
{
	const struct page *x = list_entry(a, struct page, link);
	const struct page *y = list_entry(b, struct page, link);

	if (a == &s->pages || b == &s->demoted)
		return a == &s->pages ? b : a;
	if (x->stamp != y->stamp)
		return x->stamp < y->stamp ? a : b;
	return x->depth > y->depth ? a : b;
}

static struct page *lru_next(struct shelf *s)
{
	struct list *pos = lru_first(s, s->pages.next, s->demoted.next);

	return pos == &s->demoted ? NULL : list_entry(pos, struct page, link);
}

static uint64_t lru_worth(struct shelf *s, const struct page *p, uint64_t now)
{
	(void)s;
	(void)now;
	return p->stamp;
}

static void lru_walk(struct shelf *s, bool (*look)(struct page *p, void *ctx),
		     void *ctx)
{
	struct list *a = s->pages.next, *b = s->demoted.next;

	for (;;) {
		struct list *pos = lru_first(s, a, b);

		if (pos == &s->demoted ||
		    !look(list_entry(pos, struct page, link), ctx))
			break;
		if (pos == a)
			a = a->next;
		else
			b = b->next;
	}
}

const struct policy policy_lru = {
	.name = "lru",
	.shelf_new = lru_new,
	.shelf_free = lru_free,
	.put = lru_put,
	.take = lru_take,
	.named = lru_named,
	.next = lru_next,
	.worth = lru_worth,
	.walk = lru_walk,
};
