// SPDX-License-Identifier: Apache-2.0
/*
 * reply.c - a daemon that answers as it should, or says anything at all.
 */
#include "tests/fuzz/reply.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kernels/page.h"
#include "proto/kvd.pb-c.h"
#include "proto/name.h"
#include "proto/shm.h"
#include "proto/wire.h"
#include "tests/support/check.h"
#include "tests/support/raw.h"

#define INDEX_BLOCKS 16u
#define BLOCKS_OFF   256u
#define INDEX_BYTES  (BLOCKS_OFF + INDEX_BLOCKS * 384u)
#define STATS_BYTES  4096u
#define SEGMENT_BYTES (512u << 10)
#define MAX_LIST     64u

enum memory { INDEX, STATS, SEGMENT, SHORT, UNSEALED, NR_MEMORIES };

static const size_t sizes[NR_MEMORIES] = { INDEX_BYTES, STATS_BYTES,
					   SEGMENT_BYTES, 16, INDEX_BYTES };
static int fds[NR_MEMORIES];
static uint8_t *memory[NR_MEMORIES];
static uint8_t genuine[INDEX_BYTES];
static struct bytes *in;
static uint32_t next_page;	/* that was given out */
static uint32_t page_bytes[REPLY_GROUPS];
static uint64_t epoch;
static uint32_t last_wait;	/* id of a request that an event may be about */

/* What is written of a message. */
static uint64_t handles[WIRE_MAX_PAGES], places[WIRE_MAX_PAGES];
static protobuf_c_boolean granted[WIRE_MAX_PAGES];
static uint8_t frame[2 * WIRE_MAX_FRAME];

struct kvd_geometry reply_geometry(void)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = REPLY_TOKENS,
		.nr_groups = REPLY_GROUPS,
	};

	for (uint32_t i = 0; i < REPLY_GROUPS; i++)
		g.groups[i] = (struct kvd_group){ .nr_layers = 1 + i,
						  .nr_kv_heads = 1,
						  .k_dim = 32, .v_dim = 32,
						  .window = 96 * i };
	return g;
}

uint32_t reply_token(uint32_t i)
{
	return i / REPLY_TOKENS;
}

/* ---- memory ---- */

/* Room for the larger ones, as there is but for the last. */
static uint64_t place_of(uint32_t nr)
{
	return nr % 64 == 63 ? place_make(1, SEGMENT_BYTES - page_bytes[0]) :
			       place_make(1, nr % 64 * page_bytes[1]);
}

static void put_block(struct shm_index *ix, uint32_t nr, struct name *name)
{
	static const uint8_t zero[NAME_KEY_BYTES];
	struct shm_block *b = shm_block_at(ix, nr);
	_Atomic uint32_t *child;
	struct name_key key;

	name_key_init(&key, zero);
	for (uint32_t i = 0; i < REPLY_TOKENS; i++)
		b->tokens[i] = reply_token((nr - 1) * REPLY_TOKENS + i);
	b->parent = *name;
	*name = b->name = name_block(&key, &b->parent, &b->extra, b->tokens,
				     REPLY_TOKENS);
	b->page[0] = handle_make(1, 2 * nr);
	b->page[1] = handle_make(1, 2 * nr + 1);
	b->next = *shm_bucket(ix, name);
	*shm_bucket(ix, name) = nr;
	child = nr > 1 ? &shm_block_at(ix, nr - 1)->child : &ix->child;
	*child = nr;
}

static void make_index(void)
{
	struct shm_index *ix = (struct shm_index *)(void *)genuine;
	struct name name = { { 0 } };

	*ix = (struct shm_index){
		.magic = SHM_INDEX_MAGIC,
		.version = SHM_VERSION,
		.page_tokens = REPLY_TOKENS,
		.nr_classes = REPLY_GROUPS,
		.nr_buckets = 4,
		.nr_blocks = INDEX_BLOCKS,
		.block_bytes = (uint32_t)shm_block_bytes(REPLY_TOKENS),
		.buckets_off = sizeof(*ix),
		.blocks_off = BLOCKS_OFF,
		.bytes = INDEX_BYTES,
		.nr_used = REPLY_BLOCKS,
		.nr_touched = REPLY_BLOCKS,
	};
	for (uint32_t nr = 1; nr <= REPLY_BLOCKS; nr++)
		put_block(ix, nr, &name);
}

