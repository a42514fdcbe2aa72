/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_cache.h - bytes of keys and values, from the pages kvd would allocate.
 *
 * Sizes come from kernels/page.h and from nowhere else: what is planned is
 * what the daemon takes.
 */
#ifndef TOOLS_KVCTL_PLAN_CACHE_H
#define TOOLS_KVCTL_PLAN_CACHE_H

#include <stdint.h>
#include "kernels/page.h"
#include "tools/kvctl/plan_model.h"

/* What is chosen about pages. */
struct plan_pages {
	uint32_t page_tokens;
	uint32_t exact_pages;
	uint32_t v_group;
	uint32_t tp;
};

/* Keys and values in one pair of formats. */
struct plan_cache {
	char name[KVD_FORMATS_TEXT];
	struct kvd_geometry geometry;
	const char *refused;	 /* why it cannot be used, else NULL */
	const char *note;
	double bits;		 /* per element, metadata included */
	uint64_t token_bytes;	 /* of full pages, all layers */
	uint64_t grow_bytes;	 /* of them, layers without a window */
	uint64_t open_bytes;	 /* of a sequence: pages in 16 bits beside its
				  * sealed ones */
	bool lag;
	bool needs_profile;
};

/**
 * plan_cache_init() - size one pair of formats
 * @name:	as kvd_formats_parse() takes it
 *
 * Return: 0, also when kvd refuses the geometry (@c->refused); -EINVAL for an
 * unknown name.
 */
int plan_cache_init(struct plan_cache *c, const struct plan_model *m,
		    const struct plan_pages *pages, const char *name);

/**
 * plan_sequence_bytes() - most that a sequence of @tokens holds
 *
 * Whole pages; where pages are sealed whole an open one, with a lag one more;
 * exact pages in 16 bits; of layers with a window, the pages it touches.
 */
uint64_t plan_sequence_bytes(const struct plan_cache *c, uint64_t tokens);

/* Bytes of its full pages alone, in the format. */
uint64_t plan_sealed_bytes(const struct plan_cache *c, uint64_t tokens);

/* Tokens that fit in @bytes of full pages, in sequences of @context. */
uint64_t plan_tokens_fit(const struct plan_cache *c, uint64_t bytes,
			 uint64_t context);

/* The longest context of which @nr sequences fit, at most 2^28. */
uint64_t plan_context_fit(const struct plan_cache *c, uint64_t bytes,
			  uint64_t nr);

/* All formats, the ones that change least first; NULL ends them. */
extern const char *const plan_ladder[];

#endif
