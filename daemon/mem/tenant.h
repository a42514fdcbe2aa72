/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant.h - who pays: tenants, their limit, their charge.
 *
 * A tenant has segments, size classes, spaces and clients of its own; nothing
 * of one is ever given to another. What a page costs is in the page, as a
 * struct charge, from the moment it leaves FREE until it is FREE again.
 */
#ifndef DAEMON_MEM_TENANT_H
#define DAEMON_MEM_TENANT_H

#include "daemon/mem/pool.h"

struct tenant {
	struct list link;	/* mem.tenants */
	struct mem *m;
	int record;		/* in the table */
	char name[TABLE_NAME_BYTES];
	uint8_t key[NAME_KEY_BYTES];
	struct name_key name_key;
	uint64_t min_bytes;
	uint64_t high_bytes;	/* 0: no limit */
	uint64_t max_bytes;	/* 0: no limit */
	uint64_t charged;
	bool lowered;		/* max was, and charged is still above it */
	struct list pins;	/* the one longest ago first: pin.h */
	uint32_t nr_pins;
	uint64_t pinned_bytes;	/* of the pages they cover */
	struct list clients;
	struct list segments;
	struct list classes;
	bool demotes;		/* some space of it does, or did */
	uint32_t nr_spaces;
	uint32_t nr_writers;
	uint64_t segment_bytes;	/* of its segments, the one in making too */
	uint64_t nr_granules;	/* of them free, in no slab */
	bool making;		/* a segment is being made */
	uint64_t nr_coming;	/* granules of it */
	struct tally tally;
};

struct charge {
	struct tenant *tenant;
	uint64_t bytes;
};

void charge_init(struct charge *c, struct tenant *t, uint64_t bytes);
void charge_fini(struct charge *c);

/**
 * tenant_get() - the tenant @name, found or made
 * Return: 0, -EINVAL bad name, -ENOSPC too many tenants, -ENOMEM.
 */
int tenant_get(struct mem *m, const char *name,
	       const uint8_t key[NAME_KEY_BYTES], struct tenant **ret);

/* The tenant @name, or NULL. */
struct tenant *tenant_find(const struct mem *m, const char *name);

/* Made from record @nr of an adopted table. 0, -ENOMEM. */
int tenant_restore(struct mem *m, int nr);

/* Page numbers are shared by all: its limit's part of the pool's. */
uint32_t tenant_max_pages(const struct tenant *t);

/* May @bytes of it be given up for another tenant? */
bool tenant_may_lose(const struct tenant *t, uint64_t bytes);

/* Those that are not FREE. */
uint64_t tenant_nr_pages(const struct tenant *t);

void tenant_free(struct tenant *t);

/* Might a process that is no client any more still map its segments? */
bool tenant_is_mapped(const struct tenant *t);

#endif