static void make_memories(void)
{
	struct kvd_geometry g = reply_geometry();
	struct page_layout l;

	for (uint32_t i = 0; i < REPLY_GROUPS; i++) {
		CHECK(page_layout_class(&l, &g, i) == 0, "layout");
		page_bytes[i] = l.page_bytes;
	}
	make_index();
	for (int i = 0; i < NR_MEMORIES; i++) {
		fds[i] = memfd_create("reply", MFD_CLOEXEC |
						       MFD_ALLOW_SEALING);
		CHECK(fds[i] >= 0 && !ftruncate(fds[i], (off_t)sizes[i]),
		      "memfd");
		if (i != UNSEALED)
			CHECK(!fcntl(fds[i], F_ADD_SEALS, F_SEAL_SHRINK),
			      "seals");
		memory[i] = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE,
				 MAP_SHARED, fds[i], 0);
		CHECK(memory[i] != MAP_FAILED, "mmap");
	}
}

void reply_reset(struct bytes *from)
{
	if (!page_bytes[0])
		make_memories();
	in = from;
	next_page = 2 * REPLY_BLOCKS + 2;
	last_wait = 0;
	epoch = 1;
	memcpy(memory[INDEX], genuine, sizeof(genuine));
	CHECK(!ftruncate(fds[UNSEALED], INDEX_BYTES), "size");
}

void reply_bend(void)
{
	uint64_t what = bytes_get(in, 1), at = bytes_get(in, 2);
	uint32_t value = (uint32_t)bytes_get(in, 1);

	if (value == 0xff)
		value = (uint32_t)bytes_get(in, 4);
	if (what == 0xff) {
		CHECK(!ftruncate(fds[UNSEALED], 0), "size");
		return;
	}
	if (what < 0xf0)
		memcpy(memory[INDEX] + at % (INDEX_BYTES / 4) * 4, &value, 4);
	else
		memcpy(memory[STATS] + at % 64 * 4, &value, 4);
}

/* ---- descriptors ---- */

struct parcel {
	int fds[16];
	unsigned nr;
};

static void enclose(struct parcel *p, enum memory m)
{
	p->fds[p->nr++] = fds[m];
}

/* More, fewer, or others than there should be. */
static void bend_parcel(struct parcel *p)
{
	unsigned how = (unsigned)bytes_get(in, 1);

	p->nr = how & 8 ? how & 7 : p->nr;
	for (unsigned i = 0; i < p->nr; i++)
		p->fds[i] = fds[((how >> 4) + i) % NR_MEMORIES];
}

/* ---- answers ---- */

static size_t put(const struct wire_header *h, const ProtobufCMessage *m)
{
	struct wire_header r = *h;

	r.length = m ? (uint32_t)protobuf_c_message_pack(
			       m, frame + WIRE_HEADER_BYTES) : 0;
	wire_put(frame, &r);
	return WIRE_HEADER_BYTES + r.length;
}

static size_t answer_hello(const struct wire_header *h)
{
	Kvd__HelloReply m = KVD__HELLO_REPLY__INIT;

	m.version = WIRE_VERSION;
	m.epoch = epoch;
	m.instance = bytes_get(in, 1);
	m.tenant = (char *)"t";
	m.device = (char *)"host";
	return put(h, &m.base);
}

static size_t answer_open(const struct wire_header *h, struct parcel *p)
{
	Kvd__OpenSpaceReply m = KVD__OPEN_SPACE_REPLY__INIT;
	Kvd__PageClass classes[REPLY_GROUPS], *list[REPLY_GROUPS];
	struct kvd_geometry g = reply_geometry();
	uint8_t key[NAME_KEY_BYTES] = { 0 };
	uint32_t segment = 1;

	m.space = 1;
	m.name_key = (ProtobufCBinaryData){ sizeof(key), key };
	m.fingerprint = kvd_geometry_fingerprint(&g);
	for (uint32_t i = 0; i < REPLY_GROUPS; i++) {
		kvd__page_class__init(&classes[i]);
		classes[i].group = i;
		classes[i].page_bytes = page_bytes[i];
		list[i] = &classes[i];
	}
	m.n_classes = REPLY_GROUPS;
	m.classes = list;
	m.stock_bytes = 8ull * page_bytes[1];
	m.n_segments = bytes_get(in, 1) & 1;
	m.segments = &segment;
	enclose(p, INDEX);
	enclose(p, STATS);
	return put(h, &m.base);
}

