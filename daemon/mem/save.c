/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.c - what is about to be given up goes to the tiers before.
 */
#include "daemon/mem/save.h"

#include <stdlib.h>
#include <string.h>
#include "daemon/mem/demote.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/water.h"

#define SAVE_JOBS     64u
#define SAVE_JOBS_DUE 512u /* when somebody waits for it */
#define SAVE_BYTES (64ull << 20)

/* One copy. The segment lives at least until what was submitted has run. */
struct save {
	struct dev_job job;
	struct mem *m;
	struct tier_page *to;
	struct dev_segment *from;
	uint64_t offset;
	uint32_t copied, bytes;	/* and to be copied in this turn */
	handle_t page;
	struct tier_key key;
	int err;
};

/* ---- names ---- */

/* Keyed as names are: nobody can make his the one of another tenant. */
uint64_t save_origin(struct mem_space *s)
{
	struct {
		char tenant[TABLE_NAME_BYTES];
		struct mem_space_key key;
	} of;
	uint32_t words[sizeof(of) / sizeof(uint32_t)];
	static const struct name zero;
	struct name name;

	_Static_assert(sizeof(words) == sizeof(of), "all of it");
	if (!s->origin) {
		memset(&of, 0, sizeof(of));
		memcpy(of.tenant, s->tenant->name, sizeof(of.tenant));
		of.key = s->key;
		memcpy(words, &of, sizeof(words));
		name = name_block(&s->tenant->name_key, &zero, &zero, words,
				  sizeof(words) / sizeof(words[0]));
		s->origin = name_hash(&name);
	}
	return s->origin;
}

struct tier_key save_key(struct mem_space *s, const struct name *name,
			 uint32_t class)
{
	struct tier_key key = { .origin = save_origin(s), .kind = class };

	memcpy(key.name, name, sizeof(*name));
	return key;
}

/* How @p is used, for the tiers. */
static struct tier_use save_use(struct page *p)
{
	struct mem *m = p->space->m;
	const struct prefix *prefix = &m->table.prefixes[page_nr(p)];
	const struct kvd_geometry *g = &p->space->key.geometry;
	struct tier_use use = { .at = p->stamp, .now = m->tick };

	if (m->policy->value)
		use.value = m->policy->value(page_home(p), p, &use.kind);
	/* Of a window one page is of use without those before it. */
	if (!g->groups[p->space->classes[p->class].group].window)
		use.parent = save_key(p->space, &prefix->parent, p->class);
	return use;
}

static void head_fill(struct save_head *h, const struct page *p)
{
	const struct mem_space *s = p->space;
	const struct prefix *prefix = &s->m->table.prefixes[page_nr(p)];
	uint32_t nr = s->key.geometry.page_tokens;

	h->class = p->class;
	h->depth = p->depth;
	h->uses = p->uses;
	h->priority = p->priority;
	memcpy(h->tenant, s->tenant->name, sizeof(h->tenant));
	h->key = s->key;
	h->prefix.name = prefix->name;
	h->prefix.parent = prefix->parent;
	h->prefix.extra = prefix->extra;
	memcpy(h->prefix.tokens, prefix->tokens, nr * sizeof(uint32_t));
}

/* ---- a copy ---- */

static void save_end(struct save *sv)
{
	struct mem *m = sv->m;

	m->saves.nr--;
	m->saves.bytes -= sv->to->bytes;
	tier_page_put(sv->to);
	free(sv);
	m->saves.full = false;
	m->freed = true; /* for who has waited for it */
	mem_has_work(m);
}

static void save_run(struct dev *d, struct dev_job *job)
{
	struct save *sv = (struct save *)job;

	sv->err = dev_ops(d)->read(d, sv->from, sv->offset + sv->copied,
				   tier_page_data(sv->to) + sv->copied,
				   sv->bytes);
}

static void save_submit(struct save *sv)
{
	uint32_t left = sv->to->bytes - sv->copied;

	sv->bytes = left < SAVE_CHUNK ? left : SAVE_CHUNK;
	dev_submit(sv->m->dev, &sv->job);
}

