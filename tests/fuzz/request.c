// SPDX-License-Identifier: Apache-2.0
/*
 * request.c - requests out of an input: mostly valid, with fields bent.
 *
 * A field is a byte of the input: small ones mean something that there is,
 * 0xff takes eight bytes more and means them.
 */
#include <string.h>
#include <unistd.h>
#include "kvd/geometry.h"
#include "proto/kvd.pb-c.h"
#include "proto/wire.h"
#include "tests/fuzz/request.h"

#define TOKENS	    32u
#define MAX_HANDLES 16u
#define MAX_BLOCKS  4u

/* Where the messages of one request are. */
static struct scratch {
	uint64_t handles[MAX_HANDLES];
	uint32_t numbers[MAX_HANDLES];
	uint32_t tokens[MAX_BLOCKS][TOKENS + 1];
	uint64_t pages[MAX_BLOCKS][4];
	struct name parents[MAX_BLOCKS];
	struct name flight[MAX_HANDLES];
	uint8_t model[33];
	char text[40];
	Kvd__Block blocks[MAX_BLOCKS], *block_list[MAX_BLOCKS];
	Kvd__Group groups[3], *group_list[3];
	Kvd__Geometry geometry;
} x;

/* ---- fields ---- */

/* A number below @usual; now and then any. */
static uint64_t number(struct bytes *in, uint64_t usual)
{
	uint64_t n = bytes_get(in, 1);

	return n == 0xff ? bytes_get(in, 8) : n % usual;
}

static uint64_t handle(const struct request_state *s, struct bytes *in)
{
	uint64_t n = number(in, REQUEST_HANDLES + 1);

	return n < REQUEST_HANDLES ? s->handles[n] :
	       n == REQUEST_HANDLES ? 0 : n;
}

static uint32_t space(const struct request_state *s, struct bytes *in)
{
	uint64_t n = number(in, REQUEST_SPACES);

	return n < REQUEST_SPACES ? s->spaces[n] : (uint32_t)n;
}

static size_t handles(const struct request_state *s, struct bytes *in,
		      uint64_t **ret)
{
	size_t nr = bytes_get(in, 1) % (MAX_HANDLES + 1);

	for (size_t i = 0; i < nr; i++)
		x.handles[i] = handle(s, in);
	*ret = x.handles;
	return nr;
}

static ProtobufCBinaryData name(const struct request_state *s,
				struct bytes *in, struct name *to)
{
	uint64_t n = number(in, REQUEST_NAMES + 2);

	memset(to, 0, sizeof(*to));
	if (n < REQUEST_NAMES)
		*to = s->names[n];
	else if (n > REQUEST_NAMES + 1)
		memcpy(to, &n, sizeof(n));
	return (ProtobufCBinaryData){ n == REQUEST_NAMES + 1 ? 0 : NAME_BYTES,
				      to->b };
}

/* A page of tokens, of few kinds; the number of them is seldom wrong. */
static size_t tokens(struct bytes *in, uint32_t *to)
{
	uint32_t kind = (uint32_t)bytes_get(in, 1);

	for (uint32_t i = 0; i <= TOKENS; i++)
		to[i] = kind % 8 + i * (kind >> 3 & 1);
	return kind < 0xf0 ? TOKENS : kind == 0xf0 ? TOKENS + 1 : kind & 15;
}

static char *text(struct bytes *in, const char *usual)
{
	size_t nr = bytes_get(in, 1);

	if (nr < 0xf0)
		return strcpy(x.text, usual);
	nr = (nr & 15) * 2;
	memcpy(x.text, bytes_take(in, &nr), nr);
	x.text[nr] = '\0';
	return x.text;
}

/* ---- messages ---- */

