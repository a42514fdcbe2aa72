/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore.c - what a predecessor left, checked piece by piece.
 */
#include "daemon/mem/restore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/segment.h"

struct restore {
	struct mem *m;
	struct mem_fd *fds;
	size_t nr_fds;
	struct list cold;	/* named pages */
	uint32_t nr_pages;
	uint32_t nr_lost;
};

static struct mem_fd *fd_find(struct mem_fd *fds, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++)
		if (fds[i].fd >= 0 && strcmp(fds[i].name, name) == 0)
			return &fds[i];
	return NULL;
}

int restore_table(struct mem *m, struct mem_fd *fds, size_t nr_fds,
		  const char **ret_why)
{
	struct mem_fd *f = fd_find(fds, nr_fds, MEM_FD_TABLE);
	int r;

	*ret_why = "nothing was kept";
	if (!f)
		return -ENOENT;
	*ret_why = "pages of this device do not outlive the daemon";
	if (!dev_ops(m->dev)->survives)
		return -ENOENT;
	r = table_adopt(&m->table, f->fd, dev_spec(m->dev), ret_why);
	if (r < 0)
		return r == -ENOMEM ? r : -ENOENT;
	f->fd = -1;
	return 0;
}

static bool fd_is_segment(const struct mem_fd *f)
{
	return strncmp(f->name, MEM_FD_SEGMENT, strlen(MEM_FD_SEGMENT)) == 0;
}

static bool fd_is_ours(const struct mem_fd *f)
{
	return strcmp(f->name, MEM_FD_TABLE) == 0 || fd_is_segment(f);
}

size_t restore_nr_segments(const struct mem_fd *fds, size_t nr_fds)
{
	size_t nr = 0;

	for (size_t i = 0; i < nr_fds; i++)
		nr += fds[i].fd >= 0 && fd_is_segment(&fds[i]);
	return nr;
}

/* The one that was taken over under @name, or -1. */
static int restored_fd(const struct mem *m, const char *name)
{
	unsigned id;

	if (strcmp(name, MEM_FD_TABLE) == 0)
		return m->table.fd;
	if (sscanf(name, MEM_FD_SEGMENT "%u", &id) != 1 ||
	    !segment_find(m, id))
		return -1;
	return segment_find(m, id)->dev.fd;
}

static bool fd_was_used(const struct mem_fd *fds, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++)
		if (fds[i].fd < 0 && strcmp(fds[i].name, name) == 0)
			return true;
	return false;
}

/* What a name stands for goes together: what we use of it is kept anew. */
void restore_drop_unused(const struct mem *m, struct mem_fd *fds,
			 size_t nr_fds)
{
	if (!m->ops->drop_fd)
		return;
	for (size_t i = 0; i < nr_fds; i++) {
		const char *name = fds[i].name;

		if (fds[i].fd < 0 || !fd_is_ours(&fds[i]) ||
		    fd_find(fds, nr_fds, name) != &fds[i])
			continue;
		m->ops->drop_fd(m->ctx, name);
		if (m->ops->keep_fd && fd_was_used(fds, nr_fds, name))
			m->ops->keep_fd(m->ctx, name, restored_fd(m, name));
	}
}

/* ---- records ---- */

static int restore_tenants(struct mem *m)
{
	for (uint32_t i = 0; i < TABLE_NR_TENANTS; i++)
		if (m->table.tenants[i].used && tenant_restore(m, (int)i) < 0)
			return -ENOMEM;
	return 0;
}

static struct tenant *tenant_of_record(const struct mem *m, uint32_t nr)
{
	list_for_each(pos, &m->tenants) {
		struct tenant *t = list_entry(pos, struct tenant, link);

		if (t->record == (int)nr)
			return t;
	}
	return NULL;
}

static int restore_spaces(struct mem *m)
{
	for (uint32_t i = 0; i < m->table.h->nr_spaces; i++) {
		struct table_space *rec = &m->table.spaces[i];
		struct tenant *t = tenant_of_record(m, rec->tenant);
		int r = -EINVAL;

		if (!rec->used)
			continue;
		if (t)
			r = space_restore(m, i, t);
		if (r == -EINVAL)
			rec->used = 0;
		else if (r < 0)
			return r;
	}
	return 0;
}

