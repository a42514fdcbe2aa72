// SPDX-License-Identifier: Apache-2.0
/*
 * metadata.c - a page table that was bent, taken over by a new pool.
 *
 * A pool is filled once and its descriptors are kept. Each input bends a copy
 * of the table: bytes of records, whole records over others, descriptors lost
 * or exchanged. Whatever is restored must balance: at once, with holds
 * claimed, after grace, and when it is used.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "daemon/mem/table.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/mem/fixture.h"
#include "tests/support/check.h"

#define NR_ENTRIES  64u
#define NR_SPACES   4u
#define NR_HANDLES  24u
#define NR_RECORDS  4u		/* that there may be of the others */
#define MAX_PATCHES 64

static const uint32_t groups[] = { 8, 3, 0 }; /* 128 KiB, 48 KiB */

static struct fx fx;
static struct kept kept[MAX_KEPT]; /* by the pool that was filled */
static uint8_t *genuine;	/* the table as it left it */
static struct table table;	/* the one that is bent */
static handle_t handles[NR_HANDLES];
static pid_t living;

static bool alive(pid_t pid, uint64_t start_time)
{
	return pid == living;
}

/* Two tenants; published chains, one sealed without a name, open ones. */
static void fill(void)
{
	struct mem_client *c = fx_client(&fx, 1, "t", 0);
	struct mem_space *s = fx_space(c, 1, groups);
	handle_t out[MEM_MAX_CLASSES];
	struct mem_block b = { .tokens = NULL };
	place_t places[MEM_MAX_CLASSES];

	CHECK(!fx_alloc(&fx, c, s, 0, 8, handles) &&
	      !fx_alloc(&fx, c, s, 1, 8, handles + 8), "pages");
	for (uint32_t d = 0; d < 6; d++) {
		fx_publish(c, s, 1, d, 0, handles[d]);
		fx_publish(c, s, 1, d, 1, handles[8 + d]);
	}
	b.pages[0] = handles[6];
	CHECK(!mem_publish(c, s, &b, true, out, places), "sealed");
	c = fx_client(&fx, 2, "u", 0);
	s = fx_space(c, 2, groups + 1);
	CHECK(!fx_alloc(&fx, c, s, 0, 8, handles + 16), "pages");
	for (uint32_t d = 0; d < 6; d++)
		fx_publish(c, s, 2, d, 0, handles[16 + d]);
}

static void wake(void *ctx)
{
}

static void init(void)
{
	const char *why;

	fx.cfg = (struct mem_config){
		.pool_bytes = 8 * MIB,
		.segment_bytes = 2 * MIB,
		.max_pages = NR_ENTRIES,
		.max_spaces = NR_SPACES,
		.policy = "lru",
	};
	CHECK(!dev_new("host", wake, NULL, &fx.dev, fx.note,
		       sizeof(fx.note)) && !fx_new(&fx), "%s", fx.note);
	fill();
	fx_verify(&fx);
	mem_free(fx.m);
	memcpy(kept, fx.kept, sizeof(kept));
	memset(fx.kept, 0, sizeof(fx.kept));
	CHECK(!table_adopt(&table, kept[0].fd, dev_spec(fx.dev), &why), "%s",
	      why);
	genuine = malloc(table.mapped);
	CHECK(genuine, "out of memory");
	memcpy(genuine, table.h, table.mapped);
}

struct region {
	void *at;
	uint32_t bytes, nr; /* of one record; records */
};

static struct region region_of(uint64_t nr)
{
	switch (nr % 6) {
	case 0:
		return (struct region){ table.h, sizeof(*table.h), 1 };
	case 1:
		return (struct region){ table.segments,
					sizeof(*table.segments), NR_RECORDS };
	case 2:
		return (struct region){ table.tenants, sizeof(*table.tenants),
					NR_RECORDS };
	case 3:
		return (struct region){ table.spaces, sizeof(*table.spaces),
					NR_SPACES };
	case 4:
		return (struct region){ table.prefixes,
					sizeof(*table.prefixes),
					NR_ENTRIES + 1 };
	default:
		return (struct region){ table.entries, sizeof(*table.entries),
					NR_ENTRIES + 1 };
	}
}

static void bend_record(struct bytes *in)
{
	struct region r = region_of(bytes_get(in, 1));
	size_t at = bytes_get(in, 2) % (r.bytes * r.nr);
	size_t nr = 1 + bytes_get(in, 1) % 8;
	const uint8_t *from = bytes_take(in, &nr);

	if (nr > r.bytes * r.nr - at)
		nr = r.bytes * r.nr - at;
	memcpy((uint8_t *)r.at + at, from, nr);
}

