// SPDX-License-Identifier: Apache-2.0
/*
 * rows_spaces.c - another's spaces, index and names; and verbs of admins.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "proto/shm.h"
#include "tests/hostile/hostile.h"

#define NOWHERE 250u		/* a space that there is not */
#define SEED	1000u		/* of what the victim has published */

static struct raw_frame f;

/* The answer to a request of @type about @space is the same as about one
 * that does not exist, and an error. @req begins as PinRequest does. */
static void as_if_none(int fd, unsigned type, ProtobufCMessage *req,
		       uint32_t *space)
{
	char text[2][256];
	int r;

	for (int i = 0; i < 2; i++) {
		char number[12], *p;

		*space = i ? NOWHERE : w->victim.space;
		r = raw_call(fd, type, req, NULL, NULL, &f);
		want(r, -ENOENT);
		snprintf(text[i], sizeof(text[i]), "%s", raw_error(&f));
		snprintf(number, sizeof(number), "%u", *space);
		p = strstr(text[i], number);
		if (p)
			memset(p, 'N', strlen(number));
		if (p && strlen(number) > 1)
			memmove(p + 1, p + strlen(number),
				strlen(p + strlen(number)) + 1);
	}
	MUST(strcmp(text[0], text[1]) == 0, "'%s', but of none '%s'", text[0],
	     text[1]);
}

static void foreign_alloc(void)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;

	req.count = 1;
	as_if_none(raw_open(w->socket), WIRE_ALLOC, &req.base, &req.space);
}

static void foreign_match(void)
{
	Kvd__MatchRequest req = KVD__MATCH_REQUEST__INIT;

	req.n_handles = NR_PUBLISHED;
	req.handles = w->victim.published;
	req.hit_tokens = 1 << 20;
	as_if_none(raw_open(w->socket), WIRE_MATCH, &req.base, &req.space);
}

static void foreign_publish(void)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;

	as_if_none(raw_open(w->socket), WIRE_PUBLISH, &req.base, &req.space);
}

static void foreign_claim(void)
{
	Kvd__ClaimRequest req = KVD__CLAIM_REQUEST__INIT;
	uint32_t holds = 1;

	req.n_handles = req.n_holds = 1;
	req.handles = w->victim.open;
	req.holds = &holds;
	as_if_none(raw_open(w->socket), WIRE_CLAIM, &req.base, &req.space);
}

static void foreign_map(void)
{
	Kvd__MapRequest req = KVD__MAP_REQUEST__INIT;

	req.n_segments = 1;
	req.segments = &w->victim.segment;
	as_if_none(raw_open(w->socket), WIRE_MAP, &req.base, &req.space);
}

static void foreign_close(void)
{
	Kvd__CloseSpaceRequest req = KVD__CLOSE_SPACE_REQUEST__INIT;

	as_if_none(raw_open(w->socket), WIRE_CLOSE_SPACE, &req.base,
		   &req.space);
}

static void foreign_drop(void)
{
	Kvd__DropRequest req = KVD__DROP_REQUEST__INIT;

	as_if_none(raw_open(w->socket), WIRE_DROP, &req.base, &req.space);
}

static void foreign_index(void)
{
	Kvd__IndexRequest req = KVD__INDEX_REQUEST__INIT;

	req.top = 8;
	as_if_none(raw_open(w->socket), WIRE_INDEX, &req.base, &req.space);
	req.below = 1;
	as_if_none(raw_open(w->socket), WIRE_INDEX, &req.base, &req.space);
}

static void foreign_pin(void)
{
	Kvd__PinRequest req = KVD__PIN_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.block = 1;
	req.ttl_ms = 1000;
	as_if_none(fd, WIRE_PIN, &req.base, &req.space);
	req.look = 1;
	as_if_none(fd, WIRE_PIN, &req.base, &req.space);
}

static void foreign_unpin(void)
{
	Kvd__UnpinRequest req = KVD__UNPIN_REQUEST__INIT;
	int fd = raw_open(w->socket);

	for (req.block = 1; req.block <= NR_PUBLISHED; req.block++)
		as_if_none(fd, WIRE_UNPIN, &req.base, &req.space);
}

