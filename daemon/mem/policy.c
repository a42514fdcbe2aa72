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

/* Those released together stand with the deepest first: see page_settle(). */
struct shelf {
	struct list pages;
};

static struct shelf *lru_new(uint64_t nr_pages, struct ghosts *ghosts)
{
	struct shelf *s = malloc(sizeof(*s));

	(void)nr_pages;
	(void)ghosts;
	if (s)
		list_init(&s->pages);
	return s;
}

static void lru_free(struct shelf *s)
{
	free(s);
}

static void lru_put(struct shelf *s, struct page *p)
{
	list_add_tail(&s->pages, &p->link);
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

static struct page *lru_next(struct shelf *s)
{
	return list_empty(&s->pages) ? NULL :
				       list_first(&s->pages, struct page, link);
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
	list_for_each(pos, &s->pages)
		if (!look(list_entry(pos, struct page, link), ctx))
			break;
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
