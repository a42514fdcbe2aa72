// SPDX-License-Identifier: Apache-2.0
/*
 * spaces.c - open and close a space, map its segments.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/restore.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

#define STOCK_PAGES 64
#define NR_SPACE_FDS 2 /* index, statistics */

/* ---- open ---- */

static int get_geometry(const Kvd__Geometry *m, struct kvd_geometry *g,
			struct reply *r)
{
	size_t i;

	if (!m)
		return reply_fail(r, -EINVAL, "geometry is missing");
	if (m->n_groups > KVD_MAX_GROUPS)
		return reply_fail(r, -EINVAL, "groups: at most %u",
				  KVD_MAX_GROUPS);
	memset(g, 0, sizeof(*g));
	g->size = sizeof(*g);
	g->page_tokens = m->page_tokens;
	g->k_format = m->k_format;
	g->v_format = m->v_format;
	g->rope_order = m->rope_order;
	g->tile_order = m->tile_order;
	g->open_format = m->open_format;
	g->exact_pages = m->exact_pages;
	g->v_group = m->v_group;
	g->profile = m->profile;
	g->demote_k = m->demote_k;
	g->demote_v = m->demote_v;
	g->nr_groups = (uint32_t)m->n_groups;
	for (i = 0; i < m->n_groups; i++)
		g->groups[i] = (struct kvd_group){
			.nr_layers = m->groups[i]->nr_layers,
			.nr_kv_heads = m->groups[i]->nr_kv_heads,
			.head_first = m->groups[i]->head_first,
			.k_dim = m->groups[i]->k_dim,
			.v_dim = m->groups[i]->v_dim,
			.window = m->groups[i]->window,
			.exact = m->groups[i]->exact,
		};
	return 0;
}

static int get_space_key(const Kvd__OpenSpaceRequest *m,
			 struct mem_space_key *key, struct reply *r)
{
	if (m->model.len != sizeof(key->model))
		return reply_fail(r, -EINVAL, "model: %zu bytes, not %zu",
				  m->model.len, sizeof(key->model));
	memcpy(key->model, m->model.data, sizeof(key->model));
	key->tp_rank = m->tp_rank;
	key->tp_size = m->tp_size;
	if (key->tp_size == 0 || key->tp_rank >= key->tp_size)
		return reply_fail(r, -EINVAL, "tp_rank %u of tp_size %u",
				  m->tp_rank, m->tp_size);
	return get_geometry(m->geometry, &key->geometry, r);
}

/* Notes that @c has the space open. A second opening may only widen it. */
static int note_space(struct client *c, const struct mem_space *space,
		      uint32_t page_tokens, bool read_only)
{
	uint32_t id = mem_space_id(space);
	struct client_space *sp = client_space_find(c, id);

	if (sp) {
		sp->nr_opens++;
		sp->read_only &= read_only;
		return 0;
	}
	sp = malloc(sizeof(*sp));
	if (!sp)
		return -ENOMEM;
	sp->id = id;
	sp->nr_opens = 1;
	sp->page_tokens = page_tokens;
	sp->nr_classes = 0;
	while (mem_space_class(space, sp->nr_classes))
		sp->nr_classes++;
	sp->read_only = read_only;
	LIST_INSERT_HEAD(&c->spaces, sp, link);
	return 0;
}

static int put_classes(const struct mem_space *space, Kvd__OpenSpaceReply *a,
		       uint64_t *ret_largest, struct arena *arena)
{
	const struct mem_class *class;
	Kvd__PageClass *pc;
	uint32_t i;

	*ret_largest = 0;
	a->classes = arena_array(arena, MEM_MAX_CLASSES, sizeof(*a->classes));
	pc = arena_array(arena, MEM_MAX_CLASSES, sizeof(*pc));
	if (!a->classes || !pc)
		return -ENOMEM;
	for (i = 0; (class = mem_space_class(space, i)); i++) {
		kvd__page_class__init(&pc[i]);
		pc[i].group = class->group;
		pc[i].k_format = class->k_format;
		pc[i].v_format = class->v_format;
		pc[i].page_bytes = class->page_bytes;
		a->classes[i] = &pc[i];
		if (class->page_bytes > *ret_largest)
			*ret_largest = class->page_bytes;
	}
	a->n_classes = i;
	return 0;
}

