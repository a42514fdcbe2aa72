/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - see pages.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/pages.h"

#define MIN_SETS  2
#define MAX_PAGES (1u << 22)

/* The same numbers in every run. */
static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static int complain(int err, const char *what)
{
	fprintf(stderr, "kvbench: %s\n", what);
	return err;
}

static int layout_init(struct page_layout *l, const struct pages_shape *shape)
{
	const struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = shape->page_tokens,
		.k_format = shape->format,
		.v_format = shape->format,
		.nr_groups = 1,
		.groups = { { .nr_layers = 1,
		              .nr_kv_heads = shape->kv_heads,
		              .k_dim = shape->dim,
		              .v_dim = shape->dim } },
	};
	const char *err = kvd_geometry_check(&g);

	if (err)
		return complain(-EINVAL, err);
	return page_layout_init(l, &g, 0, shape->format, shape->format);
}

/* Every page a place of its own, in random order. */
static void refs_init(struct pages *p)
{
	uint32_t state = 1, i, j;

	for (i = 0; i < p->nr_sets * p->per_set; i++) {
		j = random_next(&state) % (i + 1);
		p->refs[i].offset = p->refs[j].offset;
		p->refs[j].offset = (uint64_t)i * p->layout.page_bytes;
	}
}

int pages_init(struct pages *p, const struct pages_shape *shape,
               uint64_t per_set)
{
	size_t set_bytes, cold = memory_cold_bytes();
	int err = layout_init(&p->layout, shape);

	if (err)
		return err;
	if (per_set > MAX_PAGES)
		return complain(-EINVAL, "too many tokens");
	set_bytes = (size_t)p->layout.page_bytes * per_set;
	p->per_set = (unsigned)per_set;
	p->nr_sets = (unsigned)((cold + set_bytes - 1) / set_bytes);
	if (p->nr_sets < MIN_SETS)
		p->nr_sets = MIN_SETS;
	p->refs = calloc((size_t)p->nr_sets * p->per_set, sizeof(*p->refs));
	err = p->refs ? memory_init(&p->mem, set_bytes * p->nr_sets) : -ENOMEM;
	if (err)
		return complain(err, strerror(-err));
	refs_init(p);
	return 0;
}

void pages_fini(struct pages *p)
{
	free(p->refs);
	memory_fini(&p->mem);
	*p = (struct pages)PAGES_NULL;
}

const struct kv_page_ref *pages_set(const struct pages *p, unsigned i)
{
	return p->refs + (size_t)(i % p->nr_sets) * p->per_set;
}

float *pages_values(size_t n)
{
	float *v = malloc(n * sizeof(*v));
	uint32_t state = 7;
	size_t i;

	for (i = 0; v && i < n; i++) {
		int32_t a = random_next(&state) & 0xffff;
		int32_t b = random_next(&state) & 0xffff;

		v[i] = (float)(a - b) * 0x1p-15f;
	}
	return v;
}