static void foreign_subscribe(void)
{
	Kvd__SubscribeRequest req = KVD__SUBSCRIBE_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.mask = WIRE_SUBSCRIBE_BLOCKS;
	as_if_none(fd, WIRE_SUBSCRIBE, &req.base, &req.space);
	req.mask |= WIRE_SUBSCRIBE_TOKENS;
	as_if_none(fd, WIRE_SUBSCRIBE, &req.base, &req.space);
}

/* What the victim computes, and to announce it in its place. */
static void foreign_flight(void)
{
	static uint8_t names[16 * 16];
	Kvd__FlightRequest req = KVD__FLIGHT_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.names.data = names;
	req.names.len = sizeof(names);
	req.wait_ms = 1000;
	as_if_none(fd, WIRE_FLIGHT, &req.base, &req.space);
	req.announce = 1;
	as_if_none(fd, WIRE_FLIGHT, &req.base, &req.space);
}

/* ---- the same model ---- */

static void same_model(void)
{
	int fd = raw_open(w->socket), fds[2], id;
	const struct shm_index *ix;
	struct stat st;

	id = open_space_fds(fd, MODEL, false, fds, NULL);
	MUST(id > 0 && id != (int)w->victim.space, "space %d", id);
	MUST(fstat(fds[0], &st) == 0, "fstat");
	ix = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fds[0], 0);
	MUST(ix != MAP_FAILED && ix->magic == SHM_INDEX_MAGIC, "index");
	MUST(ix->nr_used == 0, "%llu blocks in it",
	     (unsigned long long)ix->nr_used);
	saw("a space of its own, its index empty");
}

static void name_key(void)
{
	static const uint8_t none[32];
	uint8_t own[32];
	char path[160];
	int fd = raw_open(w->socket), fds[2];

	MUST(open_space_fds(fd, MODEL, false, fds, own) > 0, "space");
	snprintf(path, sizeof(path), "%s/uid-%d.key", w->state_dir, VICTIM);
	fd = open(path, O_RDONLY);
	MUST(fd < 0, "%s can be read", path);
	saw("%s", strerrorname_np(errno));
	MUST(memcmp(own, none, 32) != 0, "its own key is nothing");
}

/* What the victim has published: is it there? Nothing may tell. */
static void probe(void)
{
	int fd = raw_open(w->socket);
	uint32_t space = (uint32_t)raw_open_space(fd, MODEL);
	uint64_t h[2], got;

	MUST(raw_alloc(fd, space, 2, SLOW_MS, h, NULL) == 0, "alloc");
	want(publish_after(fd, space, h[0], SEED, NULL, &got), 0);
	MUST(got == h[0], "deduplicated with the victim's");
	want(publish_after(fd, space, h[1], 999999, NULL, &got), 0);
	MUST(got == h[1], "deduplicated");
	saw("published as what nobody has is");
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static int64_t median_ns(int fd, uint32_t space, const uint64_t *h)
{
	static int64_t ns[1000];
	struct timespec a, b;

	for (int i = 0; i < 1000; i++) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		MUST(raw_match(fd, space, h, 1) == 0, "granted");
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns[i] = (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec -
			a.tv_nsec;
	}
	qsort(ns, 1000, sizeof(*ns), by_value);
	return ns[500];
}

/*
 * Handles are all that can be asked about: a page that there is, and one that
 * there is not. Both are refused alike; how long that takes is printed. The
 * names, which say what prompts there are, are nowhere to be asked about.
 */
static void timing(void)
{
	int fd = raw_open(w->socket);
	uint32_t space = (uint32_t)raw_open_space(fd, MODEL);
	uint64_t not = w->victim.published[0] + (1ull << 40);
	int64_t there, nowhere;

	there = median_ns(fd, space, w->victim.published);
	nowhere = median_ns(fd, space, &not);
	saw("of names nothing can be asked; a handle that there is is refused "
	    "in %lld us, one that there is not in %lld",
	    (long long)there / 1000, (long long)nowhere / 1000);
}

/* A block that follows the victim's, by whatever parent. */
static void collide(void)
{
	int fd = raw_open(w->socket);
	uint32_t space = (uint32_t)raw_open_space(fd, MODEL);
	uint8_t parent[16];
	uint64_t h, got;

	for (int i = 1; i <= 64; i++) {
		memset(parent, i, sizeof(parent));
		MUST(raw_alloc(fd, space, 1, SLOW_MS, &h, NULL) == 0, "alloc");
		want(publish_after(fd, space, h, SEED, parent, &got), 0);
		MUST(got == h, "another's page under that name");
		MUST(raw_match(fd, space, w->victim.published, 1) == 0,
		     "granted");
	}
	saw("64 blocks in its own index, none in another");
}

/* ---- admins ---- */

static int tenant_set(int fd, const char *name, uint32_t keys)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;

	req.name = (char *)(uintptr_t)name;
	req.keys = keys;
	req.min = req.high = req.max = 1 << 20;
	req.runtime = 1;
	return raw_call(fd, WIRE_TENANT_SET, &req.base, NULL, NULL, NULL);
}