static void save_done(struct dev *d, struct dev_job *job)
{
	struct save *sv = (struct save *)job;
	struct mem *m = sv->m;
	struct page *p = page_get(m, sv->page);
	struct tier_use use;

	sv->copied += sv->bytes;
	if (!p || !p->block || sv->err < 0 || !m->tiers) {
		m->tiers_stat.lost += m->tiers != NULL;
		save_end(sv);
	} else if (sv->copied < sv->to->bytes) {
		save_submit(sv);
	} else {
		m->tiers_stat.saved++;
		if (p->state == PAGE_CACHED && p->saved == SAVED_SOON)
			p->saved = SAVED;
		use = save_use(p);
		tiers_put(m->tiers, &sv->key, sv->to, &use);
		save_end(sv);
	}
}

static struct save *save_new(struct page *p, const struct tier_key *key)
{
	struct save *sv = malloc(sizeof(*sv));
	struct tier_page *to;

	if (!sv)
		return NULL;
	to = tier_page_new(sizeof(struct save_head), page_bytes(p));
	if (!to) {
		free(sv);
		return NULL;
	}
	*sv = (struct save){
		.job = { .run = save_run, .done = save_done },
		.m = p->space->m,
		.to = to,
		.from = &p->slab->segment->dev,
		.offset = place_offset(page_place(p)),
		.page = page_handle(p),
		.key = *key,
	};
	head_fill(tier_page_head(to), p);
	return sv;
}

/* Return: false: there are @most on their way. */
static bool save_page(struct page *p, uint32_t most)
{
	struct mem *m = p->space->m;
	struct tier_key key = save_key(p->space, page_name(p), p->class);
	struct tier_use use = save_use(p);
	struct save *sv;

	if (tiers_renew(m->tiers, &key, &use)) {
		m->tiers_stat.renewed++;
		p->saved = SAVED;
		return true;
	}
	if (m->saves.nr >= most || m->saves.bytes >= SAVE_BYTES)
		return false;
	sv = save_new(p, &key);
	if (!sv)
		return false;
	p->saved = SAVED_SOON;
	m->saves.nr++;
	m->saves.bytes += sv->to->bytes;
	save_submit(sv);
	return true;
}

/* ---- which ---- */

static bool save_is_on(const struct mem *m)
{
	return m->tiers && tiers_take(m->tiers);
}

struct save_walk {
	uint64_t left;		/* pages to look at */
	uint32_t most;		/* on their way at a time */
	bool full;		/* they are, and there is more */
	bool waits;		/* some that were looked at are */
};

/*
 * The page before @p, which goes when that has gone: a policy may have it aside
 * until then, and give it up next. NULL: it stays for others, or longer.
 */
static struct page *page_before(const struct page *p)
{
	const struct index *ix = &p->space->index;
	uint32_t up = index_parent(ix, p->block);
	struct page *q;

	if (!up || index_is_shared(ix, up))
		return NULL;
	q = page_get(p->space->m, index_page(ix, up, p->class));
	return q && q->state == PAGE_CACHED && !q->copy &&
			       q->uses == p->uses ? q : NULL;
}

/* One that is demoted first is saved in fewer bits, then. */
static void save_look_at(struct page *p, struct save_walk *w)
{
	w->left--;
	if (demote_takes(p))
		return;
	if (p->saved == SAVED_NOT && !save_page(p, w->most)) {
		w->full = true;
		w->left = 0;
	}
	w->waits |= p->saved == SAVED_SOON;
}

/* And those before it, up to what was looked at before. Return: there may be
 * more to look at. */
static bool save_look(struct page *p, void *walk)
{
	struct save_walk *w = walk;

	do {
		save_look_at(p, w);
		p = page_before(p);
	} while (p && w->left && p->saved == SAVED_NOT);
	return w->left;
}

