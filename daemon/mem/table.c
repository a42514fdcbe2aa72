/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - the page table: what a successor must know, in one memfd.
 */
#include "daemon/mem/table.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/dev/dev.h"
#include "daemon/util/memfd.h"
#include "daemon/util/random.h"

static uint64_t align_up(uint64_t n)
{
	return (n + 4095) & ~4095ULL;
}

/* Lays the parts out behind @base, which may be NULL. Return: total bytes. */
static uint64_t table_layout(struct table *t, char *base, uint32_t nr_entries,
			     uint32_t nr_spaces)
{
	uint64_t off[6];
	uint64_t nr = (uint64_t)nr_entries + 1;

	off[0] = align_up(sizeof(struct table_header));
	off[1] = align_up(off[0] + TABLE_NR_SEGMENTS * sizeof(*t->segments));
	off[2] = align_up(off[1] + TABLE_NR_TENANTS * sizeof(*t->tenants));
	off[3] = align_up(off[2] + nr_spaces * sizeof(*t->spaces));
	off[4] = align_up(off[3] + nr * sizeof(*t->entries));
	off[5] = align_up(off[4] + nr * sizeof(*t->prefixes));
	if (base) {
		t->h = (void *)base;
		t->segments = (void *)(base + off[0]);
		t->tenants = (void *)(base + off[1]);
		t->spaces = (void *)(base + off[2]);
		t->entries = (void *)(base + off[3]);
		t->prefixes = (void *)(base + off[4]);
	}
	return off[5];
}

int table_new(struct table *t, const struct table_config *cfg)
{
	uint64_t bytes = table_layout(t, NULL, cfg->nr_entries, cfg->nr_spaces);
	void *base;
	int fd, r;

	fd = memfd_new("kvd-table", bytes);
	if (fd < 0)
		return fd;
	r = memfd_map(fd, bytes, &base);
	if (r < 0) {
		close(fd);
		return r;
	}
	madvise(base, bytes, MADV_DONTDUMP);
	t->fd = fd;
	t->mapped = bytes;
	table_layout(t, base, cfg->nr_entries, cfg->nr_spaces);
	*t->h = (struct table_header){
		.version = TABLE_VERSION,
		.entry_bytes = sizeof(struct table_entry),
		.space_bytes = sizeof(struct table_space),
		.nr_entries = cfg->nr_entries,
		.nr_spaces = cfg->nr_spaces,
		.bytes = bytes,
		.epoch = random_u64(),
		.segment_bytes = cfg->segment_bytes,
		.next_segment = 1,
	};
	snprintf(t->h->device, sizeof(t->h->device), "%s", cfg->device);
	t->h->magic = TABLE_MAGIC;
	return 0;
}

/* Why the header cannot be trusted, or NULL. */
static const char *table_check(const struct table_header *h, uint64_t bytes,
			       const char *device)
{
	struct table t;

	if (h->magic != TABLE_MAGIC)
		return "what was kept is no page table";
	if (h->version != TABLE_VERSION ||
	    h->entry_bytes != sizeof(struct table_entry) ||
	    h->space_bytes != sizeof(struct table_space))
		return "the page table is of another version";
	if (strncmp(h->device, device, sizeof(h->device)) != 0)
		return "the pages are on another device";
	if (h->nr_entries == 0 || h->nr_entries > TABLE_MAX_ENTRIES ||
	    h->nr_spaces == 0 || h->nr_spaces > TABLE_MAX_SPACES ||
	    h->nr_used > h->nr_entries || h->segment_bytes == 0 ||
	    h->segment_bytes > TABLE_MAX_SEGMENT_BYTES ||
	    h->segment_bytes % DEV_GRANULE ||
	    h->next_segment - 1 >= TABLE_MAX_SEGMENT_ID || h->bytes > bytes ||
	    table_layout(&t, NULL, h->nr_entries, h->nr_spaces) != h->bytes)
		return "the page table is broken";
	return NULL;
}

/* Only what its header vouches for is mapped. */
int table_adopt(struct table *t, int fd, const char *device,
		const char **ret_why)
{
	struct table_header h;
	struct stat st;
	void *base;
	int r;

	*ret_why = "what was kept is no page table";
	if (memfd_check(fd, sizeof(h)) < 0 || fstat(fd, &st) < 0 ||
	    pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		return -EINVAL;
	*ret_why = table_check(&h, (uint64_t)st.st_size, device);
	if (*ret_why)
		return -EINVAL;
	*ret_why = "the page table cannot be mapped";
	r = memfd_map(fd, h.bytes, &base);
	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	madvise(base, h.bytes, MADV_DONTDUMP);
	table_layout(t, base, h.nr_entries, h.nr_spaces);
	t->fd = fd;
	t->mapped = h.bytes;
	return 0;
}

void table_fini(struct table *t)
{
	if (t->fd < 0)
		return;
	munmap(t->h, t->mapped);
	close(t->fd);
	*t = (struct table)TABLE_NULL;
}

void table_set(struct table *t, uint32_t nr, const struct identity *id,
	       const struct prefix *prefix)
{
	struct table_entry *e = &t->entries[nr];
	uint32_t seq = atomic_load_explicit(&e->seq, memory_order_relaxed);

	assert(nr >= 1 && nr <= t->h->nr_entries);
	if (nr > atomic_load_explicit(&t->h->nr_used, memory_order_relaxed))
		atomic_store_explicit(&t->h->nr_used, nr, memory_order_release);
	if (prefix) {
		assert(id->named && !e->identity[seq & 1].named);
		t->prefixes[nr] = *prefix;
	}
	e->identity[(seq + 1) & 1] = *id;
	atomic_store_explicit(&e->seq, seq + 1, memory_order_release);
}

const struct identity *table_get(const struct table *t, uint32_t nr)
{
	const struct table_entry *e = &t->entries[nr];

	return &e->identity[atomic_load_explicit(&e->seq,
						 memory_order_acquire) & 1];
}

int table_segment_find(const struct table *t)
{
	for (uint32_t i = 0; i < TABLE_NR_SEGMENTS; i++)
		if (!t->segments[i].used)
			return (int)i;
	return -ENOSPC;
}

int table_tenant_find(const struct table *t)
{
	for (uint32_t i = 0; i < TABLE_NR_TENANTS; i++)
		if (!t->tenants[i].used)
			return (int)i;
	return -ENOSPC;
}

void table_segment_put(struct table *t, int nr, uint32_t id, uint32_t tenant,
		       uint64_t bytes)
{
	struct table_segment *rec = &t->segments[nr];

	assert(!rec->used);
	rec->id = id;
	rec->tenant = tenant;
	rec->bytes = bytes;
	atomic_store_explicit(&rec->used, 1, memory_order_release);
}

void table_tenant_put(struct table *t, int nr, const char *name,
		      const uint8_t key[NAME_KEY_BYTES])
{
	struct table_tenant *rec = &t->tenants[nr];

	assert(!rec->used);
	snprintf(rec->name, sizeof(rec->name), "%s", name);
	memcpy(rec->key, key, NAME_KEY_BYTES);
	atomic_store_explicit(&rec->used, 1, memory_order_release);
}

void table_space_put(struct table *t, uint32_t nr, uint32_t tenant,
		     const struct mem_space_key *key)
{
	struct table_space *rec = &t->spaces[nr];

	assert(!rec->used);
	rec->tenant = tenant;
	rec->key = *key;
	atomic_store_explicit(&rec->used, 1, memory_order_release);
}