static void set_limits(void)
{
	int fd = raw_open(w->socket);
	char own[16], victim[16];

	snprintf(own, sizeof(own), "uid-%d", HOSTILE);
	snprintf(victim, sizeof(victim), "uid-%d", VICTIM);
	for (uint32_t keys = 1; keys < 8; keys++) {
		want(tenant_set(fd, own, keys), -EACCES);
		want(tenant_set(fd, victim, keys), -EACCES);
	}
	want(tenant_set(fd, "../../etc/passwd", 4), -EACCES);
}

static int reclaim(int fd, const char *name)
{
	Kvd__ReclaimRequest req = KVD__RECLAIM_REQUEST__INIT;

	req.tenant = (char *)(uintptr_t)name;
	req.bytes = 1ull << 30;
	return raw_call(fd, WIRE_RECLAIM, &req.base, NULL, NULL, NULL);
}

static void reclaim_others(void)
{
	int fd = raw_open(w->socket);
	char victim[16];

	snprintf(victim, sizeof(victim), "uid-%d", VICTIM);
	want(reclaim(fd, victim), -EACCES);
	want(reclaim(fd, ""), -EACCES);
	want(reclaim(fd, "nobody"), -EACCES);
}

static void walk(void)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.verify = 1;
	want(raw_call(fd, WIRE_STAT, &req.base, NULL, NULL, NULL), -EACCES);
	req.verify = 0;
	req.loop_reset = 1;
	want(raw_call(fd, WIRE_STAT, &req.base, NULL, NULL, NULL), -EACCES);
}

static void release_all(void)
{
	Kvd__QuarantineReleaseRequest req =
		KVD__QUARANTINE_RELEASE_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.all = 1;
	for (int force = 0; force < 2; force++) {
		req.force = force;
		want(raw_call(fd, WIRE_QUARANTINE_RELEASE, &req.base, NULL,
			      NULL, NULL), -EACCES);
	}
}

static void resize(void)
{
	Kvd__PoolRequest req = KVD__POOL_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.resize = 4u << 20;
	want(raw_call(fd, WIRE_POOL, &req.base, NULL, NULL, NULL), -EACCES);
}

/* What others have mapped, or have yet to unmap, is not said by us. */
static void unmap_all(void)
{
	Kvd__UnmappedRequest req = KVD__UNMAPPED_REQUEST__INIT;
	int fd = raw_open(w->socket);
	uint32_t ids[64];

	for (uint32_t i = 0; i < 64; i++)
		ids[i] = i;
	req.segments = ids;
	req.n_segments = 64;
	want(raw_call(fd, WIRE_UNMAPPED, &req.base, NULL, NULL, NULL), 0);
}

static void list_clients(int fd)
{
	Kvd__ClientsRequest req = KVD__CLIENTS_REQUEST__INIT;
	Kvd__ClientsReply *reply;

	want(raw_call(fd, WIRE_CLIENTS, &req.base,
		      &kvd__clients_reply__descriptor, &reply, NULL), 0);
	for (size_t i = 0; i < reply->n_clients; i++)
		MUST(reply->clients[i]->uid == HOSTILE, "a client of uid %u",
		     reply->clients[i]->uid);
	MUST(reply->n_clients == 1, "%zu clients", reply->n_clients);
}

static void list_spaces(int fd)
{
	Kvd__SpacesRequest req = KVD__SPACES_REQUEST__INIT;
	Kvd__SpacesReply *reply;

	want(raw_call(fd, WIRE_SPACES, &req.base,
		      &kvd__spaces_reply__descriptor, &reply, NULL), 0);
	for (size_t i = 0; i < reply->n_spaces; i++)
		MUST(reply->spaces[i]->id != w->victim.space, "its space");
}

