// SPDX-License-Identifier: Apache-2.0
/*
 * profile.c - any bytes as a calibration profile, and tables made of it.
 *
 * Changed bytes would all be stopped by the digest, so that is set right in a
 * second round. What can be read is asked for tables of every format.
 */
#include <stdlib.h>
#include <string.h>
#include <kvd/geometry.h>
#include "client-lib/profile.h"
#include "kernels/profile.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"
#include <xxhash.h>

#define DIGEST_AT 16
#define HASHED_AT 24

/* A group of what the profile says, or of a little more. */
static struct kvd_geometry geometry_of(const struct profile *p, uint64_t bits)
{
	const struct profile_shape *s = &p->shape;
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = 64,
		.nr_groups = 1,
		.profile = p->digest,
	};

	g.groups[0] = (struct kvd_group){
		.nr_layers = 1 + bits % 5 % (s->nr_layers + 1),
		.nr_kv_heads = 1 + (bits >> 8) % (s->nr_heads + 1),
		.head_first = (uint32_t)((bits >> 16) % (s->nr_heads + 1)),
		.k_dim = s->k_dim,
		.v_dim = s->v_dim,
	};
	return g;
}

static float sum(const float *x, uint64_t nr)
{
	float s = 0;

	for (uint64_t i = 0; x && i < nr; i++)
		s += x[i];
	return s;
}

static volatile float sink;

/* Reads all that a kernel may. */
static void read_tables(const struct kv_tables *t, const struct kvd_group *g)
{
	uint64_t n = g->nr_layers, heads = n * g->nr_kv_heads;
	float s = 0;

	s += sum(t->k_scale, heads) + sum(t->v_scale, heads);
	s += sum(t->k_zero, heads * g->k_dim) + sum(t->k_range,
						     heads * g->k_dim);
	s += sum(t->k_lut, n * TABLES_CODES) + sum(t->k_out, n * TABLES_CODES);
	s += sum(t->v_lut, n * TABLES_CODES) + sum(t->v_out, n * TABLES_CODES);
	s += sum(t->k_rotation, n * g->k_dim * g->k_dim);
	s += sum(t->v_rotation, n * g->v_dim * g->v_dim);
	sink = s;
}

static void ask_tables(const struct kvd_profile *p, struct kvd_geometry *g,
		       uint64_t bits)
{
	uint32_t layers[5];

	for (uint32_t i = 0; i < 5; i++)
		layers[i] = (uint32_t)(bits >> (24 + 4 * i)) & 15;
	for (uint32_t f = 0; f < KVD_NR_FORMATS; f++) {
		struct profile_tables t = PROFILE_TABLES_NULL;

		g->k_format = f;
		g->v_format = (f + (uint32_t)(bits >> 44)) % KVD_NR_FORMATS;
		if (profile_tables(p, g, 0, bits >> 60 & 1 ? layers : NULL,
				   &t) < 0)
			continue;
		read_tables(&t.tables, &g->groups[0]);
		profile_tables_fini(&t);
	}
}

/* The file as a library sees it; @p is the same, of which all is known. */
static void load(const uint8_t *data, size_t size, const struct profile *p)
{
	static struct fuzz_file file;
	uint64_t bits = XXH3_64bits(data, size);
	struct kvd_geometry g;
	struct kvd_profile *lib;
	char why[256];
	int r = kvd_profile_load(fuzz_file_put(&file, data, size), &lib, why,
				 sizeof(why));

	CHECK((r == 0) == (p != NULL), "read in one way only: %d", r);
	if (r < 0)
		return;
	CHECK(kvd_profile_digest(lib) == p->digest, "two digests");
	g = geometry_of(p, bits);
	ask_tables(lib, &g, bits);
	kvd_profile_free(lib);
}

static int decode(const uint8_t *data, size_t size, struct profile *ret)
{
	uint8_t *copy = malloc(size ? size : 1);
	const char *why = NULL;
	int r;

	CHECK(copy, "out of memory");
	memcpy(copy, data, size);
	r = profile_decode(copy, size, ret, &why);
	CHECK(r == 0 || why, "refused without a word");
	free(copy);
	return r;
}

static void one(const uint8_t *data, size_t size)
{
	struct profile p = PROFILE_NULL;

	if (decode(data, size, &p) < 0) {
		if (size % 16 == 0) /* of refusals one in a few by file */
			load(data, size, NULL);
		return;
	}
	load(data, size, &p);
	profile_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t digest;
	uint8_t *copy;

	if (size < HASHED_AT) {
		one(data, size);
		return 0;
	}
	copy = malloc(size);
	CHECK(copy, "out of memory");
	memcpy(copy, data, size);
	if (size % 8 == 0)
		one(copy, size);
	digest = XXH3_64bits_withSeed(copy + HASHED_AT, size - HASHED_AT,
				      PROFILE_VERSION);
	digest = digest ? digest : 1;
	memcpy(copy + DIGEST_AT, &digest, sizeof(digest));
	one(copy, size);
	free(copy);
	return 0;
}
