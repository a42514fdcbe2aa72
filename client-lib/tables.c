// SPDX-License-Identifier: Apache-2.0
/* tables.c - what kernels need to know besides pages: profile and RoPE. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/error.h"
#include "client-lib/space.h"
#include "client-lib/tables.h"

static int rope_check(const struct kvd_space *sp)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;
	const struct kvd_rope *rope = &sp->opts.rope;

	if (geo->rope_order != KVD_ROPE_PRE)
		return 0;
	if (!rope->freq || !rope->nr_pairs)
		return fail(sp->k, -EINVAL, "rope is missing: keys stored "
			    "before RoPE are rotated by the library");
	for (uint32_t g = 0; g < geo->nr_groups; g++)
		if (rope->nr_pairs > geo->groups[g].k_dim / 2)
			return fail(sp->k, -EINVAL, "rope has %u pairs, keys "
				    "of group %u have %u elements",
				    rope->nr_pairs, g, geo->groups[g].k_dim);
	for (uint32_t i = 0; i < rope->nr_pairs; i++)
		if (!isfinite(rope->freq[i]))
			return fail(sp->k, -EINVAL, "rope: frequency %u is no "
				    "number", i);
	return 0;
}

/* Cosines, then sines, of every pair at position @pos. */
static void rope_row(const struct kvd_space *sp, double pos, float *out)
{
	uint32_t nr = sp->opts.rope.nr_pairs;

	for (uint32_t i = 0; i < nr; i++) {
		double angle = pos * sp->tables.freq[i];

		out[i] = (float)cos(angle);
		out[nr + i] = (float)sin(angle);
	}
}

static int rope_init(struct kvd_space *sp)
{
	struct tables *t = &sp->tables;
	uint32_t nr = sp->opts.rope.nr_pairs, tokens = space_page_tokens(sp);

	if (sp->opts.geometry.rope_order != KVD_ROPE_PRE)
		return 0;
	t->freq = malloc(nr * sizeof(*t->freq));
	t->rope_token = malloc(2ULL * nr * tokens * sizeof(float));
	if (!t->freq || !t->rope_token)
		return -ENOMEM;
	memcpy(t->freq, sp->opts.rope.freq, nr * sizeof(*t->freq));
	sp->opts.rope.freq = t->freq;
	for (uint32_t i = 0; i < tokens; i++)
		rope_row(sp, i, t->rope_token + 2ULL * nr * i);
	return 0;
}

/* Angles of pages below @pages. */
static int rope_grow(struct kvd_space *sp, uint32_t pages)
{
	struct tables *t = &sp->tables;
	uint64_t row = 2ULL * sp->opts.rope.nr_pairs;
	uint32_t room = pages + pages / 2 + 16;
	float *p;

	if (pages <= t->nr_rope_pages)
		return 0;
	p = realloc(t->rope_page, row * room * sizeof(float));
	if (!p)
		return -ENOMEM;
	t->rope_page = p;
	for (uint32_t i = t->nr_rope_pages; i < room; i++)
		rope_row(sp, (double)i * space_page_tokens(sp), p + row * i);
	t->nr_rope_pages = room;
	return 0;
}

static int profile_check(const struct kvd_space *sp)
{
	uint64_t want = sp->opts.geometry.profile;
	const struct kvd_profile *p = sp->opts.profile;

	if (!want && p)
		return fail(sp->k, -EINVAL, "geometry.profile is 0, but there "
			    "is a profile: set it to kvd_profile_digest()");
	if (want && !p)
		return fail(sp->k, -EINVAL, "geometry.profile names a "
			    "profile that is not given");
	if (p && kvd_profile_digest(p) != want)
		return fail(sp->k, -EINVAL, "the profile is not the one that "
			    "geometry.profile names");
	return 0;
}

/* The groups' layers in the profile, group after group: 0, 1, 2, ... */
static uint32_t *layers_in_order(const struct kvd_geometry *geo)
{
	uint32_t nr = 0, *layers;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		nr += geo->groups[g].nr_layers;
	layers = malloc(nr * sizeof(*layers));
	for (uint32_t i = 0; layers && i < nr; i++)
		layers[i] = i;
	return layers;
}

static int profile_groups(struct kvd_space *sp, const uint32_t *layers)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;
	int r = 0;

	for (uint32_t g = 0; !r && g < geo->nr_groups; g++) {
		struct profile_tables *t = &sp->tables.profile[g];

		r = profile_tables(sp->opts.profile, geo, g, layers, t);
		if (r)
			fail(sp->k, r, "profile: %s",
			     r == -EINVAL ? t->why : "out of memory");
		layers += geo->groups[g].nr_layers;
	}
	return r;
}

static int profile_init(struct kvd_space *sp)
{
	uint32_t *own = NULL;
	int r;

	if (!sp->opts.profile)
		return 0;
	if (!sp->opts.layers) {
		own = layers_in_order(&sp->opts.geometry);
		if (!own)
			return fail(sp->k, -ENOMEM, "out of memory");
	}
	r = profile_groups(sp, own ? own : sp->opts.layers);
	free(own);
	return r;
}

int tables_init(struct kvd_space *sp)
{
	int r = rope_check(sp);

	if (!r)
		r = profile_check(sp);
	if (!r)
		r = profile_init(sp);
	if (!r && rope_init(sp))
		r = fail(sp->k, -ENOMEM, "out of memory");
	if (r)
		tables_fini(&sp->tables);
	sp->opts.layers = NULL;
	return r;
}

void tables_fini(struct tables *t)
{
	for (uint32_t g = 0; g < KVD_MAX_GROUPS; g++)
		profile_tables_fini(&t->profile[g]);
	free(t->freq);
	free(t->rope_token);
	free(t->rope_page);
	*t = (struct tables){ .freq = NULL };
}

int tables_get(struct kvd_space *sp, uint32_t group, uint32_t tokens,
	       const struct kv_tables **ret)
{
	struct kv_tables *t = &sp->tables.profile[group].tables;
	uint32_t pt = space_page_tokens(sp);

	*ret = NULL;
	if (sp->opts.geometry.rope_order == KVD_ROPE_PRE) {
		if (rope_grow(sp, tokens / pt + 1))
			return fail(sp->k, -ENOMEM, "out of memory");
		t->rope_page = sp->tables.rope_page;
		t->rope_pages = sp->tables.nr_rope_pages;
		t->rope_token = sp->tables.rope_token;
		t->rope_pairs = sp->opts.rope.nr_pairs;
		t->rope_interleaved = sp->opts.rope.interleaved;
	} else if (!sp->opts.profile) {
		return 0;
	}
	*ret = t;
	return 0;
}