/* Those that were handed out to whoever wrote the pages: nothing is lost. */
static int put_segments(const struct mem_space *space, Kvd__OpenSpaceReply *a,
			struct arena *arena)
{
	a->segments = arena_array(arena, WIRE_MAX_OPEN_SEGMENTS,
				  sizeof(*a->segments));
	if (!a->segments)
		return -ENOMEM;
	a->n_segments = mem_segments(space, a->segments,
				     WIRE_MAX_OPEN_SEGMENTS);
	return 0;
}

static int put_fds(const struct mem_space *space, struct reply *r)
{
	const int fds[NR_SPACE_FDS] = { mem_space_index_fd(space),
					mem_space_stats_fd(space) };
	unsigned i;

	for (i = 0; i < NR_SPACE_FDS; i++) {
		r->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (r->fds[i] < 0)
			return -errno;
		r->nr_fds++;
	}
	return 0;
}

/* The lesser of 64 pages and 1 % of what the tenant may have. */
static uint64_t stock_bytes(const struct client *c, uint64_t page_bytes)
{
	uint64_t max = c->tenant->limits.of[LIMIT_MAX];

	if (max == 0 || max > elastic_bytes(c->server))
		max = elastic_bytes(c->server);
	max /= 100;
	return STOCK_PAGES * page_bytes < max ? STOCK_PAGES * page_bytes : max;
}

static int put_space(const struct client *c, const struct mem_space *space,
		     struct reply *r)
{
	Kvd__OpenSpaceReply *a = arena_alloc(r->arena, sizeof(*a));
	uint64_t largest;
	int err;

	if (!a)
		return -ENOMEM;
	kvd__open_space_reply__init(a);
	a->space = mem_space_id(space);
	a->name_key.data = (uint8_t *)(uintptr_t)mem_space_name_key(space);
	a->name_key.len = NAME_KEY_BYTES;
	a->fingerprint = mem_space_fingerprint(space);
	err = put_classes(space, a, &largest, r->arena);
	if (err < 0)
		return err;
	err = put_segments(space, a, r->arena);
	if (err < 0)
		return err;
	a->stock_bytes = stock_bytes(c, largest);
	r->msg = &a->base;
	return put_fds(space, r);
}

/* Are there too many that were not read? */
static int take_fds(struct client *c, size_t nr, struct reply *r)
{
	int err = user_take_fds(c, (unsigned)nr);

	if (err == -EBUSY)
		return reply_fail(r, err, "%u descriptors were sent to this "
				  "user and not read (max-fds-per-user): read "
				  "replies first", c->user->nr_fds);
	return err;
}

int do_open_space(struct client *c, const struct request *req,
		  struct reply *r)
{
	const Kvd__OpenSpaceRequest *m =
		(const Kvd__OpenSpaceRequest *)req->msg;
	struct mem_space_key key;
	struct mem_space *space;
	const char *why = NULL;
	int err;

	if (!c->proc)
		return reply_fail(r, -EACCES, "kvd cannot see the client's "
				  "process, so would not learn of its end: send "
				  "its pidfd with hello, or share the PID "
				  "namespace of kvd");
	err = get_space_key(m, &key, r);
	if (err == 0)
		err = take_fds(c, NR_SPACE_FDS, r);
	if (err < 0)
		return err;
	err = mem_space_open(c->mem, &key, &space, &why);
	if (err == -EINVAL && why)
		return reply_fail(r, err, "geometry: %s", why);
	if (err == -ENOSPC)
		return reply_fail(r, err, "too many spaces: close some");
	if (err == -EAGAIN)
		return reply_fail(r, -EINPROGRESS, "pages of a space that "
				  "nobody has open go first: ask again");
	if (err < 0)
		return err;
	if (m->mps) {
		proc_says_mps(c->proc);
		restore_note_mps(c->server);
	}
	err = put_space(c, space, r);
	if (err == 0)
		err = note_space(c, space, key.geometry.page_tokens,
				 m->read_only);
	if (err < 0)
		mem_space_close(c->mem, space);
	return err;
}