static size_t answer_map(const struct wire_header *h,
			 const ProtobufCMessage *req, struct parcel *p)
{
	const Kvd__MapRequest *q = (const Kvd__MapRequest *)req;
	Kvd__MapReply m = KVD__MAP_REPLY__INIT;
	Kvd__Segment seg = KVD__SEGMENT__INIT, *list = &seg;
	uint64_t lie = bytes_get(in, 1);

	seg.id = q->n_segments ? q->segments[0] : 0;
	seg.bytes = lie < 0xe0 ? SEGMENT_BYTES : bytes_get(in, 8);
	seg.kind = lie < 0xf0 ? WIRE_SEGMENT_MMAP : (uint32_t)lie & 3;
	m.n_segments = 1;
	m.segments = &list;
	enclose(p, lie == 0xd0 ? SHORT : SEGMENT);
	return put(h, &m.base);
}

/* Pages that nobody has yet; or that somebody has. */
static void put_pages(size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		uint64_t n = bytes_get(in, 1);
		uint32_t page = n < 0xe0 ? next_page++ :
				n < 0xf0 ? (uint32_t)n & 15 : 63;

		handles[i] = handle_make(1, page);
		places[i] = n < 0xf8 ? place_of(page) : bytes_get(in, 8);
	}
}

static size_t answer_alloc(const struct wire_header *h,
			   const ProtobufCMessage *req)
{
	const Kvd__AllocRequest *q = (const Kvd__AllocRequest *)req;
	Kvd__AllocReply m = KVD__ALLOC_REPLY__INIT;

	m.n_handles = m.n_places =
		q->count < WIRE_MAX_PAGES ? q->count : WIRE_MAX_PAGES;
	put_pages(m.n_handles);
	m.handles = handles;
	m.places = places;
	return put(h, &m.base);
}

static size_t answer_match(const struct wire_header *h,
			   const ProtobufCMessage *req)
{
	const Kvd__MatchRequest *q = (const Kvd__MatchRequest *)req;
	Kvd__MatchReply m = KVD__MATCH_REPLY__INIT;
	uint64_t less = bytes_get(in, 1);
	size_t nr = q->n_handles < WIRE_MAX_PAGES ? q->n_handles :
						     WIRE_MAX_PAGES;

	if (less >= 0xc0 && nr)
		nr -= less % nr;
	for (size_t i = 0; i < nr; i++)
		places[i] = q->handles[i] ?
				    place_of(handle_nr(q->handles[i])) : 0;
	m.granted = (uint32_t)nr;
	m.n_places = nr;
	m.places = places;
	return put(h, &m.base);
}

/* Own pages are kept, or another's is there already. */
static size_t answer_publish(const struct wire_header *h,
			     const ProtobufCMessage *req)
{
	const Kvd__PublishRequest *q = (const Kvd__PublishRequest *)req;
	Kvd__PublishReply m = KVD__PUBLISH_REPLY__INIT;
	size_t nr = 0;

	for (size_t b = 0; b < q->n_blocks; b++)
		for (size_t i = 0; i < q->blocks[b]->n_handles &&
				   nr < WIRE_MAX_PAGES; i++) {
			uint64_t own = q->blocks[b]->handles[i];
			uint64_t n = bytes_get(in, 1);

			handles[nr] = n < 0xc0 ? own : handle_make(1, n & 63);
			places[nr] = handles[nr] ?
					     place_of(handle_nr(handles[nr])) :
					     0;
			nr++;
		}
	m.n_handles = m.n_places = nr;
	m.handles = handles;
	m.places = places;
	return put(h, &m.base);
}

static size_t answer_claim(const struct wire_header *h,
			   const ProtobufCMessage *req)
{
	const Kvd__ClaimRequest *q = (const Kvd__ClaimRequest *)req;
	Kvd__ClaimReply m = KVD__CLAIM_REPLY__INIT;

	m.n_granted = q->n_handles < WIRE_MAX_PAGES ? q->n_handles :
						      WIRE_MAX_PAGES;
	for (size_t i = 0; i < m.n_granted; i++)
		granted[i] = bytes_get(in, 1) < 0xc0;
	m.granted = granted;
	return put(h, &m.base);
}

static size_t answer_release(const struct wire_header *h,
			     const ProtobufCMessage *req)
{
	const Kvd__ReleaseRequest *q = (const Kvd__ReleaseRequest *)req;
	Kvd__ReleaseReply m = KVD__RELEASE_REPLY__INIT;

	m.released = (uint32_t)q->n_handles;
	return put(h, &m.base);
}

