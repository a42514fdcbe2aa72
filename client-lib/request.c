// SPDX-License-Identifier: Apache-2.0
/*
 * request.c - the library's requests, to and from protobuf.
 *
 * Whatever a reply promises is checked here: counts, sizes, file descriptors.
 * What it says of places is checked in map.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "proto/kvd.pb-c.h"

/* A block's bytes at most: names, depth, tokens of 5 bytes, handles, tags. */
#define BLOCK_MAX_BYTES \
	(64u + 5u * KVD_MAX_PAGE_TOKENS + 8u * PAGE_MAX_CLASSES)

_Static_assert(PUBLISH_MAX_BLOCKS * BLOCK_MAX_BYTES + 64u < WIRE_MAX_FRAME,
	       "a full publish request fits a frame");
_Static_assert(PUBLISH_MAX_BLOCKS * PAGE_MAX_CLASSES <= WIRE_MAX_PAGES,
	       "a full publish request has no more pages than allowed");

static int bad_reply(struct kvd *k, const char *what)
{
	return fail(k, -EPROTO, "%s: the daemon's reply is wrong: %s",
		    k->socket, what);
}

/* Takes descriptor @i out of a call. */
static int take_fd(struct call *c, unsigned i)
{
	int fd = c->fds[i];

	c->fds[i] = -1;
	return fd;
}

_Static_assert((int)KVD_PRIORITY_LOW == (int)KVD__PRIORITY__PRIORITY_LOW &&
	       (int)KVD_PRIORITY_HIGH == (int)KVD__PRIORITY__PRIORITY_HIGH,
	       "priorities go as they are");

int request_hello_begin(struct kvd *k, struct call *c)
{
	Kvd__HelloRequest m = KVD__HELLO_REQUEST__INIT;
	/* Ours, for a daemon whose PID namespace or kernel hides us. */
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int r;

	if (pidfd < 0 && (errno == EMFILE || errno == ENFILE))
		return fail_fds(k, "hello");
	*c = (struct call){
		.type = WIRE_HELLO,
		.request = &m.base,
		.want = &kvd__hello_reply__descriptor,
		.send_fd = pidfd >= 0 ? &pidfd : NULL,
	};
	m.version = WIRE_VERSION;
	m.features = WIRE_FEATURES;
	m.program = k->program;
	m.series = k->series;
	r = call_begin(k, c);
	if (pidfd >= 0)
		close(pidfd);
	c->request = NULL;
	c->send_fd = NULL;
	return r;
}

int request_hello_end(struct kvd *k, struct call *c)
{
	const Kvd__HelloReply *reply;
	int r;

	r = call_finish(k, c);
	if (r)
		return r;
	reply = (const Kvd__HelloReply *)c->reply;
	if (reply->version != WIRE_VERSION)
		r = fail(k, -EPROTO, "%s: the daemon speaks version %u, this "
			 "library %u", k->socket, reply->version,
			 WIRE_VERSION);
	else if (strlen(reply->device) >= sizeof(k->device))
		r = bad_reply(k, "device");
	else {
		k->epoch = reply->epoch;
		k->instance = reply->instance;
		snprintf(k->device, sizeof(k->device), "%s", reply->device);
	}
	call_end(c);
	return r;
}

static void put_geometry(const struct kvd_geometry *g, Kvd__Geometry *m,
			 Kvd__Group *groups, Kvd__Group **list)
{
	kvd__geometry__init(m);
	m->page_tokens = g->page_tokens;
	m->k_format = g->k_format;
	m->v_format = g->v_format;
	m->rope_order = g->rope_order;
	m->tile_order = g->tile_order;
	m->open_format = g->open_format;
	m->exact_pages = g->exact_pages;
	m->v_group = g->v_group;
	m->profile = g->profile;
	m->demote_k = g->demote_k;
	m->demote_v = g->demote_v;
	m->n_groups = g->nr_groups;
	m->groups = list;
	for (uint32_t i = 0; i < g->nr_groups; i++) {
		kvd__group__init(&groups[i]);
		groups[i].nr_layers = g->groups[i].nr_layers;
		groups[i].nr_kv_heads = g->groups[i].nr_kv_heads;
		groups[i].head_first = g->groups[i].head_first;
		groups[i].k_dim = g->groups[i].k_dim;
		groups[i].v_dim = g->groups[i].v_dim;
		groups[i].window = g->groups[i].window;
		groups[i].exact = g->groups[i].exact;
		list[i] = &groups[i];
	}
}