static void geometry(struct bytes *in)
{
	uint64_t kind = bytes_get(in, 1);
	Kvd__Geometry *g = &x.geometry;

	kvd__geometry__init(g);
	g->page_tokens = TOKENS;
	g->k_format = g->v_format = KVD_F16;
	if (kind & 1)
		g->k_format = g->v_format = KVD_KIVI4;
	if ((kind & 5) == 5)
		g->demote_k = g->demote_v = KVD_KIVI2;
	g->n_groups = 1 + (kind >> 1 & 1);
	g->groups = x.group_list;
	for (int i = 0; i < 3; i++) {
		x.group_list[i] = &x.groups[i];
		kvd__group__init(&x.groups[i]);
		x.groups[i].nr_layers = i ? 3 : 8;
		x.groups[i].nr_kv_heads = 2;
		x.groups[i].k_dim = x.groups[i].v_dim = 64;
		x.groups[i].window = i ? 64 : 0;
	}
	if (kind < 0x80)
		return;
	g->page_tokens = (uint32_t)number(in, 129);
	g->k_format = (uint32_t)number(in, KVD_NR_FORMATS);
	g->v_format = (uint32_t)number(in, KVD_NR_FORMATS);
	g->rope_order = (uint32_t)number(in, 3);
	g->tile_order = (uint32_t)number(in, 2);
	g->open_format = (uint32_t)number(in, 2);
	g->exact_pages = (uint32_t)number(in, 17);
	g->v_group = (uint32_t)number(in, 129);
	g->profile = number(in, 2);
	g->demote_k = (uint32_t)number(in, KVD_NR_FORMATS);
	g->demote_v = (uint32_t)number(in, KVD_NR_FORMATS);
	g->n_groups = number(in, 3) % 4;
	x.groups[0].nr_layers = (uint32_t)number(in, 16);
	x.groups[0].nr_kv_heads = (uint32_t)number(in, 16);
	x.groups[0].k_dim = (uint32_t)number(in, 129);
	x.groups[0].v_dim = (uint32_t)number(in, 129);
}

static size_t blocks(struct request_state *s, struct bytes *in)
{
	size_t nr = 1 + bytes_get(in, 1) % MAX_BLOCKS;
	struct name_key key;

	name_key_init(&key, s->key);
	for (size_t i = 0; i < nr; i++) {
		Kvd__Block *b = x.block_list[i] = &x.blocks[i];
		static const struct name none;

		kvd__block__init(b);
		b->parent = name(s, in, &x.parents[i]);
		b->n_tokens = tokens(in, x.tokens[i]);
		b->tokens = x.tokens[i];
		b->depth = (uint32_t)number(in, 8);
		b->n_handles = bytes_get(in, 1) % 5;
		b->handles = x.pages[i];
		for (size_t k = 0; k < b->n_handles; k++)
			x.pages[i][k] = handle(s, in);
		s->names[s->nr_names++ % REQUEST_NAMES] = name_block(
			&key, &x.parents[i], &none, x.tokens[i], TOKENS);
	}
	return nr;
}

static size_t put(unsigned type, struct request_state *s, uint8_t *buf,
		  const ProtobufCMessage *m)
{
	struct wire_header h = { .type = (uint16_t)type, .id = ++s->last_id };

	if (m)
		h.length = (uint32_t)protobuf_c_message_pack(
			m, buf + WIRE_HEADER_BYTES);
	wire_put(buf, &h);
	return WIRE_HEADER_BYTES + h.length;
}

#define BEGIN(NAME, name) \
	Kvd__##name m = KVD__##NAME##__INIT