/* Pages that are to be free or saved. */
static uint64_t class_ahead(const struct size_class *sc)
{
	uint64_t all = sc->tenant->m->pool_bytes / sc->page_bytes;
	uint64_t nr = all / SAVE_AHEAD;

	if (nr < SAVE_AHEAD_FEWEST)
		return all / 4 < SAVE_AHEAD_FEWEST ? all / 4 + 1 :
						     SAVE_AHEAD_FEWEST;
	return nr < SAVE_AHEAD_MOST ? nr : SAVE_AHEAD_MOST;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Below a limit; 0 is none. */
static uint64_t left_of(uint64_t limit, uint64_t charged)
{
	if (!limit)
		return UINT64_MAX;
	return limit > charged ? limit - charged : 0;
}

/* Pages that may be taken before one has to go for them. */
static uint64_t class_room(const struct size_class *sc)
{
	const struct tenant *t = sc->tenant;
	uint64_t room = least(water_room(sc), least(
			left_of(t->max_bytes, t->charged),
			left_of(t->high_bytes, t->charged)));

	return least(room / sc->page_bytes, t->m->nr_free);
}

/* How many of its pages go next. */
static uint64_t class_going(const struct size_class *sc)
{
	uint64_t room = class_room(sc);
	uint64_t ahead = class_ahead(sc);

	return room < ahead ? ahead - room : 0;
}

/* In the order in which they go, but for copies: those are no loss. */
static void class_walk(const struct size_class *sc,
		       bool (*look)(struct page *p, void *walk),
		       struct save_walk *w)
{
	for (int i = MEM_LOW; i <= MEM_HIGH && w->left; i++) {
		struct shelf *shelf = size_class_shelf(sc, i);

		if (shelf)
			sc->tenant->m->policy->walk(shelf, look, w);
	}
}

static bool save_class(const struct size_class *sc)
{
	struct save_walk w = { .left = class_going(sc), .most = SAVE_JOBS };

	class_walk(sc, save_look, &w);
	return w.full;
}

void save_step(struct mem *m)
{
	if (!save_is_on(m))
		return;
	list_for_each(i, &m->tenants) {
		const struct tenant *t = list_entry(i, struct tenant, link);

		list_for_each(j, &t->classes)
			m->saves.full |= save_class(
				list_entry(j, struct size_class, link));
	}
}

void save_taken(struct size_class *sc)
{
	struct mem *m = sc->tenant->m;

	if (save_is_on(m) && !m->saves.full && class_going(sc))
		mem_has_work(m);
}

/* Is one of the next @nr pages of @sc on its way to the tiers, or should be? */
static bool class_waits(struct size_class *sc, uint64_t nr)
{
	struct save_walk w = { .left = nr, .most = SAVE_JOBS_DUE };

	class_walk(sc, save_look, &w);
	if ((!w.full && !w.waits) || !sc->tenant->m->saves.nr ||
	    sc->nr_saves++ >= SAVE_WAITS) {
		sc->nr_saves = 0;
		return false;
	}
	return true;
}

bool save_is_due(struct size_class *sc, uint32_t nr)
{
	const struct mem *m = sc->tenant->m;
	uint64_t room;

	if (!save_is_on(m) || m->in_grace)
		return false;
	room = class_room(sc);
	return nr > room && class_waits(sc, least(nr - room, SAVE_JOBS_DUE));
}

/* Where it is, those after it are begun as well: one wait is enough. */
bool save_is_coming(struct size_class *sc)
{
	struct save_walk w = { .left = SAVE_JOBS, .most = SAVE_JOBS_DUE };

	if (!save_is_on(sc->tenant->m) || !class_waits(sc, 1))
		return false;
	class_walk(sc, save_look, &w);
	return true;
}

void save_evicted(const struct page *p)
{
	struct mem *m = p->space->m;

	m->tiers_stat.lost += m->tiers && p->saved != SAVED && !p->copy;
}

/* ---- the tiers ---- */

void mem_tiers_stat(const struct mem *m, struct mem_tiers_stat *ret)
{
	*ret = m->tiers_stat;
}
