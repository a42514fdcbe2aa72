/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space.c - where a prefix may be shared: tenant x model x geometry x rank.
 */
#include "daemon/mem/space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "daemon/mem/hold.h"
#include "daemon/mem/reclaim.h"
#include "daemon/mem/segment.h"
#include "daemon/mem/watch.h"
#include "daemon/util/memfd.h"
#include "kernels/page.h"

/* ---- keys ---- */

/* A copy of @key with what does not count zeroed, so that memcmp compares. */
static struct mem_space_key key_normal(const struct mem_space_key *key)
{
	struct mem_space_key k = *key;

	k.geometry.size = sizeof(k.geometry);
	for (uint32_t g = k.geometry.nr_groups; g < KVD_MAX_GROUPS; g++)
		k.geometry.groups[g] = (struct kvd_group){ 0 };
	return k;
}

static const char *key_check(const struct mem_space_key *key)
{
	const char *why = kvd_geometry_check(&key->geometry);

	if (why)
		return why;
	if (key->tp_size == 0 || key->tp_rank >= key->tp_size)
		return "tp_rank is not below tp_size";
	return NULL;
}

/* ---- birth and death ---- */

static const char *space_init_classes(struct mem_space *s)
{
	const struct kvd_geometry *g = &s->key.geometry;
	struct page_layout l;

	for (uint32_t i = 0; i < geometry_nr_classes(g); i++) {
		if (page_layout_class(&l, g, i) < 0)
			return "a page of this geometry is too large";
		if (l.page_bytes > s->m->segment_bytes)
			return "a page is larger than the pool's segments";
		s->classes[i] = (struct mem_class){
			.group = geometry_class_group(g, i),
			.k_format = l.k_format,
			.v_format = l.v_format,
			.page_bytes = l.page_bytes,
		};
	}
	for (uint32_t i = 0; i < g->nr_groups; i++) {
		s->sealed[i] = (uint8_t)geometry_sealed_class(g, i);
		s->demoted[i] = geometry_demoted_class(g, i);
		s->tenant->demotes |= s->demoted[i] != PAGE_NO_CLASS;
	}
	return NULL;
}

static int space_init_sizes(struct mem_space *s)
{
	uint32_t nr = geometry_nr_classes(&s->key.geometry);

	for (uint32_t i = 0; i < nr; i++) {
		s->sizes[i] = size_class_get(s->tenant,
					     s->classes[i].page_bytes);
		if (!s->sizes[i])
			return -ENOMEM;
		s->nr_classes++;
	}
	return 0;
}

/* No more blocks than there can be pages. */
static uint32_t space_nr_blocks(const struct mem_space *s)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; i < s->nr_classes; i++)
		nr += s->m->pool_max / s->classes[i].page_bytes;
	return nr < s->m->table.h->nr_entries ? (uint32_t)nr :
						s->m->table.h->nr_entries;
}

static int space_init_shm(struct mem_space *s)
{
	void *p;
	int r;

	r = index_init(&s->index, space_nr_blocks(s),
		       s->key.geometry.page_tokens, s->nr_classes);
	if (r < 0)
		return r;
	r = memfd_share("kvd-stats", sizeof(*s->stats), &s->stats_fd, &p);
	if (r < 0)
		return r;
	s->stats = p;
	s->stats->magic = SHM_STATS_MAGIC;
	s->stats->version = SHM_VERSION;
	return 0;
}

void space_free(struct mem_space *s)
{
	for (uint32_t i = 0; i < s->nr_classes; i++)
		size_class_put(s->sizes[i]);
	index_fini(&s->index);
	if (s->stats) {
		munmap(s->stats, sizeof(*s->stats));
		close(s->stats_fd);
	}
	s->m->spaces[s->id - 1] = NULL;
	s->tenant->nr_spaces--;
	if (s->watch)
		watch_gone(s);
	free(s);
}

static uint64_t space_nr_pages(const struct mem_space *s)
{
	uint64_t pages = 0;

	for (int i = 0; i < PAGE_NR_STATES; i++)
		pages += s->tally.pages[i];
	return pages;
}

static bool space_is_unused(const struct mem_space *s)
{
	return s->nr_clients == 0 && space_nr_pages(s) == 0;
}

void space_destroy(struct mem_space *s)
{
	assert(space_is_unused(s));
	s->m->table.spaces[s->id - 1].used = 0;
	space_free(s);
}

