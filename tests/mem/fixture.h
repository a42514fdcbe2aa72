/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h - a pool on a device, driven by hand.
 *
 * The device is the host's, or what KVD_TEST_DEVICE says; the policy is lru,
 * whose order is easily foretold, or what KVD_TEST_POLICY says.
 * Descriptors that mem/ asks to keep are duplicated into a store, as a
 * service manager would; a pool may be made again from it. Every helper that
 * cannot fail in a healthy pool asserts.
 */
#ifndef TESTS_MEM_FIXTURE_H
#define TESTS_MEM_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"

#define MIB	 (1u << 20)
#define MAX_KEPT 64

struct kept {
	char name[32];
	int fd;
};

struct fx {
	struct mem_config cfg;
	struct dev *dev;
	struct mem *m;
	struct kept kept[MAX_KEPT];
	int rooms;		/* calls of ops.room */
	int works;		/* of ops.work */
	int recalls;
	struct mem_client *recalled; /* the last */
	/* Told of watched spaces, when it is set. */
	void (*changed)(void *ctx, void *watch, const struct mem_change *what);
	/* Told of revoked segments, when it is set. */
	void (*revoked)(struct mem_client *client, uint32_t segment);
	char note[200];
};

/* A pool of @pool_bytes in segments of @segment_bytes. */
void fx_init(struct fx *f, uint64_t pool_bytes, uint64_t segment_bytes);

/* The same, of @max_bytes at most. */
void fx_init_elastic(struct fx *f, uint64_t pool_bytes, uint64_t max_bytes,
		     uint64_t segment_bytes);

/* Verifies a last time. */
void fx_fini(struct fx *f);

/* The daemon goes and comes back with what was kept. */
void fx_restart(struct fx *f);

/* A pool from copies of the descriptors that were kept. */
int fx_new(struct fx *f);
void fx_forget(struct fx *f); /* what was kept */

void fx_verify(struct fx *f);
uint64_t fx_pages(struct fx *f, enum page_state s);

/* Sets what a tenant has, and waits until that is so. */
void fx_limit(struct fx *f, const char *tenant, uint64_t min, uint64_t high,
	      uint64_t max);

/* A process of number @pid in @tenant, limited to @max bytes if not 0. */
struct mem_client *fx_client(struct fx *f, pid_t pid, const char *tenant,
			     uint64_t max);

/*
 * One group per entry of @layers (ended by 0): head_dim 64, one head, 64
 * tokens, f16: 16 KiB per layer. The second group and on have a window.
 */
struct mem_space_key fx_key(uint8_t model, const uint32_t *layers);
struct mem_space *fx_space(struct mem_client *c, uint8_t model,
			   const uint32_t *layers);

/*
 * The same sealed as kivi4, of 4.5 KiB per layer: class g is group g's open
 * one, the sealed ones follow. Groups whose bit is in @exact have no such.
 */
struct mem_space_key fx_kivi_key(uint8_t model, const uint32_t *layers,
				 uint32_t exact);
struct mem_space *fx_open(struct mem_client *c,
			  const struct mem_space_key *key);

/* mem_alloc() that waits for segments. */
int fx_alloc(struct fx *f, struct mem_client *c, struct mem_space *s,
	     uint32_t class, uint32_t nr, handle_t *handles);

/* One page, which must be had. */
handle_t fx_page(struct fx *f, struct mem_client *c, struct mem_space *s,
		 uint32_t class);

void fx_release(struct mem_client *c, handle_t h);

/*
 * Block number @depth of the sequence @seq: parent and tokens follow from
 * both, so equal numbers are equal prefixes.
 */
struct mem_block fx_block(const struct mem_space *s, uint32_t seq,
			  uint32_t depth);
struct name fx_name(const struct mem_space *s, uint32_t seq, uint32_t depth);

/* Publishes @h of @class in a block. Return: who has the name. */
handle_t fx_publish(struct mem_client *c, struct mem_space *s, uint32_t seq,
		    uint32_t depth, uint32_t class, handle_t h);

/* What a client finds in the index it maps: the page, or 0. */
handle_t fx_lookup(const struct mem_space *s, uint32_t seq, uint32_t depth,
		   uint32_t class);

#endif