static int get_grant(struct kvd *k, struct call *c, struct space_grant *ret)
{
	const Kvd__OpenSpaceReply *m = (const Kvd__OpenSpaceReply *)c->reply;

	if (c->nr_fds != 2)
		return bad_reply(k, "index and statistics missing");
	if (m->name_key.len != NAME_KEY_BYTES)
		return bad_reply(k, "name key");
	if (m->n_classes > PAGE_MAX_CLASSES)
		return bad_reply(k, "page classes");
	if (m->n_segments > WIRE_MAX_OPEN_SEGMENTS)
		return bad_reply(k, "segments");
	ret->id = m->space;
	memcpy(ret->name_key, m->name_key.data, NAME_KEY_BYTES);
	ret->fingerprint = m->fingerprint;
	ret->stock_bytes = m->stock_bytes;
	ret->nr_classes = (uint32_t)m->n_classes;
	for (uint32_t i = 0; i < ret->nr_classes; i++) {
		ret->page_bytes[i] = m->classes[i]->page_bytes;
		ret->group[i] = m->classes[i]->group;
	}
	ret->nr_segments = (uint32_t)m->n_segments;
	for (uint32_t i = 0; i < ret->nr_segments; i++)
		ret->segments[i] = m->segments[i];
	ret->index_fd = take_fd(c, 0);
	ret->stats_fd = take_fd(c, 1);
	return 0;
}

/* The reply has no fields: any empty message reads it. */
static int close_space(struct kvd *k, uint32_t id)
{
	Kvd__CloseSpaceRequest m = KVD__CLOSE_SPACE_REQUEST__INIT;
	struct call c = {
		.type = WIRE_CLOSE_SPACE,
		.request = &m.base,
		.want = &kvd__ping_reply__descriptor,
	};
	int r;

	m.space = id;
	r = call(k, &c);
	call_end(&c);
	return r;
}

int request_open_space(struct kvd_space *sp, struct space_grant *ret)
{
	const struct kvd_space_opts *opts = &sp->opts;
	Kvd__OpenSpaceRequest m = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Group groups[KVD_MAX_GROUPS], *list[KVD_MAX_GROUPS];
	Kvd__Geometry geometry;
	struct call c = {
		.type = WIRE_OPEN_SPACE,
		.request = &m.base,
		.want = &kvd__open_space_reply__descriptor,
	};
	int r;

	put_geometry(&opts->geometry, &geometry, groups, list);
	m.model.data = (uint8_t *)opts->model;
	m.model.len = sizeof(opts->model);
	m.geometry = &geometry;
	m.tp_rank = opts->tp_rank;
	m.tp_size = opts->tp_size ? opts->tp_size : 1;
	m.read_only = opts->read_only;
	m.mps = sp->device->mps;
	while ((r = call(sp->k, &c)) == -EAGAIN)
		call_end(&c); /* another space is emptied, step by step */
	if (!r)
		r = get_grant(sp->k, &c, ret);
	else if (c.reply) /* it is open, but descriptors were lost */
		close_space(sp->k,
			    ((const Kvd__OpenSpaceReply *)c.reply)->space);
	call_end(&c);
	return r;
}

int request_close_space(struct kvd_space *sp)
{
	return close_space(sp->k, sp->id);
}

static int get_segment(struct kvd *k, struct call *c, uint32_t id,
		       struct device_segment *s)
{
	const Kvd__MapReply *m = (const Kvd__MapReply *)c->reply;
	const Kvd__Segment *seg = m->n_segments == 1 ? m->segments[0] : NULL;
	unsigned nr_fds;

	if (!seg || seg->id != id)
		return bad_reply(k, "not the segment asked for");
	nr_fds = seg->kind == WIRE_SEGMENT_IPC ? 0 : 1;
	if (c->nr_fds != nr_fds)
		return bad_reply(k, "descriptors of a segment");
	*s = (struct device_segment){
		.kind = seg->kind,
		.bytes = seg->bytes,
		.fd = -1,
	};
	if (nr_fds) {
		s->fd = take_fd(c, 0);
		return 0;
	}
	if (seg->ipc_handle.len != sizeof(s->ipc_handle))
		return bad_reply(k, "IPC handle");
	memcpy(s->ipc_handle, seg->ipc_handle.data, sizeof(s->ipc_handle));
	return 0;
}