static void list_tenants(int fd)
{
	Kvd__TenantsRequest req = KVD__TENANTS_REQUEST__INIT;
	Kvd__TenantsReply *reply;

	want(raw_call(fd, WIRE_TENANTS, &req.base,
		      &kvd__tenants_reply__descriptor, &reply, NULL), 0);
	MUST(reply->n_tenants == 1 && reply->tenants[0]->uids[0] == HOSTILE,
	     "%zu tenants", reply->n_tenants);
}

static void list_pins(int fd)
{
	Kvd__PinsRequest req = KVD__PINS_REQUEST__INIT;
	Kvd__PinsReply *reply;

	want(raw_call(fd, WIRE_PINS, &req.base,
		      &kvd__pins_reply__descriptor, &reply, NULL), 0);
	MUST(reply->n_pins == 0, "%zu pins", reply->n_pins);
}

static void list_classes(int fd)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	Kvd__StatReply *reply;

	want(raw_call(fd, WIRE_STAT, &req.base, &kvd__stat_reply__descriptor,
		      &reply, NULL), 0);
	for (size_t i = 0; i < reply->pools[0]->n_classes; i++)
		MUST(reply->pools[0]->classes[i]->space != w->victim.space,
		     "its pages");
}

static void list_all(void)
{
	int fd = raw_open(w->socket);

	list_clients(fd);
	list_spaces(fd);
	list_tenants(fd);
	list_pins(fd);
	list_classes(fd);
	saw("shown its own alone");
}

/* Who is asked for is not who asks. */
static void forge_tenant(void)
{
	/* version 1, program "uid-4242", and unknown fields "uid-4242". */
	static const uint8_t hello[] = "\x08\x01\x1a\x08uid-4242"
				       "\x7a\x08uid-4242\x72\x08uid-4242";
	int fd = raw_connect(w->socket);
	Kvd__HelloReply *reply;
	char own[16];

	snprintf(own, sizeof(own), "uid-%d", HOSTILE);
	MUST(raw_send(fd, WIRE_HELLO, 1, hello, sizeof(hello) - 1) == 0,
	     "send");
	want(reply_to(fd, 1, &f), 0);
	reply = kvd__hello_reply__unpack(NULL, f.header.length, f.payload);
	MUST(reply && strcmp(reply->tenant, own) == 0, "tenant %s",
	     reply ? reply->tenant : "none");
	saw("tenant %s", reply->tenant);
}

const struct row rows_spaces[] = {
	{ "space: alloc", "pages of the victim's space", foreign_alloc },
	{ "space: match", "to match in it, and lie about hits",
	  foreign_match },
	{ "space: publish", "to publish in it", foreign_publish },
	{ "space: claim", "to claim in it", foreign_claim },
	{ "space: map", "to map its segment through it", foreign_map },
	{ "space: close", "to close it", foreign_close },
	{ "space: drop", "to drop what it has cached", foreign_drop },
	{ "space: index", "to read its index", foreign_index },
	{ "space: pin", "to pin in it, or look whether one could",
	  foreign_pin },
	{ "space: unpin", "to unpin what the victim has pinned",
	  foreign_unpin },
	{ "space: subscribe", "to be told of its blocks and tokens",
	  foreign_subscribe },
	{ "space: flight", "to wait for what it computes, to announce it",
	  foreign_flight },
	{ "name: same model", "to open a space of the same model and geometry",
	  same_model },
	{ "name: key", "to read the victim's name key", name_key },
	{ "name: probe", "to publish the same prompt, for a hint that it is "
	  "there", probe },
	{ "name: timing", "to learn from the time of an answer", timing },
	{ "name: collision", "blocks under parents of its choice", collide },
	{ "name: tenant", "to say that one is another tenant", forge_tenant },
	{ "admin: limits", "to set limits, the victim's and one's own",
	  set_limits },
	{ "admin: reclaim", "to have others' cached pages given up",
	  reclaim_others },
	{ "admin: walk", "to have kvd walk its structure, forget its turns",
	  walk },
	{ "admin: quarantine", "to release what dead writers have left",
	  release_all },
	{ "admin: resize", "to have the pool resized", resize },
	{ "segments: unmapped", "to say that others' segments are unmapped",
	  unmap_all },
	{ "admin: lists", "to be shown others' clients, spaces, tenants, pins, "
	  "classes", list_all },
	{ 0 }
};
