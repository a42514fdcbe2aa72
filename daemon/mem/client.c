/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - clients come and go, and the writers some leave behind.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/mapped.h"

/* ---- writers ---- */

static struct writer *writer_find(const struct tenant *t, pid_t pid,
				  uint64_t start_time)
{
	list_for_each(pos, &t->m->writers) {
		struct writer *w = list_entry(pos, struct writer, link);

		if (w->tenant == t && w->pid == pid &&
		    w->start_time == start_time && !w->dead)
			return w;
	}
	return NULL;
}

struct writer *writer_get(struct tenant *t, pid_t pid, uint64_t start_time,
			  struct writer **reserve)
{
	struct writer *w = writer_find(t, pid, start_time);

	if (w)
		return w;
	if (reserve) {
		w = *reserve;
		*reserve = NULL;
	} else {
		w = malloc(sizeof(*w));
	}
	if (!w)
		return NULL;
	w->tenant = t;
	w->pid = pid;
	w->start_time = start_time;
	w->dead = w->late = false;
	w->nr_pages = 0;
	list_init(&w->pages);
	list_add_tail(&t->m->writers, &w->link);
	t->nr_writers++;
	return w;
}

void writer_reap(struct writer *w)
{
	list_for_each_safe(pos, &w->pages)
		page_free(list_entry(pos, struct page, link));
	list_del(&w->link);
	w->tenant->nr_writers--;
	free(w);
}

/* Return: there is more. */
static bool writer_step(struct writer *w)
{
	while (!list_empty(&w->pages)) {
		struct page *p = list_first(&w->pages, struct page, link);

		if (!w->dead && p->state != PAGE_OPEN)
			break;
		if (step_is_spent(w->tenant->m))
			return true;
		step_look(w->tenant->m, STEP_PAGE_LOOKS);
		if (w->dead)
			page_free(p);
		else
			page_quarantine(p, w);
	}
	w->late = false;
	if (w->dead)
		writer_reap(w);
	return false;
}

bool writers_step(struct mem *m)
{
	bool more = false;

	list_for_each_safe(pos, &m->writers) {
		struct writer *w = list_entry(pos, struct writer, link);

		if (w->dead || w->late)
			more |= writer_step(w);
	}
	return more;
}

bool writer_is_awaited(const struct writer *w)
{
	list_for_each(pos, &w->tenant->m->leaving)
		if (list_entry(pos, struct mem_client, leave)->left == w)
			return true;
	return false;
}

static bool id_is(const struct mem_client_id *id, pid_t pid,
		  uint64_t start_time)
{
	return id->pid == pid && id->start_time == start_time;
}

void mem_reap_writer(struct mem *m, pid_t pid, uint64_t start_time)
{
	list_for_each(pos, &m->leaving) {
		struct mem_client *c;

		c = list_entry(pos, struct mem_client, leave);
		if (id_is(&c->id, pid, start_time)) {
			c->end = MEM_END_DEAD;
			c->left = NULL;
		}
	}
	list_for_each(pos, &m->writers) {
		struct writer *w = list_entry(pos, struct writer, link);

		w->dead |= w->pid == pid && w->start_time == start_time;
	}
	mapped_process_end(m, pid, start_time);
	step_begin(m);
	if (writers_step(m))
		mem_has_work(m);
	m->freed = true; /* segments of a tenant that is gone may be had */
	mem_tell_room(m);
}

/* ---- clients ---- */

#define TRIM_CLIENTS 64u /* of which maps are made smaller at a time */

int mem_client_new(struct mem *m, const struct mem_client_id *id,
		   const char *tenant, const uint8_t key[NAME_KEY_BYTES],
		   void *owner, struct mem_client **ret)
{
	struct mem_client *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	c->writer = malloc(sizeof(*c->writer));
	if (!c->writer)
		goto fail;
	r = tenant_get(m, tenant, key, &c->tenant);
	if (r < 0)
		goto fail;
	c->m = m;
	c->id = *id;
	c->owner = owner;
	list_init(&c->leave);
	list_add_tail(&c->tenant->clients, &c->link);
	*ret = c;
	return 0;
fail:
	free(c->writer);
	free(c);
	return r;
}

void *mem_client_owner(const struct mem_client *c)
{
	return c->owner;
}

bool mem_client_disown(struct mem_client *c)
{
	c->owner = NULL;
	return !c->succeeded;
}

/* Who had a space open may have segments mapped, and pages it writes to. */
static struct writer *client_leave_writer(struct mem_client *c)
{
	if (c->nr_open == 0 && !c->opened)
		return NULL;
	return writer_get(c->tenant, c->id.pid, c->id.start_time, &c->writer);
}

