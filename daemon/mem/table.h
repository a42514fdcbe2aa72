/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - the page table: what a successor must know, in one memfd.
 *
 * Records of segments, tenants and spaces, then one entry per page number,
 * then one prefix per page number. Only identity is here; lists, holds,
 * counters, the index are in ordinary memory and rebuilt from it.
 *
 * What makes it safe to be killed at any instruction: an entry has room for
 * two identities and a sequence word that says which one holds. The setter
 * writes the other one, then moves the sequence: there is no moment without
 * a whole identity. A prefix is written only while the identity that holds
 * does not point at it. A record is written, then marked used; unmarked, then
 * reused. Being killed keeps memory as the program ordered it, so release
 * stores are all that is needed.
 *
 * The daemon's loop thread alone writes. No client ever maps it.
 */
#ifndef DAEMON_MEM_TABLE_H
#define DAEMON_MEM_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "daemon/mem/mem.h"

#define TABLE_MAGIC	  0x656c62617444564bULL /* "KVDtable" */
#define TABLE_VERSION	  2
#define TABLE_NR_SEGMENTS 4096u
#define TABLE_NR_TENANTS  256u
#define TABLE_NAME_BYTES  32u
#define TABLE_MAX_SEGMENT_ID ((1u << 24) - 1) /* as a place can say */
#define TABLE_MAX_SEGMENT_BYTES (1ull << 40)  /* and its offset */
#define TABLE_MAX_ENTRIES (0x7fffffffu - 1)   /* as a cell can say: slab.h */
#define TABLE_MAX_SPACES  65536u

struct table_header {
	uint64_t magic;
	uint32_t version;
	uint32_t entry_bytes;
	uint32_t space_bytes;
	uint32_t nr_entries;	/* page numbers are 1..nr_entries */
	uint32_t nr_spaces;
	uint32_t restarts;	/* with pages kept */
	uint64_t bytes;		/* of the whole memfd */
	uint64_t epoch;
	uint64_t segment_bytes;
	char device[TABLE_NAME_BYTES];
	uint32_t next_segment;	/* ids are not reused */
	_Atomic uint32_t nr_used; /* highest page number ever used */
};

struct table_segment {
	_Atomic uint32_t used;
	uint32_t id;
	uint32_t tenant;	/* number of its record */
	uint32_t reserved;
	uint64_t bytes;
};

struct table_tenant {
	_Atomic uint32_t used;
	char name[TABLE_NAME_BYTES];
	uint8_t key[NAME_KEY_BYTES];
};

/* The id of a space is the number of its record + 1. */
struct table_space {
	_Atomic uint32_t used;
	uint32_t tenant;
	struct mem_space_key key;
};

/* Who a page is. CACHED is SEALED here, QUARANTINED is OPEN. */
struct identity {
	uint32_t generation;	/* kept when FREE */
	uint8_t state;		/* PAGE_FREE, PAGE_OPEN, PAGE_SEALED */
	uint8_t named;		/* its prefix is valid, it was published */
	uint8_t class;		/* of its space */
	uint8_t k_format;
	uint8_t v_format;
	uint8_t reserved[3];
	uint32_t space;		/* id */
	uint32_t page_bytes;
	uint32_t slab_slot;	/* first granule of its slab in the segment */
	place_t place;
	union {
		uint32_t depth;		/* of its block, if it is named */
		uint32_t series;	/* OPEN: of its connection */
	};
	uint32_t pid;		/* OPEN: its writer */
	uint64_t start_time;
};

struct table_entry {
	_Atomic uint32_t seq;	/* identity[seq & 1] holds */
	uint32_t reserved;
	struct identity identity[2];
	uint8_t pad[24];
};

_Static_assert(sizeof(struct identity) == 48, "table layout");
_Static_assert(sizeof(struct table_entry) == 128, "table layout");

/* What a block is named for, and the name. */
struct prefix {
	struct name name;
	struct name parent;
	struct name extra;
	uint32_t tokens[KVD_MAX_PAGE_TOKENS];
};

struct table {
	int fd;
	uint64_t mapped;		/* bytes */
	struct table_header *h;
	struct table_segment *segments;
	struct table_tenant *tenants;
	struct table_space *spaces;
	struct table_entry *entries;	/* [nr_entries + 1] */
	struct prefix *prefixes;	/* [nr_entries + 1] */
};

#define TABLE_NULL { .fd = -1 }

struct table_config {
	uint32_t nr_entries;
	uint32_t nr_spaces;
	uint64_t segment_bytes;
	const char *device;
};

/* An empty table. Return: 0 or -errno. */
int table_new(struct table *t, const struct table_config *cfg);

/**
 * table_adopt() - the table a predecessor left in @fd
 * @device:	must be the one it was made for
 * @ret_why:	static text, when it cannot be used
 *
 * Owns @fd on success. Return: 0, -EINVAL with *ret_why, -ENOMEM.
 */
int table_adopt(struct table *t, int fd, const char *device,
		const char **ret_why);
void table_fini(struct table *t);

/**
 * table_set() - the one setter of identity
 * @prefix:	written first when not NULL; the identity that still holds
 *		must not be a named one
 */
void table_set(struct table *t, uint32_t nr, const struct identity *id,
	       const struct prefix *prefix);
const struct identity *table_get(const struct table *t, uint32_t nr);

/* Number of an unused record, or -ENOSPC. */
int table_segment_find(const struct table *t);
int table_tenant_find(const struct table *t);

void table_segment_put(struct table *t, int nr, uint32_t id, uint32_t tenant,
		       uint64_t bytes);
void table_tenant_put(struct table *t, int nr, const char *name,
		      const uint8_t key[NAME_KEY_BYTES]);
void table_space_put(struct table *t, uint32_t nr, uint32_t tenant,
		     const struct mem_space_key *key);

#endif
