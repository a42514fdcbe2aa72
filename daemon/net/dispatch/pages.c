// SPDX-License-Identifier: Apache-2.0
/*
 * pages.c - allocate, release, match, reference, claim.
 *
 * Counts are checked before anything is reserved for them. Arrays that come
 * in lists are bounded by the frame they came in; a request may carry at most
 * WIRE_MAX_PAGES all the same.
 */
#include <errno.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"
#include "daemon/net/throttle.h"
#include "proto/kvd.pb-c.h"

/* What a client may add to the counters of its space at once. */
#define MAX_COUNTED_TOKENS (1ULL << 32)

static int check_count(uint64_t nr, struct reply *r)
{
	if (nr > 0 && nr <= WIRE_MAX_PAGES)
		return 0;
	return reply_fail(r, -EINVAL,
			  "%llu pages: one request takes 1 to %u, split it",
			  (unsigned long long)nr, WIRE_MAX_PAGES);
}

static int get_space(const struct client *c, uint32_t id,
		     struct mem_space **ret, struct reply *r)
{
	*ret = mem_space_get(c->mem, id);
	if (!*ret)
		return reply_fail(r, -ENOENT,
				  "space %u is not open: open it first", id);
	return 0;
}

/* A space that @c may write to. */
static int get_writable(const struct client *c, uint32_t id,
			struct mem_space **ret, struct reply *r)
{
	const struct client_space *sp = client_space_find(c, id);

	if (sp && sp->read_only)
		return reply_fail(r, -EACCES,
				  "space %u was opened read-only", id);
	return get_space(c, id, ret, r);
}

static void count_tokens(struct mem_space *s, uint64_t hit, uint64_t miss)
{
	if (hit > MAX_COUNTED_TOKENS)
		hit = MAX_COUNTED_TOKENS;
	if (miss > MAX_COUNTED_TOKENS)
		miss = MAX_COUNTED_TOKENS;
	if (hit || miss)
		mem_space_count(s, hit, miss, 0);
}

/* ---- alloc ---- */

int alloc_try(struct client *c, const struct alloc_args *args,
	      struct reply *r)
{
	Kvd__AllocReply *a = arena_alloc(r->arena, sizeof(*a));
	struct mem_space *space;
	int err;

	err = get_writable(c, args->space, &space, r);
	if (err < 0)
		return err;
	if (!a)
		return -ENOMEM;
	kvd__alloc_reply__init(a);
	a->n_handles = a->n_places = args->count;
	a->handles = arena_array(r->arena, args->count, sizeof(uint64_t));
	a->places = arena_array(r->arena, args->count, sizeof(uint64_t));
	if (!a->handles || !a->places)
		return -ENOMEM;
	err = mem_alloc(c->mem, space, args->page_class, args->count,
			a->handles, a->places, &r->need_bytes);
	if (err == -EINVAL)
		return reply_fail(r, err, "%u pages of class %u: no such "
				  "class, or more than the pool or the tenant's "
				  "max can ever hold", args->count,
				  args->page_class);
	if (err == 0)
		r->msg = &a->base;
	return err;
}

int alloc_slow(struct client *c, const struct alloc_args *args,
	       uint64_t most_ms, const struct reply *r)
{
	uint64_t delay_ms = mem_client_delay_ms(c->mem);
	uint8_t *frame;
	size_t size;

	if (delay_ms > most_ms)
		delay_ms = most_ms;
	if (delay_ms == 0)
		return 0;
	frame = reply_pack(WIRE_ALLOC, args->frame_id, r, &size);
	if (!frame)
		return 0;
	return throttle_send(c, delay_ms, frame, size) < 0 ? 0 : REPLY_LATER;
}

static int alloc_later(struct client *c, const struct alloc_args *args,
		       uint64_t wait_ms, int why, struct reply *r)
{
	struct server *s = c->server;
	int err;

	events_short(c, why);
	if (wait_ms == 0)
		return why;
	if (wait_ms > s->cfg.max_wait_ms)
		wait_ms = s->cfg.max_wait_ms;
	err = waiter_add(c, args, uv_now(&s->loop) + wait_ms, why,
			 r->need_bytes);
	return err < 0 ? err : REPLY_LATER;
}