static void client_drop_pages(struct mem_client *c)
{
	struct writer *w = c->end == MEM_END_UNKNOWN ? c->left : NULL;
	struct list cold;

	list_init(&cold);
	while (c->holds.nr && !step_is_spent(c->m)) {
		struct map_entry *e = map_entry(&c->holds, c->holds.nr - 1);
		struct page *p = &c->m->pages[e->key];

		hold_drop(c, p, e->value);
		if (p->state == PAGE_OPEN && w)
			page_quarantine(p, w);
		else
			page_unheld(p, &cold);
		step_look(c->m, STEP_PAGE_LOOKS);
	}
	page_settle(c->m, &cold);
	map_trim(&c->holds);
}

/* Return: there is more. If not, @c is no more. */
static bool client_step(struct mem_client *c)
{
	client_drop_pages(c);
	if (c->holds.nr)
		return true;
	assert(c->nr_open == 0 && c->bytes == 0);
	list_del(&c->leave);
	list_del(&c->link);
	map_fini(&c->holds);
	map_fini(&c->spaces);
	free(c->writer);
	free(c);
	return false;
}

bool clients_step(struct mem *m)
{
	bool more = false;

	list_for_each_safe(pos, &m->leaving) {
		more |= client_step(list_entry(pos, struct mem_client, leave));
		/* Segments of a tenant that is gone may be had. */
		m->freed = true;
	}
	return more;
}

void clients_trim(struct mem *m)
{
	uint32_t left = TRIM_CLIENTS;

	list_for_each(i, &m->tenants) {
		struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->clients) {
			struct mem_client *c =
				list_entry(j, struct mem_client, link);

			if (map_trim(&c->holds) && --left == 0)
				return;
		}
	}
}

bool client_pages_come(const struct tenant *t)
{
	list_for_each(pos, &t->m->leaving)
		if (list_entry(pos, struct mem_client, leave)->tenant == t)
			return true;
	list_for_each(pos, &t->m->writers) {
		const struct writer *w = list_entry(pos, struct writer, link);

		if (w->dead && w->tenant == t)
			return true;
	}
	return !t->m->in_grace && !list_empty(&t->m->unclaimed);
}

/* What those before @c in its series had, nobody writes to any more. */
static void client_succeed(const struct mem_client *c)
{
	list_for_each(pos, &c->tenant->clients) {
		struct mem_client *o = list_entry(pos, struct mem_client, link);

		if (o == c || o->id.series != c->id.series ||
		    !id_is(&o->id, c->id.pid, c->id.start_time))
			continue;
		o->succeeded = true;
		if (o->leaving && o->end == MEM_END_UNKNOWN)
			o->end = MEM_END_BYE;
	}
}

/* No more than this many in a step. */
#define REST_PAGES 512u

bool mem_claim_rest(struct mem_client *c)
{
	uint32_t left = REST_PAGES;
	struct writer *w;

	if (!c->id.series)
		return false;
	client_succeed(c);
	w = writer_find(c->tenant, c->id.pid, c->id.start_time);
	if (!w)
		return false;
	list_for_each_safe(pos, &w->pages) {
		struct page *p = list_entry(pos, struct page, link);

		if (table_get(&c->m->table, page_nr(p))->series !=
		    c->id.series)
			continue;
		if (!left--)
			break;
		page_free(p);
	}
	if (list_empty(&w->pages) && !writer_is_awaited(w))
		writer_reap(w);
	mem_tell_room(c->m);
	return left == UINT32_MAX;
}

void mem_client_free(struct mem_client *c, enum mem_end end)
{
	struct mem *m;

	if (!c)
		return;
	m = c->m;
	if (c->succeeded && end == MEM_END_UNKNOWN)
		end = MEM_END_BYE;
	c->leaving = true;
	c->end = end;
	c->left = end == MEM_END_DEAD ? NULL : client_leave_writer(c);
	list_add_tail(&m->leaving, &c->leave);
	mapped_client_end(c);
	while (c->spaces.nr) {
		struct map_entry *e = map_entry(&c->spaces, c->spaces.nr - 1);

		m->spaces[e->key - 1]->nr_clients--;
		map_del(&c->spaces, e->key);
	}
	step_begin(m);
	if (client_step(c))
		mem_has_work(m);
	m->grow_failed = false;
	m->freed = true; /* segments of a tenant that is gone may be had */
	mem_tell_room(m);
}

void mem_client_stat(const struct mem_client *c, struct mem_client_stat *ret)
{
	ret->open_pages = c->nr_open;
	ret->held_pages = c->holds.nr;
	ret->bytes = c->bytes;
}
