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

static int layouts_init(struct pages *p, const struct pages_shape *shape)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = shape->page_tokens,
		.k_format = shape->k_format,
		.v_format = shape->v_format,
		.tile_order = shape->tile_order,
		.rope_order = format_coding(shape->k_format) == CODING_KVQUANT
		                      ? KVD_ROPE_PRE
		                      : KVD_ROPE_POST,
		.nr_groups = 1,
		.profile = format_needs_profile(shape->k_format) ||
		           format_needs_profile(shape->v_format),
		.groups = { { .nr_layers = shape->nr_layers ? shape->nr_layers
		                                            : 1,
		              .nr_kv_heads = shape->kv_heads,
		              .k_dim = shape->dim,
		              .v_dim = shape->dim } },
	};
	const char *err = kvd_geometry_check(&g);

	if (err)
		return complain(-EINVAL, err);
	if (page_layout_class(&p->open, &g, 0) ||
	    page_layout_class(&p->layout, &g, geometry_sealed_class(&g, 0)) ||
	    page_layout_init(&p->source, &g, 0, KVD_F16, KVD_F16))
		return complain(-EINVAL, "a page would be too large");
	return 0;
}

void pages_shuffle(struct kv_page_ref *refs, uint32_t nr, uint32_t page_bytes)
{
	uint32_t state = 1, i, j;

	for (i = 0; i < nr; i++) {
		j = random_next(&state) % (i + 1);
		refs[i].offset = refs[j].offset;
		refs[j].offset = (uint64_t)i * page_bytes;
	}
}

int pages_plan(struct pages *p, const struct pages_shape *shape,
               uint32_t tokens)
{
	int err = layouts_init(p, shape);

	if (err)
		return err;
	err = synth_init(&p->synth, &p->layout, tokens);
	return err ? complain(err, strerror(-err)) : 0;
}

int pages_init(struct pages *p, const struct pages_shape *shape,
               uint64_t per_set, size_t bytes)
{
	size_t set_bytes;
	int err = layouts_init(p, shape);

	if (err)
		return err;
	if (per_set > MAX_PAGES)
		return complain(-EINVAL, "too many tokens");
	set_bytes = (size_t)p->layout.page_bytes * per_set;
	p->per_set = (unsigned)per_set;
	p->nr_sets = (unsigned)((bytes + set_bytes - 1) / set_bytes);
	if (p->nr_sets < MIN_SETS)
		p->nr_sets = MIN_SETS;
	p->refs = calloc((size_t)p->nr_sets * p->per_set, sizeof(*p->refs));
	err = p->refs ? memory_init(&p->mem, set_bytes * p->nr_sets) : -ENOMEM;
	if (!err)
		err = synth_init(&p->synth, &p->layout,
		                 p->per_set * p->layout.page_tokens);
	if (err)
		return complain(err, strerror(-err));
	pages_shuffle(p->refs, p->nr_sets * p->per_set, p->layout.page_bytes);
	return 0;
}

void pages_fini(struct pages *p)
{
	free(p->refs);
	synth_fini(&p->synth);
	memory_fini(&p->mem);
	*p = (struct pages)PAGES_NULL;
}

bool pages_are_sealed(const struct pages *p)
{
	return kvd_formats_whole(p->layout.k_format, p->layout.v_format);
}

/* Rows of one page, into a page at @ref of layout @l. Return: 1: refused. */
static int fill_page(const struct pages *p, const struct host_kernels *k,
                     const struct page_layout *l, void *const *bases,
                     const struct kv_page_ref *ref, const float *rows)
{
	uint32_t bad = 0;
	const struct kv_seq seq = { .nr_rows = l->page_tokens };
	struct kv_append_args a = {
		.layouts = { *l },
		.bases = bases,
		.pages = ref,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = l->page_tokens,
		.k = rows,
		.v = rows,
		.k_stride = (uint64_t)l->nr_heads * l->k_dim,
		.v_stride = (uint64_t)l->nr_heads * l->v_dim,
		.tables = &p->synth.tables,
		.nonfinite = &bad,
	};

	for (; a.layer < l->nr_layers; a.layer++)
		k->append(&a);
	return bad != 0;
}

/* Where fill() puts pages. */
struct places {
	void *base;
	const struct kv_page_ref *refs;
	uint32_t nr;
};

/* An open page is filled, then sealed everywhere. Return: 1: refused. */
static int seal_all(const struct pages *p, const struct host_kernels *k,
                    const float *rows, const struct places *at, void *open)
{
	const struct kv_page_ref from = { .segment = 1 };
	void *const bases[] = { at->base, open };
	struct kv_convert_page page = { .from = from,
		                        .nr_tokens = p->layout.page_tokens };
	uint32_t bad = 0, i;
	const struct kv_convert_args a = {
		.layouts = { p->open, p->layout },
		.bases = bases,
		.pages = &page,
		.nr_pages = 1,
		.nr_layers = p->layout.nr_layers,
		.tables = &p->synth.tables,
		.nonfinite = &bad,
	};

	bad = fill_page(p, k, &p->open, bases, &from, rows);
	for (i = 0; i < at->nr; i++) {
		page.to = at->refs[i];
		page.to.layout = 1;
		k->convert(&a);
	}
	return bad != 0;
}

/* Pages of layout @l of @p. Return: 0, -ENOMEM or -EDOM. */
static int fill(const struct pages *p, const struct host_kernels *k,
                const struct page_layout *l, const struct places *at)
{
	float *rows =
		pages_values((size_t)l->page_tokens * l->nr_heads * l->k_dim);
	void *open = malloc(p->open.page_bytes), *const bases[] = { at->base };
	int err = rows && open ? 0 : -ENOMEM, bad = 0;
	uint32_t i;

	if (!err && kvd_formats_whole(l->k_format, l->v_format))
		bad = seal_all(p, k, rows, at, open);
	else if (!err)
		for (i = 0; i < at->nr; i++)
			bad |= fill_page(p, k, l, bases, &at->refs[i], rows);
	free(rows);
	free(open);
	return bad ? -EDOM : err;
}

int pages_fill(struct pages *p, const struct host_kernels *k)
{
	const struct places at = { p->mem.base, p->refs,
		                   p->nr_sets * p->per_set };

	return fill(p, k, &p->layout, &at);
}

int pages_sample(const struct pages *p, const struct host_kernels *k,
                 const struct page_layout *l, void *page)
{
	const struct kv_page_ref first = { .offset = 0 };
	const struct places at = { page, &first, 1 };

	memset(page, 0, l->page_bytes);
	return fill(p, k, l, &at);
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