static size_t make_pages(unsigned type, struct request_state *s,
			 struct bytes *in, uint8_t *buf)
{
	if (type == WIRE_ALLOC) {
		BEGIN(ALLOC_REQUEST, AllocRequest);
		m.space = space(s, in);
		m.page_class = (uint32_t)number(in, 4);
		m.count = (uint32_t)number(in, 12);
		m.deadline_ms = (uint32_t)number(in, 2);
		m.hit_tokens = number(in, 1);
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_MATCH) {
		BEGIN(MATCH_REQUEST, MatchRequest);
		m.space = space(s, in);
		m.n_handles = handles(s, in, &m.handles);
		m.miss_tokens = number(in, 1);
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_CLAIM) {
		BEGIN(CLAIM_REQUEST, ClaimRequest);
		m.space = space(s, in);
		m.n_handles = handles(s, in, &m.handles);
		m.n_holds = number(in, 2) ? MAX_HANDLES : m.n_handles;
		m.holds = x.numbers;
		for (unsigned i = 0; i < MAX_HANDLES; i++)
			x.numbers[i] = (uint32_t)number(in, 4);
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_REFERENCE) {
		BEGIN(REFERENCE_REQUEST, ReferenceRequest);
		m.n_handles = handles(s, in, &m.handles);
		return put(type, s, buf, &m.base);
	}
	BEGIN(RELEASE_REQUEST, ReleaseRequest);
	m.n_handles = handles(s, in, &m.handles);
	return put(type, s, buf, &m.base);
}

static size_t make_space(unsigned type, struct request_state *s,
			 struct bytes *in, uint8_t *buf)
{
	if (type == WIRE_OPEN_SPACE) {
		BEGIN(OPEN_SPACE_REQUEST, OpenSpaceRequest);
		memset(x.model, (int)number(in, 3), sizeof(x.model));
		m.model = (ProtobufCBinaryData){ 32, x.model };
		geometry(in);
		m.geometry = number(in, 200) == 199 ? NULL : &x.geometry;
		m.tp_size = 1 + (uint32_t)number(in, 2);
		m.tp_rank = (uint32_t)number(in, 2) % 3;
		m.read_only = bytes_get(in, 1) & 1;
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_MAP) {
		BEGIN(MAP_REQUEST, MapRequest);
		m.space = space(s, in);
		m.n_segments = bytes_get(in, 1) % 5;
		m.segments = x.numbers;
		for (size_t i = 0; i < m.n_segments; i++)
			x.numbers[i] = (uint32_t)number(in, 6);
		return put(type, s, buf, &m.base);
	}
	BEGIN(CLOSE_SPACE_REQUEST, CloseSpaceRequest);
	m.space = space(s, in);
	return put(type, s, buf, &m.base);
}

static size_t make_publish(struct request_state *s, struct bytes *in,
			   uint8_t *buf)
{
	BEGIN(PUBLISH_REQUEST, PublishRequest);
	uint64_t bits = bytes_get(in, 1);

	m.space = space(s, in);
	m.n_blocks = blocks(s, in);
	m.blocks = x.block_list;
	m.private_ = (bits & 15) == 15;
	m.priority = (Kvd__Priority)(bits >> 4 & 3);
	if (bits >> 6 == 3)
		m.flight = number(in, 8);
	return put(WIRE_PUBLISH, s, buf, &m.base);
}

/* Announcements and waits are numbered from 1 on, as are requests. */
static size_t make_flight(struct request_state *s, struct bytes *in,
			  uint8_t *buf)
{
	BEGIN(FLIGHT_REQUEST, FlightRequest);
	uint64_t how = bytes_get(in, 1);
	size_t nr = how & 15;

	for (size_t i = 0; i < nr; i++)
		name(s, in, &x.flight[i]);
	m.space = space(s, in);
	m.depth = (uint32_t)number(in, 4);
	m.names = (ProtobufCBinaryData){ nr * NAME_BYTES, x.flight[0].b };
	if (how & 16) /* up to 8 ms: some end within an input */
		m.wait_ms = (uint32_t)number(in, 8);
	m.announce = how >> 5 & 1;
	m.again = how >> 6 & 1;
	if ((how & 0xc0) == 0xc0) {
		m.end = number(in, 8);
		m.leave = (uint32_t)number(in, 64);
	}
	return put(WIRE_FLIGHT, s, buf, &m.base);
}

