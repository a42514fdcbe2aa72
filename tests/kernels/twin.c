/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twin.c - see twin.h.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "tests/kernels/twin.h"

static uint32_t meta_bytes(const struct side *s)
{
	return page_meta_bytes(s->format, s->is_v, s->tokens, s->dim,
			       s->v_group);
}

void twin_side(const struct side *to, const struct side *from)
{
	struct codes a = side_place(to), b = side_place(from);
	uint32_t t, d;

	memset(to->codes, 0, (size_t)to->tokens * to->row);
	for (t = 0; t < to->tokens; t++)
		for (d = 0; d < to->dim; d++)
			codes_set(&a, to->codes, t, d,
				  codes_get(&b, from->codes, t, d));
	memcpy(to->meta, from->meta, meta_bytes(from));
}

int twin_codes(const struct side *a, const struct side *b, uint32_t first,
	       uint32_t end)
{
	struct codes x = side_place(a), y = side_place(b);
	uint32_t t, d;

	for (t = first; t < end; t++)
		for (d = 0; d < a->dim; d++)
			if (codes_get(&x, a->codes, t, d) !=
			    codes_get(&y, b->codes, t, d))
				return 0;
	return 1;
}

int twin_meta(const struct side *a, const struct side *b)
{
	return !memcmp(a->meta, b->meta, meta_bytes(a));
}

struct side twin_at(const struct world *w, uint32_t page, uint32_t head,
		    int is_v)
{
	const struct kv_page_ref *r = &w->pages[page];

	return side_at(&w->layouts[r->layout],
		       w->segments[r->segment] + r->offset, WORLD_LAYER, head,
		       is_v);
}

static void layouts_init(struct world *w)
{
	uint32_t i;

	w->g.tile_order = w->s.tile_order;
	assert(!kvd_geometry_check(&w->g));
	for (i = 0; i < 2; i++)
		assert(!page_layout_init(&w->layouts[i], &w->g, 0,
					 w->s.format[i][0],
					 w->s.format[i][1]));
}

static uint64_t page_bytes(const struct world *w)
{
	return w->layouts[0].page_bytes > w->layouts[1].page_bytes ?
		       w->layouts[0].page_bytes :
		       w->layouts[1].page_bytes;
}

/* Pages lie in the same order, one for one. */
static void pages_init(struct world *twin, const struct world *w)
{
	uint32_t i;

	twin->segment_bytes = page_bytes(twin) * w->nr_pages;
	for (i = 0; i < 2; i++)
		twin->segments[i] = malloc(twin->segment_bytes);
	twin->pages = calloc(2 * w->nr_pages, sizeof(*twin->pages));
	assert(twin->segments[0] && twin->segments[1] && twin->pages);
	world_wipe(twin);
	for (i = 0; i < 2 * w->nr_pages; i++) {
		twin->pages[i] = w->pages[i];
		twin->pages[i].offset =
			w->pages[i].offset / page_bytes(w) * page_bytes(twin);
	}
}

void twin_init(struct world *twin, const struct world *w, uint32_t tile_order)
{
	uint32_t i, h;
	int v;

	*twin = *w;
	twin->s.tile_order = tile_order;
	layouts_init(twin);
	pages_init(twin, w);
	for (i = 0; i < w->nr_pages; i++)
		for (h = 0; h < w->s.nr_heads; h++)
			for (v = 0; v < 2; v++) {
				struct side to = twin_at(twin, i, h, v);
				struct side from = twin_at(w, i, h, v);

				twin_side(&to, &from);
			}
}

void twin_fini(struct world *twin)
{
	free(twin->segments[0]);
	free(twin->segments[1]);
	free(twin->pages);
}
