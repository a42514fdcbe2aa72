/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.h - pages in private memory, for the kernels to work on.
 *
 * The memory holds several sets of pages, memory_set_bytes() in
 * all. Whoever takes the sets in turn finds each of them cold. Pages lie in
 * random order, as in a pool that has been in use.
 */
#ifndef TOOLS_KVBENCH_PAGES_H
#define TOOLS_KVBENCH_PAGES_H

#include <stdbool.h>
#include "kernels/host/host.h"
#include "tools/kvbench/memory.h"
#include "tools/kvbench/synth.h"

struct pages {
	struct page_layout layout;
	struct page_layout open;   /* where rows go first; the same but where
	                            * pages are sealed whole */
	struct page_layout source; /* the same in f16 */
	struct synth synth;
	struct memory mem;
	struct kv_page_ref *refs; /* [nr_sets][per_set] */
	unsigned per_set;
	unsigned nr_sets;
};

#define PAGES_NULL                                                             \
	{                                                                      \
		.mem = MEMORY_NULL                                             \
	}

/* What a page holds. */
struct pages_shape {
	unsigned k_format; /* enum kvd_format */
	unsigned v_format;
	unsigned kv_heads;
	unsigned dim;
	unsigned page_tokens;
	unsigned tile_order; /* enum kvd_tile_order */
	unsigned nr_layers;  /* 0: 1 */
};

/**
 * pages_plan() - layouts and tables alone, for pages that lie elsewhere
 * @tokens:	positions that tables go as far as
 *
 * Return: as pages_init(), and pages_fini() it as well.
 */
int pages_plan(struct pages *p, const struct pages_shape *shape,
               uint32_t tokens);

/**
 * pages_init() - sets of pages of one layer
 * @per_set:	pages in a set; tables go as far as these
 * @bytes:	of all sets, or a little more
 *
 * Return: 0 or -errno, with the reason on stderr; pages_fini() it in both
 * cases.
 */
int pages_init(struct pages *p, const struct pages_shape *shape,
               uint64_t per_set, size_t bytes);
void pages_fini(struct pages *p);

/* Are pages filled in 16 bits, then converted? */
bool pages_are_sealed(const struct pages *p);

/**
 * pages_fill() - puts the same random tokens into every page of every set
 *
 * Return: 0, -ENOMEM, or -EDOM when the kernels refused them.
 */
int pages_fill(struct pages *p, const struct host_kernels *k);

/**
 * pages_sample() - one page of random tokens, all layers
 * @l:		its layout: of the same shape as @p's
 * @page:	l->page_bytes of the host's
 *
 * Return: as pages_fill().
 */
int pages_sample(const struct pages *p, const struct host_kernels *k,
                 const struct page_layout *l, void *page);

/* Places for @nr pages of @page_bytes, one after the other, in random order. */
void pages_shuffle(struct kv_page_ref *refs, uint32_t nr, uint32_t page_bytes);

/* The pages of set @i modulo nr_sets. */
const struct kv_page_ref *pages_set(const struct pages *p, unsigned i);

/* @n random floats, about normal, or NULL. */
float *pages_values(size_t n);

#endif