/* A space of a normal, checked key. */
static int space_new(struct mem *m, struct tenant *t, uint32_t nr,
		     const struct mem_space_key *key, struct mem_space **ret,
		     const char **ret_why)
{
	struct mem_space *s = calloc(1, sizeof(*s));
	const char *why;
	int r;

	if (!s)
		return -ENOMEM;
	s->m = m;
	s->tenant = t;
	s->id = nr + 1;
	s->serial = ++m->nr_spaces_ever;
	s->key = *key;
	s->fingerprint = kvd_geometry_fingerprint(&key->geometry);
	s->index = (struct index)INDEX_NULL;
	s->stats_fd = -1;
	m->spaces[nr] = s;
	t->nr_spaces++;
	why = space_init_classes(s);
	r = why ? -EINVAL : space_init_sizes(s);
	if (r == 0)
		r = space_init_shm(s);
	if (r < 0) {
		space_free(s);
		*ret_why = why;
		return r == -EINVAL ? r : -ENOMEM;
	}
	*ret = s;
	return 0;
}

int space_restore(struct mem *m, uint32_t nr, struct tenant *t)
{
	struct mem_space_key key = key_normal(&m->table.spaces[nr].key);
	struct mem_space *s;
	const char *why;

	if (key_check(&key))
		return -EINVAL;
	return space_new(m, t, nr, &key, &s, &why);
}

/* Nobody has it open, nobody holds what it has. */
static bool space_is_idle(const struct mem_space *s)
{
	return s->nr_clients == 0 && space_nr_pages(s) ==
					     s->tally.pages[PAGE_CACHED];
}

/* May @t have it emptied? Not what another tenant's min keeps. */
static bool space_may_go(const struct mem_space *s, const struct tenant *t)
{
	return s->tenant == t ||
	       tenant_may_lose(s->tenant, s->tally.bytes[PAGE_CACHED]);
}

/* The idle space with the fewest pages that @t may have: of its @own, or of
 * all. */
static struct mem_space *space_cheapest(const struct mem *m,
					const struct tenant *t, bool own)
{
	struct mem_space *best = NULL;

	for (uint32_t i = 0; i < m->table.h->nr_spaces; i++) {
		struct mem_space *s = m->spaces[i];

		if (!s || (own && s->tenant != t) || !space_is_idle(s) ||
		    (m->in_grace && !space_is_unused(s)) ||
		    !space_may_go(s, t))
			continue;
		if (!best || space_nr_pages(s) < space_nr_pages(best))
			best = s;
	}
	return best;
}

/* So that no tenant has them all. */
static uint32_t space_max(const struct mem *m)
{
	uint32_t nr = m->table.h->nr_spaces / 4;

	if (m->max_spaces)
		return m->max_spaces;
	return nr ? nr : 1;
}

void mem_space_limit(struct mem *m, uint32_t nr)
{
	m->max_spaces = nr;
}

/* A step of giving up all that @s, which is idle, has cached. Return: it is
 * unused now. */
static bool space_empty(struct mem_space *s)
{
	struct mem_given given = { .bytes = 0 };

	s->emptied = reclaim_blocks(s, s->emptied ? s->emptied : 1, &given);
	return space_is_unused(s);
}

/*
 * Number of a free record for @t, taken from an idle space if need be: its
 * pages are lost. -EAGAIN: some are, and the next of the kind goes on.
 */
static int space_find_record(struct tenant *t)
{
	struct mem *m = t->m;
	bool full = t->nr_spaces >= space_max(m);
	struct mem_space *s;
	uint32_t nr;

	for (nr = 0; !full && nr < m->table.h->nr_spaces; nr++)
		if (!m->spaces[nr])
			return (int)nr;
	s = space_cheapest(m, t, full);
	if (!s)
		return -ENOSPC;
	nr = s->id - 1;
	if (!space_empty(s))
		return -EAGAIN;
	space_destroy(s);
	return (int)nr;
}

static struct mem_space *space_find(const struct tenant *t,
				    const struct mem_space_key *key)
{
	struct mem *m = t->m;

	for (uint32_t i = 0; i < m->table.h->nr_spaces; i++) {
		struct mem_space *s = m->spaces[i];

		if (s && s->tenant == t &&
		    memcmp(&s->key, key, sizeof(*key)) == 0)
			return s;
	}
	return NULL;
}