static void copy_record(struct bytes *in)
{
	struct region r = region_of(bytes_get(in, 1));
	uint8_t *from = (uint8_t *)r.at + bytes_get(in, 1) % r.nr * r.bytes;
	uint8_t *to = (uint8_t *)r.at + bytes_get(in, 1) % r.nr * r.bytes;

	memmove(to, from, r.bytes);
}

/* The name that belongs to what the prefix now says. */
static void fix_name(struct bytes *in)
{
	struct prefix *p = &table.prefixes[bytes_get(in, 1) % NR_ENTRIES + 1];
	struct name_key key;

	name_key_init(&key, table.tenants[bytes_get(in, 1) % 2].key);
	p->name = name_block(&key, &p->parent, &p->extra, p->tokens, 64);
}

static uint64_t pages(uint64_t bytes)
{
	return (bytes + 4095) & ~4095ull;
}

/* Other numbers of entries and spaces, that agree with the size. */
static void resize(struct bytes *in)
{
	struct table_header *h = table.h;

	h->nr_entries = (uint32_t)(bytes_get(in, 1) % (NR_ENTRIES + 1));
	h->nr_spaces = (uint32_t)(bytes_get(in, 1) % (NR_SPACES + 1));
	h->nr_used = (uint32_t)bytes_get(in, 1);
	h->bytes = pages(sizeof(*h)) +
		   pages(TABLE_NR_SEGMENTS * sizeof(*table.segments)) +
		   pages(TABLE_NR_TENANTS * sizeof(*table.tenants)) +
		   pages(h->nr_spaces * sizeof(*table.spaces)) +
		   pages((h->nr_entries + 1) * sizeof(*table.entries)) +
		   pages((h->nr_entries + 1) * sizeof(*table.prefixes));
}

/* Descriptors as a service manager gives them back, or does not. */
static void keep(uint64_t lost, uint64_t turn)
{
	for (unsigned i = 0; i < MAX_KEPT && kept[i].name[0]; i++) {
		unsigned from = turn & 1 && i ? 1 + i % 2 : i;

		if (lost >> i & 1)
			continue;
		fx.kept[i].fd = fcntl(kept[from].fd, F_DUPFD_CLOEXEC, 0);
		CHECK(fx.kept[i].fd >= 0, "descriptors");
		memcpy(fx.kept[i].name, kept[i].name, sizeof(kept[i].name));
	}
}

static void claim(pid_t pid, const char *tenant, uint8_t model,
		  const uint32_t *layers, unsigned first, unsigned nr)
{
	struct mem_client_id id = { .pid = pid, .start_time = 1000 };
	uint8_t name_key[NAME_KEY_BYTES] = { (uint8_t)tenant[0] };
	struct mem_space_key key = fx_key(model, layers);
	struct mem_client *c;
	struct mem_space *s;
	const char *why;

	/* There may be no record left for either. */
	if (mem_client_new(fx.m, &id, tenant, name_key, &fx, &c) < 0 ||
	    mem_space_open(c, &key, &s, &why) < 0)
		return;
	for (unsigned i = first; i < first + nr; i += 3)
		mem_claim(c, s, handles[i], 1);
	fx_verify(&fx);
	mem_alloc(c, s, 0, 1, &(handle_t){ 0 }, &(place_t){ 0 },
		  &(uint64_t){ 0 });
	dev_drain(fx.dev);
}

static void use(struct bytes *in)
{
	uint64_t bits = bytes_get(in, 1);

	fx_verify(&fx);
	if (bits & 1)
		claim(1, "t", 1, groups, 0, 16);
	if (bits & 2)
		claim(2, "u", 2, groups + 1, 16, 8);
	fx_verify(&fx);
	living = bits >> 2 & 3;
	mem_grace_end(fx.m, alive);
	fx_verify(&fx);
	for (int i = 0; i < 100 && mem_trim(fx.m); i++)
		;
	fx_verify(&fx);
	mem_reap_writer(fx.m, 1, 1000);
	fx_verify(&fx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	uint64_t fds;

	if (!genuine)
		init();
	memcpy(table.h, genuine, table.mapped);
	fds = bytes_get(&in, 1);
	keep(fds & 0x80 ? fds & 0xf : 0, fds >> 4);
	for (int i = 0; i < MAX_PATCHES && in.nr > 1; i++) {
		switch (bytes_get(&in, 1) % 8) {
		case 0:
			copy_record(&in);
			break;
		case 1:
			fix_name(&in);
			break;
		case 2:
			resize(&in);
			break;
		default:
			bend_record(&in);
		}
	}
	if (fx_new(&fx) == 0) {
		use(&in);
		mem_free(fx.m);
	}
	fx_forget(&fx);
	return 0;
}
