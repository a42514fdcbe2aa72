// SPDX-License-Identifier: Apache-2.0
/*
 * stats.c - status, stat, clients, spaces.
 *
 * Totals of the pool are for everybody who may connect. What names clients or
 * spaces shows a tenant only its own, an admin all.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"
#include "kvd/geometry.h"
#include "proto/kvd.pb-c.h"

/* Entries of one reply; at their largest they fit in a frame. */
#define MAX_CLIENTS 256
#define MAX_SPACES 100
#define MAX_CLASSES 256
#define MAX_VIOLATIONS 64

static char *unconst(const char *s)
{
	return (char *)(uintptr_t)s;
}

int do_status(struct client *c, const struct request *req, struct reply *r)
{
	struct server *s = c->server;
	struct mem_stat st;
	Kvd__StatusReply *a = arena_alloc(r->arena, sizeof(*a));

	if (!a)
		return -ENOMEM;
	mem_stat(s->mem, &st);
	kvd__status_reply__init(a);
	a->version = unconst(KVD_VERSION);
	a->pid = (uint32_t)getpid();
	a->uptime_ms = uv_now(&s->loop) - s->start_ms;
	a->device = unconst(dev_spec(s->dev));
	a->device_note = s->device_note;
	a->epoch = mem_epoch(s->mem);
	a->instance = s->instance;
	a->state = unconst(s->stuck ? "degraded" :
			   mem_in_grace(s->mem) ? "grace" : "ready");
	a->nr_clients = s->nr_clients;
	a->nr_spaces = st.nr_spaces;
	a->restarts = mem_restarts(s->mem);
	a->socket = s->cfg.socket;
	a->requests = s->nr_requests;
	a->room = st.room;
	a->mark_min = st.marks.min;
	a->mark_low = st.marks.low;
	a->mark_high = st.marks.high;
	r->msg = &a->base;
	return 0;
}

/* ---- stat ---- */

Kvd__Counts *put_counts(const struct mem_counts *n, struct arena *arena)
{
	Kvd__Counts *a = arena_alloc(arena, sizeof(*a));

	if (!a)
		return NULL;
	kvd__counts__init(a);
	a->total = n->total;
	a->free = n->of[PAGE_FREE];
	a->open = n->of[PAGE_OPEN];
	a->sealed = n->of[PAGE_SEALED];
	a->cached = n->of[PAGE_CACHED];
	a->demoted = n->of[PAGE_DEMOTED];
	a->quarantined = n->of[PAGE_QUARANTINED];
	a->revoked = n->of[PAGE_REVOKED];
	return a;
}

bool may_see(const struct client *c, const char *tenant)
{
	return c->admin || strcmp(c->tenant->name, tenant) == 0;
}

static int put_class(const struct mem_space_stat *st,
		     const struct mem_class *class, uint32_t i,
		     Kvd__PoolStat *pool, struct arena *arena)
{
	Kvd__ClassStat *a;
	char *format;

	if (pool->n_classes == MAX_CLASSES) {
		pool->classes_omitted++;
		return 0;
	}
	a = arena_alloc(arena, sizeof(*a));
	format = arena_alloc(arena, KVD_FORMATS_TEXT);
	if (!a || !format)
		return -ENOMEM;
	kvd__class_stat__init(a);
	a->space = st->id;
	a->group = class->group;
	a->page_class = i;
	a->format = unconst(kvd_formats_name(class->k_format, class->v_format,
					     format));
	a->page_bytes = class->page_bytes;
	a->page_tokens = st->key->geometry.page_tokens;
	a->pages = put_counts(&st->class_pages[i], arena);
	pool->classes[pool->n_classes++] = a;
	return a->pages ? 0 : -ENOMEM;
}

static int put_classes(const struct client *c, Kvd__PoolStat *pool,
		       struct arena *arena)
{
	const struct mem_class *class;
	struct mem_space *sp = NULL;
	struct mem_space_stat st;
	uint32_t i;
	int err;

	pool->classes = arena_array(arena, MAX_CLASSES,
				    sizeof(*pool->classes));
	if (!pool->classes)
		return -ENOMEM;
	while ((sp = mem_space_next(c->server->mem, sp))) {
		mem_space_stat(sp, &st);
		if (!may_see(c, st.tenant))
			continue;
		for (i = 0; (class = mem_space_class(sp, i)); i++) {
			err = put_class(&st, class, i, pool, arena);
			if (err < 0)
				return err;
		}
	}
	return 0;
}

static int put_pool(const struct client *c, Kvd__PoolStat *pool,
		    struct arena *arena)
{
	struct mem_stat st;