/* One without descriptor, or of no use, is forgotten with its pages. */
static int restore_segments(struct restore *re)
{
	struct mem *m = re->m;
	char name[32];

	for (uint32_t i = 0; i < TABLE_NR_SEGMENTS; i++) {
		struct table_segment *rec = &m->table.segments[i];
		struct mem_fd *f;
		int r = -ENOENT;

		if (!rec->used)
			continue;
		snprintf(name, sizeof(name), MEM_FD_SEGMENT "%u", rec->id);
		f = fd_find(re->fds, re->nr_fds, name);
		if (f)
			r = segment_adopt(m, (int)i, f->fd);
		if (r == -ENOMEM)
			return r;
		if (r == 0)
			f->fd = -1;
		else
			rec->used = 0;
	}
	return 0;
}

/* ---- pages ---- */

/* The space of an identity whose class is what the identity says. */
static struct mem_space *restore_space(const struct mem *m,
				       const struct identity *id)
{
	const struct mem_class *class;
	struct mem_space *s;

	if (id->space == 0 || id->space > m->table.h->nr_spaces)
		return NULL;
	s = m->spaces[id->space - 1];
	class = s ? mem_space_class(s, id->class) : NULL;
	if (!class || class->page_bytes != id->page_bytes ||
	    class->k_format != id->k_format ||
	    class->v_format != id->v_format || id->generation == 0)
		return NULL;
	return s;
}

/* The slab of an identity, cut where it was if need be. Return: 0, -ENOENT
 * there cannot be one, -ENOMEM. */
static int restore_slab(const struct mem *m, const struct identity *id,
			struct mem_space *s, struct slab **ret)
{
	struct segment *seg = segment_find(m, place_segment(id->place));
	struct size_class *sc = s->sizes[id->class];
	struct slab *slab;

	if (!seg || seg->tenant != s->tenant ||
	    id->slab_slot >= seg->nr_granules)
		return -ENOENT;
	if (!seg->slabs[id->slab_slot] &&
	    slab_new_at(sc, seg, id->slab_slot) == -ENOMEM)
		return -ENOMEM;
	slab = seg->slabs[id->slab_slot];
	if (!slab || slab->class != sc || slab->first != id->slab_slot)
		return -ENOENT;
	*ret = slab;
	return 0;
}

/* The name is right, and no page of the class has it yet. */
static bool restore_name_fits(const struct mem_space *s,
			      const struct identity *id,
			      const struct prefix *p)
{
	uint32_t block = index_find(&s->index, &p->name);
	struct name name = name_block(&s->tenant->name_key, &p->parent,
				      &p->extra, p->tokens,
				      s->key.geometry.page_tokens);

	if (!name_equal(&name, &p->name) || id->state != PAGE_SEALED)
		return false;
	if (!block)
		return !index_is_crowded(&s->index, &p->name);
	return index_same(&s->index, block, p) &&
	       !index_page(&s->index, block, id->class);
}

static void restore_name(struct page *p, const struct identity *id,
			 const struct prefix *prefix)
{
	const struct kvd_geometry *g = &p->space->key.geometry;
	struct index *ix = &p->space->index;
	uint32_t block = index_find(ix, &prefix->name);

	if (!block)
		block = index_add(ix, prefix, id->depth, g->k_format,
				  g->v_format);
	page_restore_name(p, block);
}

static void restore_drop(struct restore *re, uint32_t nr)
{
	struct identity gone = {
		.generation = table_get(&re->m->table, nr)->generation,
	};

	table_set(&re->m->table, nr, &gone, NULL);
	page_restore_free(re->m, nr);
	re->nr_lost++;
}

/* Where the page of @id belongs, taken for it. Return: 0, -ENOENT it cannot be
 * whole, -ENOMEM. */
static int restore_cell(struct mem *m, const struct identity *id,
			struct mem_space *s, uint32_t nr,
			struct slab **ret_slab, uint32_t *ret_cell)
{
	uint64_t at;
	int r = restore_slab(m, id, s, ret_slab);