static size_t make_pin(unsigned type, struct request_state *s,
		       struct bytes *in, uint8_t *buf)
{
	if (type == WIRE_PIN) {
		BEGIN(PIN_REQUEST, PinRequest);
		uint64_t how = bytes_get(in, 1);

		m.space = space(s, in);
		m.block = how & 1 ? (uint32_t)number(in, 8) : 0;
		if (how & 2)
			m.name = name(s, in, &x.parents[0]);
		if (how & 4) {
			m.n_tokens = tokens(in, x.tokens[0]);
			m.tokens = x.tokens[0];
		}
		if (how & 8)
			m.extra = name(s, in, &x.parents[1]);
		m.ttl_ms = number(in, 100) * 1000;
		m.look = how >> 4 & 1;
		m.on = how >> 5 & 1;
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_UNPIN) {
		BEGIN(UNPIN_REQUEST, UnpinRequest);
		m.space = space(s, in);
		m.block = (uint32_t)number(in, 8);
		if (bytes_get(in, 1) & 1)
			m.name = name(s, in, &x.parents[0]);
		return put(type, s, buf, &m.base);
	}
	BEGIN(PINS_REQUEST, PinsRequest);
	m.skip = (uint32_t)number(in, 4);
	return put(type, s, buf, &m.base);
}

static size_t make_demand(unsigned type, struct request_state *s,
			  struct bytes *in, uint8_t *buf)
{
	if (type == WIRE_RECLAIM) {
		BEGIN(RECLAIM_REQUEST, ReclaimRequest);
		m.tenant = text(in, "uid-0");
		m.bytes = number(in, 16) << 16;
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_DROP) {
		BEGIN(DROP_REQUEST, DropRequest);
		m.space = space(s, in);
		m.serial = number(in, 2) ? s->serial : 0;
		m.from = number(in, 2) ? s->next : 0;
		return put(type, s, buf, &m.base);
	}
	BEGIN(INDEX_REQUEST, IndexRequest);
	m.space = space(s, in);
	m.serial = number(in, 2) ? s->serial : 0;
	m.from = number(in, 2) ? s->next : 0;
	m.top = (uint32_t)number(in, 65);
	m.below = (uint32_t)number(in, 3);
	return put(type, s, buf, &m.base);
}

static size_t make_tenant_set(struct request_state *s, struct bytes *in,
			      uint8_t *buf)
{
	BEGIN(TENANT_SET_REQUEST, TenantSetRequest);

	m.name = text(in, "uid-0");
	m.keys = (uint32_t)number(in, 9);
	m.min = number(in, 8) << 18;
	m.high = number(in, 8) << 18;
	m.max = number(in, 16) << 18;
	m.runtime = bytes_get(in, 1) < 0xf0; /* else it goes to a disk */
	return put(WIRE_TENANT_SET, s, buf, &m.base);
}

/* Those of one number, or none. */
static size_t make_other(unsigned type, struct request_state *s,
			 struct bytes *in, uint8_t *buf)
{
	if (type == WIRE_HELLO) {
		BEGIN(HELLO_REQUEST, HelloRequest);
		m.version = number(in, 250) == 249 ? 2 : WIRE_VERSION;
		m.program = text(in, "fuzz");
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_SUBSCRIBE) {
		BEGIN(SUBSCRIBE_REQUEST, SubscribeRequest);
		m.space = bytes_get(in, 1) & 1 ? space(s, in) : 0;
		m.mask = (uint32_t)number(in, 8);
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_STAT) {
		BEGIN(STAT_REQUEST, StatRequest);
		m.verify = bytes_get(in, 1) & 1;
		m.loop_reset = bytes_get(in, 1) & 1;
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_POOL) {
		BEGIN(POOL_REQUEST, PoolRequest);
		m.resize = number(in, 24) << 20;
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_UNMAPPED) {
		BEGIN(UNMAPPED_REQUEST, UnmappedRequest);
		uint32_t ids[4];

		m.segments = ids;
		m.n_segments = bytes_get(in, 1) % 5;
		for (size_t i = 0; i < m.n_segments; i++)
			ids[i] = (uint32_t)number(in, 6);
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_QUARANTINE_RELEASE) {
		BEGIN(QUARANTINE_RELEASE_REQUEST, QuarantineReleaseRequest);
		m.pid = bytes_get(in, 1) & 1 ? (uint32_t)getpid() : 0;
		m.all = bytes_get(in, 1) & 1;
		m.force = bytes_get(in, 1) & 1;
		return put(type, s, buf, &m.base);
	}
	if (type == WIRE_CLIENTS || type == WIRE_SPACES ||
	    type == WIRE_TENANTS || type == WIRE_QUARANTINE) { /* all alike */
		BEGIN(SPACES_REQUEST, SpacesRequest);
		m.skip = (uint32_t)number(in, 4);
		return put(type, s, buf, &m.base);
	}
	return put(type, s, buf, NULL);
}

