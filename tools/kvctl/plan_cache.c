// SPDX-License-Identifier: Apache-2.0
/*
 * plan_cache.c - bytes of keys and values, from the pages kvd would allocate.
 */
#include <errno.h>
#include "tools/kvctl/plan_cache.h"

#define MAX_CONTEXT  (1u << 28)
#define SOME_PROFILE 1u /* sizes do not depend on which */

const char *const plan_ladder[] = {
	"f16",     "fp8",      "int8",     "kvarn44",  "kivi4",   "int4h",
	"int4",    "kvquant4", "kvarn33",  "kvquant3", "kvarn42", "kivi2",
	"kvarn22", "oscar2",   "kvquant2", NULL,
};

static void add_group(struct kvd_geometry *g, const struct plan_model *m,
                      const struct plan_pages *pages, uint32_t nr_layers,
                      uint32_t window)
{
	if (!nr_layers)
		return;
	g->groups[g->nr_groups++] = (struct kvd_group){
		.nr_layers = nr_layers,
		.nr_kv_heads = (m->nr_kv_heads + pages->tp - 1) / pages->tp,
		.k_dim = m->head_dim,
		.v_dim = m->head_dim,
		.window = window,
	};
}

static void geometry_init(struct kvd_geometry *g, const struct plan_model *m,
                          const struct plan_pages *pages)
{
	*g = (struct kvd_geometry){
		.size = sizeof(*g),
		.page_tokens = pages->page_tokens,
		.exact_pages = pages->exact_pages,
		.v_group = pages->v_group,
	};
	add_group(g, m, pages, m->nr_layers - m->nr_window_layers, 0);
	add_group(g, m, pages, m->nr_window_layers, m->window);
}

/* What to expect of a format, in a few words. */
static const char *note_of(uint32_t k, uint32_t v)
{
	uint32_t bits = format_bits(v) < format_bits(k) ? format_bits(v)
	                                                : format_bits(k);

	if (format_needs_profile(k) || format_needs_profile(v))
		return bits >= 4 ? "needs a profile: kvctl calibrate"
		                 : "needs a profile: kvctl calibrate; lossy";
	if (bits == 16)
		return "exact";
	if (k == KVD_INT8 && v == KVD_INT8)
		return "8 bits: nearly lossless";
	if (bits == 8)
		return "8 bits: low risk; 3 bits of mantissa";
	if (k == KVD_INT4)
		return "4 bits: keys with outlier channels suffer";
	if (bits == 4)
		return "4 bits: small loss, built for key outliers";
	if (k != v && format_bits(k) > bits)
		return "fewer bits for values: measure the loss";
	return bits == 3 ? "3 bits: measure the loss"
	                 : "2 bits: for capacity; measure the loss";
}

/* Of the pages of @group, in the formats of its sealed or its first class. */
static uint64_t page_bytes(const struct plan_cache *c, uint32_t group,
                           bool sealed)
{
	struct page_layout l;
	uint32_t class = sealed ? geometry_sealed_class(&c->geometry, group)
	                        : group;

	return page_layout_class(&l, &c->geometry, class) ? 0 : l.page_bytes;
}

static uint64_t group_elements(const struct kvd_group *g)
{
	return (uint64_t)g->nr_layers * g->nr_kv_heads * (g->k_dim + g->v_dim);
}

static int is_whole(const struct plan_cache *c)
{
	return kvd_formats_whole(c->geometry.k_format, c->geometry.v_format);
}

static void measure(struct plan_cache *c)
{
	const struct kvd_geometry *g = &c->geometry;
	uint64_t page, pages = 0, elements = 0, grow = 0;
	uint32_t i;

	for (i = 0; i < g->nr_groups; i++) {
		page = page_bytes(c, i, true);
		pages += page;
		if (!g->groups[i].window)
			grow += page;
		elements += group_elements(&g->groups[i]);
		if (is_whole(c))
			c->open_bytes += page_bytes(c, i, false) * (1 + c->lag);
	}
	c->token_bytes = pages / g->page_tokens;
	c->grow_bytes = grow / g->page_tokens;
	c->bits = (double)pages * 8 / ((double)elements * g->page_tokens);
}

int plan_cache_init(struct plan_cache *c, const struct plan_model *m,
                    const struct plan_pages *pages, const char *name)
{
	uint32_t k, v;

	if (kvd_formats_parse(name, &k, &v))
		return -EINVAL;
	*c = (struct plan_cache){ .note = note_of(k, v) };
	kvd_formats_name(k, v, c->name);
	geometry_init(&c->geometry, m, pages);
	c->geometry.k_format = k;
	c->geometry.v_format = v;
	c->needs_profile = format_needs_profile(k) || format_needs_profile(v);
	c->geometry.profile = c->needs_profile ? SOME_PROFILE : 0;
	if (format_coding(k) == CODING_KVQUANT)
		c->geometry.rope_order = KVD_ROPE_PRE;
	c->lag = is_whole(c) && kvd_formats_lag(k, v);
	c->refused = kvd_geometry_check(&c->geometry);
	if (!c->refused)
		measure(c);
	return 0;
}

/* Pages that @window tokens can touch, or that all do. */
static uint64_t pages_held(const struct kvd_geometry *g, uint32_t window,
                           uint64_t pages)
{
	uint64_t most =
		((uint64_t)window + g->page_tokens - 2) / g->page_tokens + 1;

	return window && most < pages ? most : pages;
}

static uint64_t group_bytes(const struct plan_cache *c, uint32_t i,
                            uint64_t tokens)
{
	const struct kvd_geometry *g = &c->geometry;
	uint64_t all = (tokens + g->page_tokens - 1) / g->page_tokens;
	uint64_t held, exact = 0, open = 0;

	if (is_whole(c)) {
		all = tokens / g->page_tokens + 1;
		open = 1;
	}
	held = pages_held(g, g->groups[i].window, all);
	if (held == all) /* else the first ones have left the window */
		exact = g->exact_pages < all - open ? g->exact_pages
		                                    : all - open;
	held -= open + exact;
	if (c->lag && all - open > exact) /* its newest full page, again */
		open++;
	return held * page_bytes(c, i, true) +
	       (open + exact) * page_bytes(c, i, false);
}

uint64_t plan_sequence_bytes(const struct plan_cache *c, uint64_t tokens)
{
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < c->geometry.nr_groups; i++)
		bytes += group_bytes(c, i, tokens);
	return bytes;
}

uint64_t plan_sealed_bytes(const struct plan_cache *c, uint64_t tokens)
{
	const struct kvd_geometry *g = &c->geometry;
	uint64_t all = (tokens + g->page_tokens - 1) / g->page_tokens;
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < g->nr_groups; i++)
		bytes += pages_held(g, g->groups[i].window, all) *
		         page_bytes(c, i, true);
	return bytes;
}

uint64_t plan_tokens_fit(const struct plan_cache *c, uint64_t bytes,
                         uint64_t context)
{
	uint64_t page = c->geometry.page_tokens;
	uint64_t whole = (context + page - 1) / page;
	unsigned __int128 pages = (unsigned __int128)bytes * whole /
	                          plan_sealed_bytes(c, context);

	return (uint64_t)pages * page;
}

uint64_t plan_context_fit(const struct plan_cache *c, uint64_t bytes,
                          uint64_t nr)
{
	uint64_t low = 0, high = MAX_CONTEXT;

	while (low < high) {
		uint64_t middle = (low + high + 1) / 2;

		if (plan_sequence_bytes(c, middle) <= bytes / nr)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}