/* ---- opening ---- */

static int space_find_or_new(struct tenant *t, const struct mem_space_key *key,
			     struct mem_space **ret, const char **ret_why)
{
	int nr, r;

	*ret = space_find(t, key);
	if (*ret)
		return 0;
	nr = space_find_record(t);
	if (nr < 0)
		return nr;
	r = space_new(t->m, t, (uint32_t)nr, key, ret, ret_why);
	if (r == 0)
		table_space_put(&t->m->table, (uint32_t)nr,
				(uint32_t)t->record, key);
	return r;
}

int mem_space_open(struct mem_client *c, const struct mem_space_key *key,
		   struct mem_space **ret, const char **ret_why)
{
	struct mem_space_key normal;
	struct mem_space *s;
	uint64_t *opened;
	int r;

	*ret_why = key_check(key);
	if (*ret_why)
		return -EINVAL;
	if (map_reserve(&c->spaces, 1) < 0)
		return -ENOMEM;
	normal = key_normal(key);
	r = space_find_or_new(c->tenant, &normal, &s, ret_why);
	if (r < 0) {
		mem_tell_room(c->m); /* another may have gone for it */
		return r;
	}
	opened = map_get(&c->spaces, s->id);
	if (opened) {
		++*opened;
	} else {
		map_put(&c->spaces, s->id, 1);
		s->nr_clients++;
	}
	c->opened = true;
	segment_make_ahead(c->tenant);
	*ret = s;
	mem_tell_room(c->m);
	return 0;
}

void mem_space_close(struct mem_client *c, struct mem_space *s)
{
	uint64_t *opened = map_get(&c->spaces, s->id);

	assert(opened);
	if (--*opened)
		return;
	map_del(&c->spaces, s->id);
	s->nr_clients--;
}

struct mem_space *mem_space_get(struct mem_client *c, uint32_t id)
{
	return map_get(&c->spaces, id) ? c->m->spaces[id - 1] : NULL;
}

/* ---- questions ---- */

uint32_t mem_space_id(const struct mem_space *s)
{
	return s->id;
}

uint64_t mem_space_fingerprint(const struct mem_space *s)
{
	return s->fingerprint;
}

const uint8_t *mem_space_name_key(const struct mem_space *s)
{
	return s->tenant->key;
}

uint64_t mem_space_serial(const struct mem_space *s)
{
	return s->serial;
}

const struct mem_class *mem_space_class(const struct mem_space *s, uint32_t i)
{
	return i < s->nr_classes ? &s->classes[i] : NULL;
}

int mem_space_index_fd(const struct mem_space *s)
{
	return s->index.fd;
}

int mem_space_stats_fd(const struct mem_space *s)
{
	return s->stats_fd;
}

void mem_space_count(struct mem_space *s, uint64_t hit_tokens,
		     uint64_t miss_tokens, uint64_t nonfinite)
{
	space_count(&s->stats->hit_tokens, hit_tokens);
	space_count(&s->stats->miss_tokens, miss_tokens);
	space_count(&s->stats->nonfinite, nonfinite);
	s->m->stat.hits += hit_tokens;
	s->m->stat.misses += miss_tokens;
	s->m->stat.nonfinite += nonfinite;
}

int mem_segment_get(struct mem_space *s, uint32_t id,
		    const struct dev_segment **ret)
{
	struct segment *seg = segment_find(s->m, id);

	if (!seg || seg->tenant != s->tenant || seg->revoked)
		return -ENOENT;
	seg->handed = true;
	*ret = &seg->dev;
	return 0;
}

uint32_t mem_segments(const struct mem_space *s, uint32_t *ids, uint32_t max)
{
	uint32_t nr = 0;

	list_for_each(pos, &s->tenant->segments) {
		const struct segment *seg =
			list_entry(pos, struct segment, link);

		if (nr == max)
			break;
		if (seg->nr_pages)
			ids[nr++] = seg->id;
	}
	return nr;
}

struct mem_space *mem_space_find(const struct mem *m, uint32_t id)
{
	return id && id <= m->table.h->nr_spaces ? m->spaces[id - 1] : NULL;
}

struct mem_space *mem_space_next(const struct mem *m, struct mem_space *prev)
{
	for (uint32_t i = prev ? prev->id : 0; i < m->table.h->nr_spaces; i++)
		if (m->spaces[i])
			return m->spaces[i];
	return NULL;
}