size_t request_make(unsigned type, struct request_state *s, struct bytes *in,
		    uint8_t *buf)
{
	switch (type) {
	case WIRE_ALLOC:
	case WIRE_RELEASE:
	case WIRE_MATCH:
	case WIRE_REFERENCE:
	case WIRE_CLAIM:
		return make_pages(type, s, in, buf);
	case WIRE_OPEN_SPACE:
	case WIRE_CLOSE_SPACE:
	case WIRE_MAP:
		return make_space(type, s, in, buf);
	case WIRE_PUBLISH:
		return make_publish(s, in, buf);
	case WIRE_PIN:
	case WIRE_UNPIN:
	case WIRE_PINS:
		return make_pin(type, s, in, buf);
	case WIRE_RECLAIM:
	case WIRE_DROP:
	case WIRE_INDEX:
		return make_demand(type, s, in, buf);
	case WIRE_FLIGHT:
		return make_flight(s, in, buf);
	case WIRE_TENANT_SET:
		return make_tenant_set(s, in, buf);
	default:
		return make_other(type, s, in, buf);
	}
}

/* ---- replies ---- */

static void note_space(struct request_state *s,
		       const Kvd__OpenSpaceReply *m)
{
	s->spaces[s->nr_spaces++ % REQUEST_SPACES] = m->space;
	if (m->name_key.len == NAME_KEY_BYTES)
		memcpy(s->key, m->name_key.data, NAME_KEY_BYTES);
}

static void note_step(struct request_state *s, uint64_t serial, uint32_t next)
{
	s->serial = serial;
	s->next = next;
}

static void note(struct request_state *s, unsigned type, const void *msg)
{
	const Kvd__AllocReply *a = msg;
	const Kvd__DropReply *d = msg;
	const Kvd__IndexReply *i = msg;

	if (type == WIRE_OPEN_SPACE)
		note_space(s, msg);
	else if (type == WIRE_DROP)
		note_step(s, d->serial, d->next);
	else if (type == WIRE_INDEX)
		note_step(s, i->serial, i->next);
	for (size_t k = 0; type == WIRE_ALLOC && k < a->n_handles; k++)
		s->handles[s->nr_handles++ % REQUEST_HANDLES] = a->handles[k];
}

void request_note(struct request_state *s, const uint8_t *buf, size_t size)
{
	static const ProtobufCMessageDescriptor *const of[WIRE_NR_TYPES] = {
		[WIRE_OPEN_SPACE] = &kvd__open_space_reply__descriptor,
		[WIRE_ALLOC] = &kvd__alloc_reply__descriptor,
		[WIRE_DROP] = &kvd__drop_reply__descriptor,
		[WIRE_INDEX] = &kvd__index_reply__descriptor,
	};
	ProtobufCMessage *m;
	struct wire_header h;

	if (wire_get(buf, size, 0, 1, &h) < 0 || h.status || !of[h.type])
		return;
	m = protobuf_c_message_unpack(of[h.type], NULL, h.length,
				      buf + WIRE_HEADER_BYTES);
	if (!m)
		return;
	note(s, h.type, m);
	protobuf_c_message_free_unpacked(m, NULL);
}
