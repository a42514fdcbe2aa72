// SPDX-License-Identifier: Apache-2.0
/*
 * quarantine.c - pages that wait for the end of a process: whose, how many,
 * and their release by who knows better.
 */
#include <errno.h>
#include <stdlib.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/quarantine.h"

/* Does @c, which has gone, put what it holds to @w's pages? */
static bool client_leaves_to(const struct mem_client *c, const struct writer *w)
{
	return c->left == w && c->end == MEM_END_UNKNOWN;
}

static uint64_t writer_pages(const struct mem *m, const struct writer *w)
{
	uint64_t nr = w->nr_pages;

	list_for_each(pos, &m->leaving) {
		const struct mem_client *c;

		c = list_entry(pos, struct mem_client, leave);
		if (client_leaves_to(c, w))
			nr += c->nr_open;
	}
	return nr;
}

void mem_writers(const struct mem *m,
		 void (*tell)(void *ctx, const struct mem_writer *w), void *ctx)
{
	list_for_each(pos, &m->writers) {
		const struct writer *w = list_entry(pos, struct writer, link);
		struct mem_writer told = { .tenant = w->tenant->name,
					   .pid = w->pid,
					   .start_time = w->start_time,
					   .pages = writer_pages(m, w) };

		if (!w->dead && told.pages)
			tell(ctx, &told);
	}
}

static bool writer_is(const struct writer *w, pid_t pid, uint64_t start_time)
{
	return w->pid == pid && w->start_time == start_time && !w->dead;
}

uint64_t mem_writer_pages(const struct mem *m, pid_t pid, uint64_t start_time)
{
	uint64_t nr = 0;

	list_for_each(pos, &m->writers) {
		const struct writer *w = list_entry(pos, struct writer, link);

		if (writer_is(w, pid, start_time))
			nr += writer_pages(m, w);
	}
	return nr;
}

/* As if @w were dead, but for another in its place: its segments stay. */
static int writer_release(struct mem *m, struct writer *w)
{
	struct writer *next = malloc(sizeof(*next));

	if (!next)
		return -ENOMEM;
	list_for_each(pos, &m->leaving) {
		struct mem_client *c;

		c = list_entry(pos, struct mem_client, leave);
		if (c->left != w)
			continue;
		c->left = NULL;
		c->end = MEM_END_BYE;
	}
	w->dead = true;
	writer_get(w->tenant, w->pid, w->start_time, &next);
	mem_has_work(m);
	return 0;
}

int mem_writer_release(struct mem *m, pid_t pid, uint64_t start_time,
		       uint64_t *ret_pages)
{
	*ret_pages = 0;
	list_for_each_safe(pos, &m->writers) {
		struct writer *w = list_entry(pos, struct writer, link);
		uint64_t nr = writer_pages(m, w);

		if (!nr || !writer_is(w, pid, start_time))
			continue;
		if (writer_release(m, w) < 0)
			return -ENOMEM;
		*ret_pages += nr;
		m->stat.released += nr;
	}
	return 0;
}
