// SPDX-License-Identifier: Apache-2.0
/*
 * trace_hot.c - the beginnings of prompts that a trace asks for most.
 */
#include "tools/kvbench/trace_hot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct seen {
	uint64_t id;
	uint32_t depth;
	uint32_t count;
};

struct all {
	struct seen *seen;
	size_t nr, room;
};

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_id(const void *a, const void *b)
{
	return compare(((const struct seen *)a)->id,
	               ((const struct seen *)b)->id);
}

/* Of equals the one before, so that none is without what it follows. */
static int by_count(const void *pa, const void *pb)
{
	const struct seen *a = pa, *b = pb;

	if (a->count != b->count)
		return -compare(a->count, b->count);
	if (a->depth != b->depth)
		return compare(a->depth, b->depth);
	return compare(a->id, b->id);
}

static int compare_ids(const void *a, const void *b)
{
	return compare(*(const uint64_t *)a, *(const uint64_t *)b);
}

/* ---- finding them ---- */

static uint32_t whole_blocks(const struct trace_request *r)
{
	return r->input / TRACE_BLOCK;
}

static int add(struct all *all, const struct trace_request *r)
{
	uint32_t i, nr = whole_blocks(r);
	struct seen *p;

	if (all->nr + nr > all->room) {
		all->room = (all->nr + nr) * 2;
		p = reallocarray(all->seen, all->room, sizeof(*p));
		if (!p)
			return -ENOMEM;
		all->seen = p;
	}
	for (i = 0; i < nr; i++)
		all->seen[all->nr++] = (struct seen){ r->ids[i], i, 1 };
	return 0;
}

/* Those of one id become one. */
static void join(struct all *all)
{
	size_t i, nr = 0;

	qsort(all->seen, all->nr, sizeof(*all->seen), by_id);
	for (i = 0; i < all->nr; i++) {
		if (nr && all->seen[nr - 1].id == all->seen[i].id)
			all->seen[nr - 1].count++;
		else
			all->seen[nr++] = all->seen[i];
	}
	all->nr = nr;
}

static int read_all(const char *path, uint32_t limit, struct all *all)
{
	struct trace_request r = { 0 };
	struct trace_file f;
	int err = trace_open(&f, path, limit), more = err ? 0 : 1;

	while (!err && more) {
		more = trace_next(&f, &r);
		err = more < 0 ? more : 0;
		if (more > 0)
			err = add(all, &r);
	}
	trace_close(&f);
	free(r.ids);
	return err;
}

static int take(struct trace_hot *h, struct all *all, uint32_t nr)
{
	uint32_t i;

	join(all);
	if (!all->nr)
		return 0;
	qsort(all->seen, all->nr, sizeof(*all->seen), by_count);
	h->nr = nr < all->nr ? nr : (uint32_t)all->nr;
	h->ids = calloc(h->nr, sizeof(*h->ids));
	h->are = calloc(h->nr, sizeof(*h->are));
	if (!h->ids || !h->are)
		return -ENOMEM;
	for (i = 0; i < h->nr; i++)
		h->ids[i] = all->seen[i].id;
	qsort(h->ids, h->nr, sizeof(*h->ids), compare_ids);
	return 0;
}

int trace_hot_find(struct trace_hot *h, const char *path, uint32_t limit,
                   uint32_t nr)
{
	struct all all = { NULL };
	int err;

	memset(h, 0, sizeof(*h));
	if (!nr)
		return 0;
	err = read_all(path, limit, &all);
	if (!err)
		err = take(h, &all, nr);
	free(all.seen);
	return err;
}

void trace_hot_fini(struct trace_hot *h)
{
	free(h->ids);
	free(h->are);
	memset(h, 0, sizeof(*h));
}

/* ---- asking ---- */

/* NULL: it is none of them. */
static atomic_uchar *state_of(const struct trace_hot *h, uint64_t id)
{
	const uint64_t *p = NULL;

	if (h->nr)
		p = bsearch(&id, h->ids, h->nr, sizeof(id), compare_ids);
	return p ? &h->are[p - h->ids] : NULL;
}

uint32_t trace_hot_blocks(const struct trace_hot *h,
                          const struct trace_request *r)
{
	uint32_t i, nr = whole_blocks(r);

	for (i = 0; i < nr && state_of(h, r->ids[i]); i++)
		;
	return i;
}

uint32_t trace_hot_pinned(const struct trace_hot *h,
                          const struct trace_request *r)
{
	uint32_t i, nr = trace_hot_blocks(h, r);

	for (i = 0; i < nr; i++)
		if (atomic_load(state_of(h, r->ids[i])) != TRACE_HOT_PINNED)
			break;
	return i;
}

enum trace_hot_state trace_hot_get(const struct trace_hot *h,
                                   const struct trace_request *r,
                                   uint32_t blocks)
{
	return (enum trace_hot_state)atomic_load(
		state_of(h, r->ids[blocks - 1]));
}

void trace_hot_set(struct trace_hot *h, const struct trace_request *r,
                   uint32_t blocks, enum trace_hot_state to)
{
	uint32_t i = to == TRACE_HOT_REFUSED ? blocks - 1 : 0;

	for (; i < blocks; i++)
		atomic_store(state_of(h, r->ids[i]), (unsigned char)to);
}