int do_alloc(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__AllocRequest *m = (const Kvd__AllocRequest *)req->msg;
	struct alloc_args args = { .frame_id = req->id,
				   .space = m->space,
				   .page_class = m->page_class,
				   .count = m->count };
	const struct server_config *cfg = &c->server->cfg;
	struct mem_space *space;
	int err;

	err = check_count(m->count, r);
	if (err < 0)
		return err;
	err = get_writable(c, m->space, &space, r);
	if (err < 0)
		return err;
	count_tokens(space, m->hit_tokens, m->miss_tokens);
	if (c->nr_throttled >= cfg->max_waiting ||
	    c->user->nr_throttled >= cfg->max_waiting_per_user)
		return -EBUSY;
	if (waiters_ahead(c))
		err = -EAGAIN;
	else
		err = alloc_try(c, &args, r);
	if (waiter_may_wait(err))
		return alloc_later(c, &args, m->deadline_ms, err, r);
	/* Not to wait for room is not to be spared this. */
	if (err == 0)
		err = alloc_slow(c, &args, m->deadline_ms ? m->deadline_ms :
				 UINT64_MAX, r);
	return err;
}

/* ---- holds ---- */

int do_release(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__ReleaseRequest *m = (const Kvd__ReleaseRequest *)req->msg;
	Kvd__ReleaseReply *a;
	uint32_t released = 0;
	int err;

	err = check_count(m->n_handles, r);
	if (err < 0)
		return err;
	a = arena_alloc(r->arena, sizeof(*a));
	if (!a)
		return -ENOMEM;
	err = mem_release(c->mem, m->handles, (uint32_t)m->n_handles,
			  &released);
	if (err < 0)
		return reply_fail(r, err, "handle %u of %zu is not held by "
				  "this client; those before it were released",
				  released + 1, m->n_handles);
	kvd__release_reply__init(a);
	a->released = released;
	r->msg = &a->base;
	return 0;
}

int do_match(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__MatchRequest *m = (const Kvd__MatchRequest *)req->msg;
	struct mem_space *space;
	Kvd__MatchReply *a;
	int err;

	if (m->n_handles > 0) {
		err = check_count(m->n_handles, r);
		if (err < 0)
			return err;
	}
	err = get_space(c, m->space, &space, r);
	if (err < 0)
		return err;
	a = arena_alloc(r->arena, sizeof(*a));
	if (!a)
		return -ENOMEM;
	kvd__match_reply__init(a);
	a->places = arena_array(r->arena, m->n_handles, sizeof(uint64_t));
	if (!a->places)
		return -ENOMEM;
	count_tokens(space, m->hit_tokens, m->miss_tokens);
	if (m->n_handles > 0)
		a->granted = mem_match(c->mem, space, m->handles,
				       (uint32_t)m->n_handles, a->places);
	a->n_places = a->granted;
	r->msg = &a->base;
	return 0;
}

int do_reference(struct client *c, const struct request *req,
		 struct reply *r)
{
	const Kvd__ReferenceRequest *m =
		(const Kvd__ReferenceRequest *)req->msg;
	int err;

	err = check_count(m->n_handles, r);
	if (err < 0)
		return err;
	return mem_reference(c->mem, m->handles, (uint32_t)m->n_handles);
}

int do_claim(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__ClaimRequest *m = (const Kvd__ClaimRequest *)req->msg;
	struct mem_space *space = NULL;
	Kvd__ClaimReply *a;
	size_t i;
	int err;

	err = m->n_handles || !m->rest ? check_count(m->n_handles, r) : 0;
	if (err < 0)
		return err;
	if (m->n_holds != m->n_handles)
		return reply_fail(r, -EINVAL, "%zu handles, but %zu holds",
				  m->n_handles, m->n_holds);
	err = m->n_handles ? get_space(c, m->space, &space, r) : 0;
	if (err < 0)
		return err;
	a = arena_alloc(r->arena, sizeof(*a));
	if (!a)
		return -ENOMEM;
	kvd__claim_reply__init(a);
	a->granted = arena_array(r->arena, m->n_handles, sizeof(*a->granted));
	if (!a->granted)
		return -ENOMEM;
	a->n_granted = m->n_handles;
	for (i = 0; i < m->n_handles; i++)
		a->granted[i] = m->holds[i] > 0 &&
				mem_claim(c->mem, space, m->handles[i],
					  m->holds[i]) == 0;
	a->more = m->rest && mem_claim_rest(c->mem);
	if (m->rest && c->proc && c->series)
		away_end(c->server, c->proc, c->series);
	r->msg = &a->base;
	return 0;
}