int request_map(struct kvd_space *sp, uint32_t id, struct device_segment *s)
{
	Kvd__MapRequest m = KVD__MAP_REQUEST__INIT;
	struct call c = {
		.type = WIRE_MAP,
		.request = &m.base,
		.want = &kvd__map_reply__descriptor,
	};
	int r;

	m.space = sp->id;
	m.n_segments = 1;
	m.segments = &id;
	r = call(sp->k, &c);
	if (!r)
		r = get_segment(sp->k, &c, id, s);
	call_end(&c);
	return r;
}

/* The daemon has counted them also where it refused what was asked. */
static void request_counted(struct kvd_space *sp, uint64_t hit, uint64_t miss)
{
	if (sp->k->fd >= 0)
		space_counted(sp, hit, miss);
}

int request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
		  uint32_t deadline_ms, handle_t *handles, place_t *places)
{
	Kvd__AllocRequest m = KVD__ALLOC_REQUEST__INIT;
	struct call c = {
		.type = WIRE_ALLOC,
		.request = &m.base,
		.want = &kvd__alloc_reply__descriptor,
		.extra_ms = deadline_ms,
	};
	const Kvd__AllocReply *reply;
	int r;

	m.space = sp->id;
	m.page_class = page_class;
	m.count = nr;
	m.deadline_ms = deadline_ms;
	space_counts(sp, &m.hit_tokens, &m.miss_tokens);
	r = call(sp->k, &c);
	reply = (const Kvd__AllocReply *)c.reply;
	if (!r && (reply->n_handles != nr || reply->n_places != nr))
		r = bad_reply(sp->k, "number of pages");
	if (!r) {
		memcpy(handles, reply->handles, nr * sizeof(*handles));
		memcpy(places, reply->places, nr * sizeof(*places));
	}
	request_counted(sp, m.hit_tokens, m.miss_tokens);
	call_end(&c);
	return r;
}

static int release_some(struct kvd *k, const handle_t *handles, uint32_t nr,
			uint32_t *ret_done)
{
	Kvd__ReleaseRequest m = KVD__RELEASE_REQUEST__INIT;
	struct call c = {
		.type = WIRE_RELEASE,
		.request = &m.base,
		.want = &kvd__release_reply__descriptor,
	};
	int r;

	m.n_handles = nr;
	m.handles = (uint64_t *)handles;
	r = call(k, &c);
	if (!r)
		*ret_done = ((const Kvd__ReleaseReply *)c.reply)->released;
	call_end(&c);
	return r;
}

int request_release(struct kvd *k, const handle_t *handles, uint32_t nr)
{
	uint32_t i = 0, done, n;
	int r;

	while (i < nr) {
		n = nr - i < WIRE_MAX_PAGES ? nr - i : WIRE_MAX_PAGES;
		done = 0;
		r = release_some(k, handles + i, n, &done);
		if (r && r != -ESTALE)
			return r;
		if (done > n)
			return bad_reply(k, "number released");
		i += done < n ? done + 1 : n;
	}
	return 0;
}

int request_match_begin(struct kvd_space *sp, struct request_match *q,
			const handle_t *handles, uint32_t nr)
{
	Kvd__MatchRequest m = KVD__MATCH_REQUEST__INIT;
	int r;

	*q = (struct request_match){
		.call = { .type = WIRE_MATCH,
			  .request = &m.base,
			  .want = &kvd__match_reply__descriptor },
		.nr = nr,
	};
	m.space = sp->id;
	m.n_handles = nr;
	m.handles = (uint64_t *)handles;
	space_counts(sp, &q->hit, &q->miss);
	m.hit_tokens = q->hit;
	m.miss_tokens = q->miss;
	r = call_begin(sp->k, &q->call);
	q->call.request = NULL;
	if (!r)
		space_counted(sp, q->hit, q->miss);
	return r;
}

int request_match_end(struct kvd_space *sp, struct request_match *q,
		      uint32_t *ret_granted, place_t *places)
{
	const Kvd__MatchReply *reply;
	int r;

	r = call_finish(sp->k, &q->call);
	reply = (const Kvd__MatchReply *)q->call.reply;
	if (!r && (reply->granted > q->nr ||
		   reply->n_places != reply->granted))
		r = bad_reply(sp->k, "number granted");
	if (!r) {
		if (reply->granted)
			memcpy(places, reply->places,
			       reply->granted * sizeof(*places));
		*ret_granted = reply->granted;
	}
	if (q->call.lost)
		space_uncounted(sp, q->hit, q->miss);
	call_end(&q->call);
	return r;
}