	mem_stat(c->server->mem, &st);
	kvd__pool_stat__init(pool);
	pool->device = unconst(dev_spec(c->server->dev));
	pool->pages = put_counts(&st.pages, arena);
	pool->bytes = put_counts(&st.bytes, arena);
	if (!pool->pages || !pool->bytes)
		return -ENOMEM;
	pool->segments = st.segments;
	pool->hits = st.hits;
	pool->misses = st.misses;
	pool->published = st.published;
	pool->deduplicated = st.deduplicated;
	pool->evicted = st.evicted;
	pool->demoted = st.demoted;
	pool->nonfinite = st.nonfinite;
	pool->room = st.room;
	pool->mark_min = st.marks.min;
	pool->mark_low = st.marks.low;
	pool->mark_high = st.marks.high;
	pool->reclaimed_background = st.reclaimed[MEM_RECLAIM_BACKGROUND];
	pool->reclaimed_direct = st.reclaimed[MEM_RECLAIM_DIRECT];
	pool->reclaimed_demand = st.reclaimed[MEM_RECLAIM_DEMAND];
	pool->reclaimed_limits = st.reclaimed[MEM_RECLAIM_LIMITS];
	pool->quarantine_released = st.released;
	return put_classes(c, pool, arena);
}

struct verified {
	Kvd__StatReply *reply;
	struct arena *arena;
};

static void put_violation(void *ctx, const char *what)
{
	struct verified *v = ctx;
	Kvd__StatReply *a = v->reply;
	char *line;

	if (a->nr_violations++ >= MAX_VIOLATIONS)
		return;
	line = arena_array(v->arena, 1, strlen(what) + 1);
	if (line)
		a->violations[a->n_violations++] = strcpy(line, what);
}

static int put_verified(const struct server *s, Kvd__StatReply *a,
			struct arena *arena)
{
	struct verified v = { a, arena };
	int err;

	a->violations = arena_array(arena, MAX_VIOLATIONS,
				    sizeof(*a->violations));
	if (!a->violations)
		return -ENOMEM;
	err = mem_verify_all(s->mem, put_violation, &v);
	if (err != -EUCLEAN)
		return err;
	if (!a->n_violations)
		return -ENOMEM;
	a->verify_error = a->violations[0];
	return 0;
}

static Kvd__LoopStat *put_loop(struct turns *t, bool reset,
			       struct arena *arena)
{
	Kvd__LoopStat *a = arena_alloc(arena, sizeof(*a));
	struct turn_max window = turns_window(t);

	if (!a)
		return NULL;
	kvd__loop_stat__init(a);
	a->wall_ns = window.wall_ns;
	a->cpu_ns = window.cpu_ns;
	a->ever_wall_ns = t->ever.wall_ns;
	a->ever_cpu_ns = t->ever.cpu_ns;
	if (reset)
		turns_reset(t);
	return a;
}

static Kvd__FlightStat *put_flights(const struct client *c,
				    struct arena *arena)
{
	Kvd__FlightStat *a = arena_alloc(arena, sizeof(*a));
	const struct tenant *t;

	if (!a)
		return NULL;
	kvd__flight_stat__init(a);
	TAILQ_FOREACH(t, &c->server->tenants.list, link) {
		if (!may_see(c, t->name))
			continue;
		a->announced += t->flights.announced;
		a->waited += t->flights.waited;
		a->saved_tokens += t->flights.saved;
		a->late += t->flights.late;
		a->stalled += t->flights.stalled;
		a->given_up += t->flights.given_up;
		a->flights += t->flights.nr_flights;
		a->waiting += t->flights.nr_waits;
	}
	return a;
}

int do_stat(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__StatRequest *m = (const Kvd__StatRequest *)req->msg;
	Kvd__StatReply *a = arena_alloc(r->arena, sizeof(*a));
	Kvd__PoolStat *pool = arena_alloc(r->arena, sizeof(*pool));
	Kvd__PoolStat **pools = arena_array(r->arena, 1, sizeof(*pools));
	int err;

	if (m->verify && !c->admin)
		return reply_fail(r, -EACCES, "verify walks the whole pool: "
				  "it is for root and the admin group");
	if (m->loop_reset && !c->admin)
		return reply_fail(r, -EACCES, "the longest turn is forgotten "
				  "for root and the admin group");
	if (!a || !pool || !pools)
		return -ENOMEM;
	err = put_pool(c, pool, r->arena);
	if (err < 0)
		return err;
	kvd__stat_reply__init(a);
	pools[0] = pool;
	a->pools = pools;
	a->n_pools = 1;
	a->loop = put_loop(&c->server->turns, m->loop_reset, r->arena);
	a->flight = put_flights(c, r->arena);
	if (!a->loop || !a->flight || put_tiers(c, a, r->arena) < 0)
		return -ENOMEM;
	r->msg = &a->base;
	return m->verify ? put_verified(c->server, a, r->arena) : 0;
}

/* ---- clients ---- */

static Kvd__ClientStat *put_client(const struct client *of,
				   struct arena *arena)
{
	Kvd__ClientStat *a = arena_alloc(arena, sizeof(*a));
	struct mem_client_stat st = { 0 };