static size_t answer_flight(const struct wire_header *h)
{
	Kvd__FlightReply m = KVD__FLIGHT_REPLY__INIT;
	uint64_t n = bytes_get(in, 1);

	last_wait = h->id;
	m.state = n & 7;
	m.flight = n >> 3 & 3;
	m.blocks = n < 0xf0 ? (uint32_t)n >> 5 : (uint32_t)bytes_get(in, 4);
	return put(h, &m.base);
}

static size_t answer_other(const struct wire_header *h)
{
	Kvd__PinReply pin = KVD__PIN_REPLY__INIT;
	Kvd__SubscribeReply sub = KVD__SUBSCRIBE_REPLY__INIT;

	if (h->type == WIRE_PIN) {
		pin.block = (uint32_t)bytes_get(in, 1);
		pin.tokens = pin.block * REPLY_TOKENS;
		return put(h, &pin.base);
	}
	if (h->type == WIRE_SUBSCRIBE) {
		sub.serial = bytes_get(in, 1);
		sub.next = bytes_get(in, 1);
		return put(h, &sub.base);
	}
	return put(h, NULL);
}

static size_t answer(const struct wire_header *h, const ProtobufCMessage *req,
		     struct parcel *p)
{
	switch (h->type) {
	case WIRE_HELLO:
		return answer_hello(h);
	case WIRE_OPEN_SPACE:
		return answer_open(h, p);
	case WIRE_MAP:
		return answer_map(h, req, p);
	case WIRE_ALLOC:
		return answer_alloc(h, req);
	case WIRE_MATCH:
		return answer_match(h, req);
	case WIRE_PUBLISH:
		return answer_publish(h, req);
	case WIRE_CLAIM:
		return answer_claim(h, req);
	case WIRE_RELEASE:
		return answer_release(h, req);
	case WIRE_FLIGHT:
		return answer_flight(h);
	default:
		return answer_other(h);
	}
}

static size_t refuse(struct wire_header h)
{
	static const uint8_t usual[] = { ENOSPC, EDQUOT, ESTALE, EAGAIN,
					 EACCES, EPROTO, ENOENT, EBUSY };
	Kvd__ErrorReply m = KVD__ERROR_REPLY__INIT;
	uint64_t n = bytes_get(in, 1);

	h.status = n < 0xf0 ? usual[n % 8] : (uint16_t)bytes_get(in, 2);
	m.text = (char *)"no";
	m.need_bytes = n & 8;
	return put(&h, &m.base);
}

/* ---- events ---- */

static size_t put_event(void)
{
	struct wire_header h = { .type = WIRE_EVENT };
	Kvd__Event m = KVD__EVENT__INIT;
	Kvd__PressureEvent pressure = KVD__PRESSURE_EVENT__INIT;
	Kvd__BlocksEvent b = KVD__BLOCKS_EVENT__INIT;
	Kvd__FlightEvent flight = KVD__FLIGHT_EVENT__INIT;
	uint64_t bits = bytes_get(in, 1);
	uint8_t kinds[4], names[4 * NAME_BYTES] = { 0 };
	uint32_t numbers[4] = { 0, 1, 2, 3 }, tokens[4 * REPLY_TOKENS] = { 0 };
	size_t nr = bits >> 3 & 3, stored = 0;

	m.kind = (Kvd__Event__Kind)(bits & 7);
	m.pressure = &pressure;
	pressure.pool = pressure.tenant = (uint32_t)bits >> 3;
	m.flight = bits >> 3 == 1 ? NULL : &flight;
	flight.wait = last_wait - (bits >> 3 == 2);
	flight.late = bits >> 3 == 3;
	m.segment = (uint32_t)bits >> 3 & 7;
	m.blocks = &b;
	b.space = 1;
	b.first = bytes_get(in, 1);
	b.lost = bits >> 6 == 1 ? bytes_get(in, 1) : 0;
	b.gone = bits >> 6 == 2;
	for (size_t i = 0; i < nr; i++) {
		kinds[i] = (uint8_t)(bytes_get(in, 1) & 1);
		stored += kinds[i] == WIRE_BLOCK_STORED;
	}
	b.kinds = (ProtobufCBinaryData){ nr, kinds };
	b.names = (ProtobufCBinaryData){ nr * NAME_BYTES, names };
	b.parents = (ProtobufCBinaryData){ stored * NAME_BYTES, names };
	b.n_depths = b.n_classes = stored;
	b.depths = b.classes = numbers;
	b.n_tokens = bits & 0x20 ? stored * REPLY_TOKENS : 0;
	b.tokens = tokens;
	return put(&h, &m.base);
}