int request_match(struct kvd_space *sp, const handle_t *handles, uint32_t nr,
		  uint32_t *ret_granted, place_t *places)
{
	struct request_match q;
	int r = request_match_begin(sp, &q, handles, nr);

	return r ? r : request_match_end(sp, &q, ret_granted, places);
}

static void put_block(const struct publish_block *b, uint32_t page_tokens,
		      handle_t *handles, uint32_t nr_classes, Kvd__Block *m)
{
	kvd__block__init(m);
	m->parent.data = (uint8_t *)b->parent->b;
	m->parent.len = NAME_BYTES;
	m->extra.data = (uint8_t *)b->extra->b;
	m->extra.len = NAME_BYTES;
	m->n_tokens = page_tokens;
	m->tokens = (uint32_t *)b->tokens;
	m->depth = b->depth;
	m->n_handles = nr_classes;
	m->handles = handles;
}

int request_publish(struct kvd_space *sp, struct publish *p)
{
	Kvd__PublishRequest m = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block blocks[PUBLISH_MAX_BLOCKS], *list[PUBLISH_MAX_BLOCKS];
	uint32_t nr_classes = sp->nr_classes;
	uint32_t nr = p->nr_blocks * nr_classes;
	struct call c = {
		.type = WIRE_PUBLISH,
		.request = &m.base,
		.want = &kvd__publish_reply__descriptor,
	};
	const Kvd__PublishReply *reply;
	int r;

	for (uint32_t i = 0; i < p->nr_blocks; i++) {
		put_block(&p->blocks[i], sp->opts.geometry.page_tokens,
			  p->handles + i * nr_classes, nr_classes, &blocks[i]);
		list[i] = &blocks[i];
	}
	m.space = sp->id;
	m.n_blocks = p->nr_blocks;
	m.blocks = list;
	m.private_ = p->private;
	m.priority = (Kvd__Priority)p->priority;
	m.nonfinite = p->nonfinite;
	m.flight = p->flight;
	r = call(sp->k, &c);
	reply = (const Kvd__PublishReply *)c.reply;
	if (!r && (reply->n_handles != nr || reply->n_places != nr))
		r = bad_reply(sp->k, "number of pages");
	if (!r && nr) {
		memcpy(p->handles, reply->handles, nr * sizeof(*p->handles));
		memcpy(p->places, reply->places, nr * sizeof(*p->places));
	}
	call_end(&c);
	return r;
}

static int request_plain(struct kvd *k, unsigned type,
			 const ProtobufCMessage *request,
			 const ProtobufCMessageDescriptor *want)
{
	struct call c = { .type = type, .request = request, .want = want };
	int r = call(k, &c);

	call_end(&c);
	return r;
}

int request_flight(struct kvd_space *sp, const struct flight_ask *ask,
		   struct flight_told *ret)
{
	Kvd__FlightRequest m = KVD__FLIGHT_REQUEST__INIT;
	struct call c = {
		.type = WIRE_FLIGHT,
		.request = &m.base,
		.want = &kvd__flight_reply__descriptor,
	};
	const Kvd__FlightReply *reply;
	int r;

	m.space = sp->id;
	m.depth = ask->depth;
	m.names.data = (uint8_t *)ask->names;
	m.names.len = (size_t)ask->nr * NAME_BYTES;
	m.wait_ms = ask->wait_ms;
	m.announce = ask->announce;
	m.again = ask->again;
	r = call(sp->k, &c);
	reply = (const Kvd__FlightReply *)c.reply;
	if (!r && reply->blocks > ask->nr)
		r = bad_reply(sp->k, "number of blocks");
	if (!r)
		*ret = (struct flight_told){ reply->state, reply->flight,
					     reply->blocks,
					     ask->wait_ms ? c.id : 0 };
	call_end(&c);
	return r;
}

int request_flight_end(struct kvd *k, uint64_t flight, uint32_t wait)
{
	Kvd__FlightRequest m = KVD__FLIGHT_REQUEST__INIT;

	m.end = flight;
	m.leave = wait;
	return request_plain(k, WIRE_FLIGHT, &m.base,
			     &kvd__flight_reply__descriptor);
}

