/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.c - taking holds and giving them back.
 */
#include "daemon/mem/hold.h"

#include <assert.h>
#include <errno.h>

uint64_t hold_count(const struct mem_client *c, const struct page *p)
{
	const uint64_t *v = map_get(&c->holds, page_nr(p));

	return v ? *v : 0;
}

void hold_add(struct mem_client *c, struct page *p, uint64_t n)
{
	uint64_t *v = map_take(&c->holds, page_nr(p));

	assert(v);
	if (*v == 0)
		c->bytes += page_bytes(p);
	*v += n;
	p->holds += n;
}

void hold_drop(struct mem_client *c, struct page *p, uint64_t n)
{
	uint64_t *v = map_get(&c->holds, page_nr(p));

	assert(v && *v >= n && p->holds >= n);
	*v -= n;
	if (*v == 0) {
		map_del(&c->holds, page_nr(p));
		c->bytes -= page_bytes(p);
	}
	p->holds -= n;
}

void hold_sealed(struct mem_client *c, struct page *p, uint64_t n)
{
	if (p->state == PAGE_CACHED)
		page_wake(p);
	else
		list_del(&p->link); /* it may have been unclaimed */
	assert(p->state == PAGE_SEALED);
	hold_add(c, p, n);
}

/* ---- the last hold goes ---- */

void page_unheld(struct page *p, struct list *cold)
{
	if (p->holds)
		return;
	if (p->state == PAGE_SEALED && p->block)
		list_add_tail(cold, &p->link);
	else
		page_free(p);
}

static bool page_is_colder(const struct list *a, const struct list *b)
{
	return list_entry(a, struct page, link)->depth >
	       list_entry(b, struct page, link)->depth;
}

void page_settle(struct mem *m, struct list *cold)
{
	m->tick++;
	list_sort(cold, page_is_colder);
	list_for_each_safe(pos, cold)
		page_cache(list_entry(pos, struct page, link));
}

/* ---- calls ---- */

int mem_release(struct mem_client *c, const handle_t *handles, uint32_t nr,
		uint32_t *ret_released)
{
	struct list cold;
	uint32_t i;

	list_init(&cold);
	for (i = 0; i < nr; i++) {
		struct page *p = page_get(c->m, handles[i]);

		if (!p || !hold_count(c, p))
			break;
		hold_drop(c, p, 1);
		page_unheld(p, &cold);
	}
	page_settle(c->m, &cold);
	if (i)
		c->recalled = false;
	*ret_released = i;
	mem_tell_room(c->m);
	return i == nr ? 0 : -ESTALE;
}

/* Pages that will be looked at are on their way, then those they touch. */
#define MATCH_FAR  16u
#define MATCH_NEAR 8u
#define MATCH_MORE 4u /* as many holds again may follow, and again */

static void match_prefetch(const struct mem *m, const handle_t *handles,
			   uint32_t i, uint32_t nr)
{
	const struct page *p;

	if (i + MATCH_FAR < nr) {
		p = page_at(m, handles[i + MATCH_FAR]);
		__builtin_prefetch(p, 1);
		__builtin_prefetch((const char *)p + 64, 1);
		__builtin_prefetch((const char *)(p + 1) - 1, 1);
	}
	if (i + MATCH_NEAR < nr) {
		p = page_at(m, handles[i + MATCH_NEAR]);
		__builtin_prefetch(p->link.prev, 1);
		__builtin_prefetch(p->link.next, 1);
		__builtin_prefetch(p->slab);
	}
}

/*
 * Room for @nr more holds at once, where there is memory. Many are often
 * followed by more: what has to grow for them grows for those too.
 */
static bool match_room(struct mem_client *c, uint32_t nr)
{
	if (c->holds.nr + nr > c->holds.room)
		(void)map_reserve(&c->holds, MATCH_MORE * nr);
	return map_reserve(&c->holds, nr) == 0;
}

uint32_t mem_match(struct mem_client *c, struct mem_space *s,
		   const handle_t *handles, uint32_t nr, place_t *places)
{
	bool room = match_room(c, nr);
	uint32_t i;

	for (i = 0; i < nr; i++) {
		struct page *p;

		match_prefetch(c->m, handles, i, nr);
		places[i] = 0;
		if (!handles[i])
			continue;
		p = page_get(c->m, handles[i]);
		if (!p || p->space != s || !p->block)
			break;
		if (!room && map_reserve(&c->holds, 1) < 0)
			break;
		hold_sealed(c, p, 1);
		page_count_use(p);
		places[i] = page_place(p);
	}
	return i;
}

int mem_reference(struct mem_client *c, const handle_t *handles, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		const struct page *p = page_get(c->m, handles[i]);

		if (!p || p->state != PAGE_SEALED || !hold_count(c, p))
			return -ESTALE;
	}
	for (uint32_t i = 0; i < nr; i++)
		hold_add(c, page_get(c->m, handles[i]), 1);
	return 0;
}

/* ---- claims ---- */

/* Did this very process write to @p, through whichever connection? */
static bool page_is_written_by(const struct page *p,
			       const struct mem_client_id *id)
{
	if (p->client)
		return p->client->id.pid == id->pid &&
		       p->client->id.start_time == id->start_time;
	return p->writer->pid == id->pid &&
	       p->writer->start_time == id->start_time;
}

/* It becomes FREE, only not in this step: its writer said so, or is dead. */
static bool page_is_going(const struct page *p)
{
	if (p->client)
		return p->client->leaving && p->client->end != MEM_END_UNKNOWN;
	return p->writer->dead;
}

static int claim_open(struct mem_client *c, struct page *p, uint32_t holds)
{
	struct writer *w = p->writer;

	if (!page_is_written_by(p, &c->id) || page_is_going(p) || holds != 1)
		return -ESTALE;
	if (p->client == c)
		return 0;
	page_reopen(p, c);
	if (w && list_empty(&w->pages) && !writer_is_awaited(w))
		writer_reap(w);
	return 0;
}

int mem_claim(struct mem_client *c, struct mem_space *s, handle_t handle,
	      uint32_t holds)
{
	struct page *p = page_get(c->m, handle);

	if (!p || p->space != s || holds == 0)
		return -ESTALE;
	if (map_reserve(&c->holds, 1) < 0)
		return -ENOMEM;
	if (p->state == PAGE_OPEN || p->state == PAGE_QUARANTINED)
		return claim_open(c, p, holds);
	hold_sealed(c, p, holds);
	return 0;
}