	if (r < 0)
		return r;
	at = place_offset(id->place) -
	     (uint64_t)(*ret_slab)->first * DEV_GRANULE;
	*ret_cell = (uint32_t)(at / id->page_bytes);
	if (at % id->page_bytes ||
	    at / id->page_bytes >= (*ret_slab)->class->nr_cells ||
	    slab_get_cell(*ret_slab, *ret_cell, nr) < 0)
		return -ENOENT;
	return 0;
}

static int restore_page(struct restore *re, uint32_t nr)
{
	struct mem *m = re->m;
	const struct prefix *prefix = &m->table.prefixes[nr];
	struct identity id = *table_get(&m->table, nr);
	struct mem_space *s = restore_space(m, &id);
	struct writer *w = NULL;
	struct slab *slab;
	struct page *p;
	uint32_t cell;
	int r;

	if (id.state == PAGE_FREE && !id.named) {
		page_restore_free(m, nr);
		return 0;
	}
	if (!s || (id.state != PAGE_OPEN && id.state != PAGE_SEALED) ||
	    id.named > 1 || (id.named && !restore_name_fits(s, &id, prefix)))
		goto drop;
	if (id.state == PAGE_OPEN) {
		w = writer_get(s->tenant, (pid_t)id.pid, id.start_time, NULL);
		if (!w)
			return -ENOMEM;
	}
	r = restore_cell(m, &id, s, nr, &slab, &cell);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		goto drop;
	p = page_restore(m, nr, s, slab, cell, w);
	re->nr_pages++;
	if (id.named) {
		restore_name(p, &id, prefix);
		list_move_tail(&re->cold, &p->link);
	}
	return 0;
drop:
	restore_drop(re, nr);
	return 0;
}

/* What restoring left undone in slabs and classes. */
static void restore_finish(struct mem *m)
{
	for (uint32_t i = 0; i < m->table.h->nr_spaces; i++)
		if (m->spaces[i])
			index_adopt(&m->spaces[i]->index);
	list_for_each(i, &m->tenants) {
		struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->segments) {
			struct segment *seg;

			seg = list_entry(j, struct segment, link);
			for (uint32_t g = 0; g < seg->nr_granules; g++)
				if (seg->slabs[g] && seg->slabs[g]->first == g)
					slab_rechain(seg->slabs[g]);
		}
		list_for_each(j, &t->classes)
			size_class_trim(list_entry(j, struct size_class, link),
					1);
	}
}

int restore_pages(struct mem *m, struct mem_fd *fds, size_t nr_fds,
		  char *note, size_t note_bytes)
{
	struct restore re = { .m = m, .fds = fds, .nr_fds = nr_fds };
	int r;

	list_init(&re.cold);
	r = restore_tenants(m);
	if (r == 0)
		r = restore_spaces(m);
	if (r == 0)
		r = restore_segments(&re);
	for (uint32_t nr = 1; r == 0 && nr <= m->table.h->nr_used; nr++)
		r = restore_page(&re, nr);
	restore_finish(m);
	page_settle(m, &re.cold);
	if (r < 0)
		return r;
	m->in_grace = re.nr_pages > 0;
	m->table.h->restarts += m->in_grace;
	snprintf(note, note_bytes,
		 "restored %u pages in %u segments; %u pages were lost",
		 re.nr_pages, m->segments.nr, re.nr_lost);
	return 0;
}

/* ---- the end of grace ---- */

bool restore_step(struct mem *m)
{
	while (!m->in_grace && !list_empty(&m->unclaimed)) {
		if (step_is_spent(m))
			return true;
		step_look(m, STEP_PAGE_LOOKS);
		page_free(list_first(&m->unclaimed, struct page, link));
	}
	return false;
}

void mem_grace_end(struct mem *m, bool (*alive)(pid_t pid, uint64_t start_time))
{
	if (!m->in_grace)
		return;
	m->in_grace = false;
	list_for_each(pos, &m->writers) {
		struct writer *w = list_entry(pos, struct writer, link);

		w->dead |= !alive(w->pid, w->start_time);
		w->late = true;
	}
	step_begin(m);
	writers_step(m);
	restore_step(m);
	m->trimming = true; /* limits may be lower than they were */
	mem_has_work(m);
	m->freed = true;
	mem_tell_room(m);
}