/* ---- out ---- */

/* As in a session with the daemon: cut, grown, or other bytes. */
static size_t bend(size_t size)
{
	unsigned how = (unsigned)bytes_get(in, 1);
	size_t at = bytes_get(in, 2) % (size + 1), nr = how & 7;

	if (how & 0x80)
		return at;
	if (at + nr > size)
		size = at + nr;
	for (size_t i = 0; i < nr; i++)
		frame[at + i] = (uint8_t)bytes_get(in, 1);
	if (how & 0x40) { /* so that the header is right */
		struct wire_header h = { 0 };

		if (wire_get(frame, size, 0, 1, &h) != -EPROTO ||
		    size < WIRE_HEADER_BYTES)
			return size;
		memcpy(frame, &(uint32_t){ (uint32_t)(size -
				WIRE_HEADER_BYTES) }, 4);
	}
	return size;
}

static int deliver(int fd, size_t size, const struct parcel *p)
{
	if (size)
		raw_send_bytes(fd, frame, size, p->fds, p->nr);
	return 0;
}

int reply_unasked(int fd)
{
	struct parcel p = { .nr = 0 };
	unsigned how = (unsigned)bytes_get(in, 1);
	size_t size;

	if (how >= 0xe0)
		return -EPIPE;
	size = put_event();
	if (how >= 0xa0)
		size = bend(size);
	return deliver(fd, size, &p);
}

static ProtobufCMessage *request_of(const struct wire_header *h,
				    const uint8_t *payload)
{
	static const ProtobufCMessageDescriptor *const of[WIRE_NR_TYPES] = {
		[WIRE_MAP] = &kvd__map_request__descriptor,
		[WIRE_ALLOC] = &kvd__alloc_request__descriptor,
		[WIRE_MATCH] = &kvd__match_request__descriptor,
		[WIRE_PUBLISH] = &kvd__publish_request__descriptor,
		[WIRE_CLAIM] = &kvd__claim_request__descriptor,
		[WIRE_RELEASE] = &kvd__release_request__descriptor,
	};
	ProtobufCMessage *m;

	if (!of[h->type])
		return NULL;
	m = protobuf_c_message_unpack(of[h->type], NULL, h->length, payload);
	CHECK(m, "the library sent what cannot be read");
	return m;
}

/* An answer, right or in some way wrong, as the input says. */
static int respond(int fd, const struct wire_header *h,
		   const ProtobufCMessage *req)
{
	unsigned how = (unsigned)bytes_get(in, 1);
	struct parcel p = { .nr = 0 };
	size_t size;

	if (how >= 0xf8)
		return -EPIPE;
	if (how >= 0xf0)
		return 0; /* never, or late */
	if (how >= 0xe0)
		reply_unasked(fd);
	if (how >= 0xd0 && how < 0xe0)
		return deliver(fd, refuse(*h), &p);
	if (how >= 0xc8 && how < 0xd0)
		epoch++;
	size = answer(h, req, &p);
	if (how >= 0x98 && how < 0xc0)
		size = bend(size);
	if (how >= 0x80 && how < 0x98)
		bend_parcel(&p);
	if (how >= 0x70 && how < 0x80)
		reply_bend();
	deliver(fd, size, &p);
	return how == 0x6f ? deliver(fd, size, &p) : 0; /* twice */
}

/* One request, whose descriptor is of no interest. */
static void receive(int fd, struct wire_header *h, uint8_t *buf)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { buf, WIRE_MAX_FRAME };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int sent;

	if (c) {
		memcpy(&sent, CMSG_DATA(c), sizeof(sent));
		close(sent);
	}
	CHECK(n > 0 && wire_get(buf, (size_t)n, c != NULL, 0, h) == 0,
	      "the library sent no frame");
}

int reply_to(int fd)
{
	static uint8_t buf[WIRE_MAX_FRAME];
	struct wire_header h;
	ProtobufCMessage *req;
	int r;

	receive(fd, &h, buf);
	req = request_of(&h, buf + WIRE_HEADER_BYTES);
	r = respond(fd, &h, req);
	if (req)
		protobuf_c_message_free_unpacked(req, NULL);
	return r;
}