int request_claim(struct kvd_space *sp, const handle_t *handles, uint32_t nr,
		  bool *granted)
{
	Kvd__ClaimRequest m = KVD__CLAIM_REQUEST__INIT;
	uint32_t ones[WIRE_MAX_PAGES];
	struct call c = {
		.type = WIRE_CLAIM,
		.request = &m.base,
		.want = &kvd__claim_reply__descriptor,
	};
	const Kvd__ClaimReply *reply;
	int r;

	for (uint32_t i = 0; i < nr; i++)
		ones[i] = 1;
	m.space = sp->id;
	m.n_handles = nr;
	m.handles = (uint64_t *)handles;
	m.n_holds = nr;
	m.holds = ones;
	r = call(sp->k, &c);
	reply = (const Kvd__ClaimReply *)c.reply;
	if (!r && reply->n_granted != nr)
		r = bad_reply(sp->k, "number of claims");
	for (uint32_t i = 0; !r && i < nr; i++)
		granted[i] = reply->granted[i];
	call_end(&c);
	return r;
}

int request_claim_rest(struct kvd *k)
{
	Kvd__ClaimRequest m = KVD__CLAIM_REQUEST__INIT;
	struct call c = {
		.type = WIRE_CLAIM,
		.request = &m.base,
		.want = &kvd__claim_reply__descriptor,
	};
	bool more;
	int r;

	m.rest = true;
	do {
		r = call(k, &c);
		more = !r && ((const Kvd__ClaimReply *)c.reply)->more;
		call_end(&c);
	} while (more);
	return r;
}

int request_pin(struct kvd_space *sp, const struct name *name, uint64_t ttl_ms,
		uint64_t *ret_tokens)
{
	Kvd__PinRequest m = KVD__PIN_REQUEST__INIT;
	struct call c = {
		.type = WIRE_PIN,
		.request = &m.base,
		.want = &kvd__pin_reply__descriptor,
	};
	int r;

	m.space = sp->id;
	m.name.data = (uint8_t *)name->b;
	m.name.len = NAME_BYTES;
	m.ttl_ms = ttl_ms;
	r = call(sp->k, &c);
	if (!r)
		*ret_tokens = ((const Kvd__PinReply *)c.reply)->tokens;
	call_end(&c);
	return r;
}

int request_unpin(struct kvd_space *sp, const struct name *name)
{
	Kvd__UnpinRequest m = KVD__UNPIN_REQUEST__INIT;
	struct call c = {
		.type = WIRE_UNPIN,
		.request = &m.base,
		.want = &kvd__unpin_reply__descriptor,
	};
	int r;

	m.space = sp->id;
	m.name.data = (uint8_t *)name->b;
	m.name.len = NAME_BYTES;
	r = call(sp->k, &c);
	call_end(&c);
	return r;
}

int request_unmapped(struct kvd *k, const uint32_t *ids, uint32_t nr)
{
	Kvd__UnmappedRequest m = KVD__UNMAPPED_REQUEST__INIT;

	m.n_segments = nr;
	m.segments = (uint32_t *)(uintptr_t)ids;
	return request_plain(k, WIRE_UNMAPPED, &m.base,
			     &kvd__unmapped_reply__descriptor);
}

int request_bye(struct kvd *k)
{
	Kvd__ByeRequest m = KVD__BYE_REQUEST__INIT;

	return request_plain(k, WIRE_BYE, &m.base,
			     &kvd__bye_reply__descriptor);
}

int request_ping(struct kvd *k)
{
	Kvd__PingRequest m = KVD__PING_REQUEST__INIT;

	return request_plain(k, WIRE_PING, &m.base,
			     &kvd__ping_reply__descriptor);
}

int request_subscribe(struct kvd *k, uint32_t space, uint32_t mask,
		      struct subscribe_grant *ret)
{
	Kvd__SubscribeRequest m = KVD__SUBSCRIBE_REQUEST__INIT;
	struct call c = {
		.type = WIRE_SUBSCRIBE,
		.request = &m.base,
		.want = &kvd__subscribe_reply__descriptor,
	};
	const Kvd__SubscribeReply *reply;
	int r;

	m.space = space;
	m.mask = mask;
	r = call(k, &c);
	if (!r) {
		reply = (const Kvd__SubscribeReply *)c.reply;
		ret->pool = reply->pool;
		ret->tenant = reply->tenant;
		ret->next = reply->next;
	}
	call_end(&c);
	return r;
}