	if (!a)
		return NULL;
	if (of->mem)
		mem_client_stat(of->mem, &st);
	kvd__client_stat__init(a);
	a->id = of->id;
	a->pid = (uint32_t)of->peer.pid;
	a->uid = of->peer.uid;
	a->tenant = of->tenant->name;
	a->program = unconst(of->program);
	a->connected_ms = uv_now(&of->server->loop) - of->since_ms;
	a->requests = of->nr_requests;
	a->open_pages = st.open_pages;
	a->held_pages = st.held_pages;
	a->bytes = st.bytes;
	return a;
}

int do_clients(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__ClientsRequest *m = (const Kvd__ClientsRequest *)req->msg;
	Kvd__ClientsReply *a = arena_alloc(r->arena, sizeof(*a));
	const struct client *of;

	if (!a)
		return -ENOMEM;
	kvd__clients_reply__init(a);
	a->clients = arena_array(r->arena, MAX_CLIENTS, sizeof(*a->clients));
	if (!a->clients)
		return -ENOMEM;
	TAILQ_FOREACH(of, &c->server->clients, link) {
		if (of->id <= m->after || !may_see(c, of->tenant->name))
			continue;
		a->more = a->n_clients == MAX_CLIENTS;
		if (a->more)
			break;
		a->clients[a->n_clients] = put_client(of, r->arena);
		if (!a->clients[a->n_clients++])
			return -ENOMEM;
	}
	r->msg = &a->base;
	return 0;
}

/* ---- spaces ---- */

static Kvd__Group *put_group(const struct kvd_group *g, struct arena *arena)
{
	Kvd__Group *a = arena_alloc(arena, sizeof(*a));

	if (!a)
		return NULL;
	kvd__group__init(a);
	a->nr_layers = g->nr_layers;
	a->nr_kv_heads = g->nr_kv_heads;
	a->head_first = g->head_first;
	a->k_dim = g->k_dim;
	a->v_dim = g->v_dim;
	a->window = g->window;
	a->exact = g->exact;
	return a;
}

static Kvd__Geometry *put_geometry(const struct kvd_geometry *g,
				   struct arena *arena)
{
	Kvd__Geometry *a = arena_alloc(arena, sizeof(*a));
	uint32_t i;

	if (!a)
		return NULL;
	kvd__geometry__init(a);
	a->page_tokens = g->page_tokens;
	a->k_format = g->k_format;
	a->v_format = g->v_format;
	a->rope_order = g->rope_order;
	a->tile_order = g->tile_order;
	a->open_format = g->open_format;
	a->exact_pages = g->exact_pages;
	a->v_group = g->v_group;
	a->profile = g->profile;
	a->demote_k = g->demote_k;
	a->demote_v = g->demote_v;
	a->groups = arena_array(arena, g->nr_groups, sizeof(*a->groups));
	if (!a->groups)
		return NULL;
	for (i = 0; i < g->nr_groups; i++) {
		a->groups[i] = put_group(&g->groups[i], arena);
		if (!a->groups[i])
			return NULL;
		a->n_groups++;
	}
	return a;
}

static Kvd__SpaceStat *put_space(const struct mem_space_stat *st,
				 struct arena *arena)
{
	Kvd__SpaceStat *a = arena_alloc(arena, sizeof(*a));

	if (!a)
		return NULL;
	kvd__space_stat__init(a);
	a->id = st->id;
	a->tenant = unconst(st->tenant);
	a->model.data = (uint8_t *)(uintptr_t)st->key->model;
	a->model.len = sizeof(st->key->model);
	a->fingerprint = st->fingerprint;
	a->geometry = put_geometry(&st->key->geometry, arena);
	a->tp_rank = st->key->tp_rank;
	a->tp_size = st->key->tp_size;
	a->clients = st->clients;
	a->blocks = st->blocks;
	a->hits = st->hits;
	a->misses = st->misses;
	a->pages = put_counts(&st->pages, arena);
	return a->geometry && a->pages ? a : NULL;
}

int do_spaces(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__SpacesRequest *m = (const Kvd__SpacesRequest *)req->msg;
	Kvd__SpacesReply *a = arena_alloc(r->arena, sizeof(*a));
	struct mem_space *sp = NULL;
	struct mem_space_stat st;
	uint32_t seen = 0;

	if (!a)
		return -ENOMEM;
	kvd__spaces_reply__init(a);
	a->spaces = arena_array(r->arena, MAX_SPACES, sizeof(*a->spaces));
	if (!a->spaces)
		return -ENOMEM;
	while ((sp = mem_space_next(c->server->mem, sp))) {
		mem_space_stat(sp, &st);
		if (!may_see(c, st.tenant) || seen++ < m->skip)
			continue;
		a->more = a->n_spaces == MAX_SPACES;
		if (a->more)
			break;
		a->spaces[a->n_spaces] = put_space(&st, r->arena);
		if (!a->spaces[a->n_spaces++])
			return -ENOMEM;
	}
	r->msg = &a->base;
	return 0;
}