/* ---- close ---- */

static int find_open(const struct client *c, uint32_t id,
		     struct client_space **ret_sp, struct mem_space **ret,
		     struct reply *r)
{
	*ret_sp = client_space_find(c, id);
	*ret = *ret_sp ? mem_space_get(c->mem, id) : NULL;
	if (!*ret)
		return reply_fail(r, -ENOENT,
				  "space %u is not open: open it first", id);
	return 0;
}

int do_close_space(struct client *c, const struct request *req,
		   struct reply *r)
{
	const Kvd__CloseSpaceRequest *m =
		(const Kvd__CloseSpaceRequest *)req->msg;
	struct client_space *sp;
	struct mem_space *space;
	int err;

	err = find_open(c, m->space, &sp, &space, r);
	if (err < 0)
		return err;
	if (--sp->nr_opens == 0) {
		flights_end_space(c, sp->id);
		LIST_REMOVE(sp, link);
		free(sp);
	}
	mem_space_close(c->mem, space);
	return 0;
}

/* ---- map ---- */

static int put_segment(struct client *c, struct mem_space *space, uint32_t id,
		       bool writable, Kvd__Segment *out, struct reply *r)
{
	const struct dev_segment *seg;
	struct dev_export ex;
	uint8_t *handle;
	int err;

	err = mem_segment_get(space, id, &seg);
	if (err < 0)
		return reply_fail(r, err, "segment %u: not one of this space's "
				  "tenant", id);
	handle = arena_alloc(r->arena, DEV_IPC_HANDLE_BYTES);
	if (!handle)
		return -ENOMEM;
	err = dev_export(c->server->dev, seg, writable, &ex);
	if (err < 0)
		return err;
	kvd__segment__init(out);
	out->id = id;
	out->bytes = seg->bytes;
	out->kind = (uint32_t)ex.kind;
	if (ex.kind == WIRE_SEGMENT_IPC) {
		memcpy(handle, ex.ipc_handle, DEV_IPC_HANDLE_BYTES);
		out->ipc_handle.data = handle;
		out->ipc_handle.len = DEV_IPC_HANDLE_BYTES;
	} else {
		r->fds[r->nr_fds++] = ex.fd;
	}
	return 0;
}

/* Each once. */
static int check_segments(const Kvd__MapRequest *m, struct reply *r)
{
	size_t i, j;

	if (m->n_segments == 0 || m->n_segments > WIRE_MAX_FDS)
		return reply_fail(r, -EINVAL, "segments: %zu, not 1 to %u",
				  m->n_segments, WIRE_MAX_FDS);
	for (i = 1; i < m->n_segments; i++)
		for (j = 0; j < i; j++)
			if (m->segments[j] == m->segments[i])
				return reply_fail(r, -EINVAL,
						  "segment %u is asked for "
						  "twice", m->segments[i]);
	return 0;
}

int do_map(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__MapRequest *m = (const Kvd__MapRequest *)req->msg;
	struct client_space *sp;
	struct mem_space *space;
	Kvd__MapReply *a;
	Kvd__Segment *segs;
	size_t i;
	int err;

	err = check_segments(m, r);
	if (err < 0)
		return err;
	err = find_open(c, m->space, &sp, &space, r);
	if (err == 0)
		err = take_fds(c, m->n_segments, r);
	if (err < 0)
		return err;
	a = arena_alloc(r->arena, sizeof(*a));
	segs = arena_array(r->arena, m->n_segments, sizeof(*segs));
	if (!a || !segs)
		return -ENOMEM;
	kvd__map_reply__init(a);
	a->segments = arena_array(r->arena, m->n_segments,
				  sizeof(*a->segments));
	if (!a->segments)
		return -ENOMEM;
	for (i = 0; i < m->n_segments; i++) {
		err = put_segment(c, space, m->segments[i], !sp->read_only,
				  &segs[i], r);
		if (err < 0)
			return err;
		a->segments[a->n_segments++] = &segs[i];
	}
	r->msg = &a->base;
	return 0;
}
