// SPDX-License-Identifier: Apache-2.0
/*
 * publish.c - seal pages and put blocks in the index.
 *
 * Every block of a request is checked against the space before the first is
 * published, so that a malformed one changes nothing. Blocks are then
 * published in order, up to the first that mem refuses. An error names no
 * pages, so holds that the client would have learned of are then dropped.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

static int check_block(const struct client_space *sp, const Kvd__Block *b,
		       size_t i, struct reply *r)
{
	if (b->parent.len != NAME_BYTES ||
	    (b->extra.len != 0 && b->extra.len != NAME_BYTES))
		return reply_fail(r, -EINVAL, "block %zu: parent takes 16 "
				  "bytes, extra 16 or none", i);
	if (b->n_tokens != sp->page_tokens)
		return reply_fail(r, -EINVAL,
				  "block %zu: %zu tokens, a page has %u", i,
				  b->n_tokens, sp->page_tokens);
	if (b->n_handles != sp->nr_classes)
		return reply_fail(r, -EINVAL,
				  "block %zu: %zu handles for %u classes", i,
				  b->n_handles, sp->nr_classes);
	return 0;
}

static int check_blocks(const struct client_space *sp,
			const Kvd__PublishRequest *m, struct reply *r)
{
	size_t i;
	int err;

	if ((unsigned)m->priority > KVD__PRIORITY__PRIORITY_HIGH)
		return reply_fail(r, -EINVAL, "there is no priority %u",
				  (unsigned)m->priority);
	if (m->n_blocks * sp->nr_classes > WIRE_MAX_PAGES)
		return reply_fail(r, -EINVAL, "%zu blocks: split the request",
				  m->n_blocks);
	for (i = 0; i < m->n_blocks; i++) {
		err = check_block(sp, m->blocks[i], i, r);
		if (err < 0)
			return err;
	}
	return 0;
}

static int get_priority(const Kvd__PublishRequest *m)
{
	switch (m->priority) {
	case KVD__PRIORITY__PRIORITY_LOW:
		return MEM_LOW;
	case KVD__PRIORITY__PRIORITY_HIGH:
		return MEM_HIGH;
	default:
		return MEM_NORMAL;
	}
}

static void get_block(const Kvd__Block *m, struct mem_block *b)
{
	memset(b, 0, sizeof(*b));
	memcpy(b->parent.b, m->parent.data, NAME_BYTES);
	if (m->extra.len > 0)
		memcpy(b->extra.b, m->extra.data, NAME_BYTES);
	b->tokens = m->tokens;
	b->depth = m->depth;
	memcpy(b->pages, m->handles, m->n_handles * sizeof(handle_t));
}

static const char *refusal(int err)
{
	switch (err) {
	case -ESTALE:
		return "a page that this client does not hold";
	case -EINVAL:
		return "a page of another class than its slot's, or "
		       "with another name";
	default:
		return "kvd is out of memory";
	}
}

/* Drops the holds gained on pages that were kept in place of @m's. */
static void drop_kept(struct client *c, const struct client_space *sp,
		      const Kvd__PublishRequest *m, size_t nr_blocks,
		      Kvd__PublishReply *a)
{
	uint32_t nr = 0, released;
	size_t i;

	for (i = 0; i < nr_blocks * sp->nr_classes; i++)
		if (a->handles[i] != m->blocks[i / sp->nr_classes]->handles
					     [i % sp->nr_classes])
			a->handles[nr++] = a->handles[i];
	mem_release(c->mem, a->handles, nr, &released);
}

static int publish_blocks(struct client *c, struct mem_space *space,
			  const struct client_space *sp,
			  const Kvd__PublishRequest *m,
			  Kvd__PublishReply *a, struct reply *r)
{
	struct mem_block b;
	size_t i, at;
	int err;

	for (i = 0; i < m->n_blocks; i++) {
		at = i * sp->nr_classes;
		get_block(m->blocks[i], &b);
		b.priority = get_priority(m);
		err = mem_publish(c->mem, space, &b, m->private_,
				  a->handles + at, a->places + at);
		if (err == 0)
			continue;
		drop_kept(c, sp, m, i, a);
		return reply_fail(r, err, "block %zu of %zu: %s; those before "
				  "it were published", i, m->n_blocks,
				  refusal(err));
	}
	return 0;
}

/* Blocks of one announcement come in order: the last says how far it is. */
static void note_flight(struct client *c, const Kvd__PublishRequest *m)
{
	if (m->flight && m->n_blocks && !m->private_)
		flight_progress(c, m->flight,
				m->blocks[m->n_blocks - 1]->depth + 1);
}

int do_publish(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__PublishRequest *m = (const Kvd__PublishRequest *)req->msg;
	const struct client_space *sp = client_space_find(c, m->space);
	struct mem_space *space = mem_space_get(c->mem, m->space);
	Kvd__PublishReply *a;
	size_t nr;
	int err;

	if (!sp || !space)
		return reply_fail(r, -ENOENT, "space %u is not open: open it "
				  "first", m->space);
	if (sp->read_only)
		return reply_fail(r, -EACCES, "space %u was opened read-only",
				  m->space);
	err = check_blocks(sp, m, r);
	if (err < 0)
		return err;
	nr = m->n_blocks * sp->nr_classes;
	a = arena_alloc(r->arena, sizeof(*a));
	if (!a)
		return -ENOMEM;
	kvd__publish_reply__init(a);
	a->n_handles = a->n_places = nr;
	a->handles = arena_array(r->arena, nr, sizeof(uint64_t));
	a->places = arena_array(r->arena, nr, sizeof(uint64_t));
	if (!a->handles || !a->places)
		return -ENOMEM;
	if (m->nonfinite > 0)
		mem_space_count(space, 0, 0, m->nonfinite);
	err = publish_blocks(c, space, sp, m, a, r);
	if (err < 0)
		return err;
	note_flight(c, m);
	r->msg = &a->base;
	return 0;
}
