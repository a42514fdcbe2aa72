/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapped.c - who may still have a revoked segment mapped.
 */
#include "daemon/mem/mapped.h"

#include <errno.h>
#include <stdlib.h>
#include "daemon/mem/hold.h"

struct importer {
	struct list link;	/* segment.importers */
	struct mem_client *client; /* NULL: its connection has ended */
	struct mem_client_id id;
	bool told;
};

static struct importer *importer_of(struct list *link)
{
	return list_entry(link, struct importer, link);
}

static int importer_add(struct segment *seg, struct mem_client *c,
			const struct mem_client_id *id)
{
	struct importer *i = calloc(1, sizeof(*i));

	if (!i)
		return -ENOMEM;
	i->client = c;
	i->id = *id;
	list_add_tail(&seg->importers, &i->link);
	return 0;
}

static void importer_answered(struct importer *i)
{
	if (i->client && i->told)
		i->client->nr_asked--;
	i->told = false;
}

static void importer_drop(struct segment *seg, struct importer *i)
{
	importer_answered(i);
	list_del(&i->link);
	free(i);
	if (list_empty(&seg->importers))
		mem_has_work(seg->m);
}

void mapped_forget(struct segment *seg)
{
	list_for_each_safe(pos, &seg->importers) {
		importer_answered(importer_of(pos));
		list_del(pos);
		free(importer_of(pos));
	}
}

static bool id_is_process(const struct mem_client_id *id, pid_t pid,
			  uint64_t start_time)
{
	return id->pid == pid && id->start_time == start_time;
}

/* ---- the list ---- */

/* One that goes has a writer in its place, unless it is dead. */
static int list_clients(struct segment *seg)
{
	list_for_each(pos, &seg->tenant->clients) {
		struct mem_client *c = list_entry(pos, struct mem_client, link);

		if (c->opened && !c->leaving &&
		    importer_add(seg, c, &c->id) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int list_writers(struct segment *seg)
{
	list_for_each(pos, &seg->m->writers) {
		const struct writer *w = list_entry(pos, struct writer, link);
		struct mem_client_id id = { .pid = w->pid,
					    .start_time = w->start_time };

		if (w->tenant == seg->tenant && !w->dead &&
		    importer_add(seg, NULL, &id) < 0)
			return -ENOMEM;
	}
	return 0;
}

int mapped_list(struct segment *seg)
{
	if (list_clients(seg) == 0 && list_writers(seg) == 0)
		return 0;
	mapped_forget(seg);
	return -ENOMEM;
}

/* ---- telling ---- */

/* Who goes on with the series of one that has lost its connection. */
static struct mem_client *importer_heir(const struct segment *seg,
					const struct importer *i)
{
	list_for_each(pos, &seg->tenant->clients) {
		struct mem_client *c = list_entry(pos, struct mem_client, link);

		if (i->id.series && c->id.series == i->id.series &&
		    !c->leaving && c->opened && c->owner &&
		    id_is_process(&c->id, i->id.pid, i->id.start_time))
			return c;
	}
	return NULL;
}

void mapped_tell(struct segment *seg)
{
	list_for_each(pos, &seg->importers) {
		struct importer *i = importer_of(pos);

		if (!i->client)
			i->client = importer_heir(seg, i);
		if (!i->client || !i->client->owner || i->told ||
		    i->client->nr_asked == MAPPED_MAX_ASKED)
			continue;
		i->told = true;
		i->client->nr_asked++;
		if (seg->m->ops->revoked)
			seg->m->ops->revoked(seg->m->ctx, i->client, seg->id);
	}
}

/* ---- it gets shorter ---- */

void mapped_ack(struct segment *seg, const struct mem_client *c)
{
	list_for_each_safe(pos, &seg->importers)
		if (importer_of(pos)->client == c)
			importer_drop(seg, importer_of(pos));
}

static void segment_client_end(struct segment *seg, const struct mem_client *c)
{
	list_for_each_safe(pos, &seg->importers) {
		struct importer *i = importer_of(pos);

		if (i->client != c)
			continue;
		importer_answered(i);
		i->client = NULL;
		if (c->end == MEM_END_DEAD)
			importer_drop(seg, i);
	}
}

void mapped_client_end(const struct mem_client *c)
{
	list_for_each(pos, &c->tenant->segments)
		segment_client_end(list_entry(pos, struct segment, link), c);
}

static void segment_process_end(struct segment *seg, pid_t pid,
				uint64_t start_time)
{
	list_for_each_safe(pos, &seg->importers) {
		struct importer *i = importer_of(pos);

		if (!i->client && id_is_process(&i->id, pid, start_time))
			importer_drop(seg, i);
	}
}

void mapped_process_end(struct mem *m, pid_t pid, uint64_t start_time)
{
	list_for_each(i, &m->tenants) {
		struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->segments)
			segment_process_end(list_entry(j, struct segment, link),
					    pid, start_time);
	}
}
