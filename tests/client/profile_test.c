/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile_test.c - a profile's file, and a group's part of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client-lib/profile.h"
#include "kernels/profile.h"
#include "tests/support/check.h"

#define LAYERS 4
#define HEADS  3
#define K_DIM  16
#define V_DIM  8

static char dir[] = "/tmp/kvd-profile-XXXXXX";
static char path[64];

/* Each float says where it was: part, layer, place in the layer. */
static float mark(uint32_t part, uint64_t layer, uint64_t at)
{
	return (float)(1 + part) + (float)layer / 8 + (float)at / 4096;
}

static void write_file(const void *bytes, size_t nr)
{
	FILE *f = fopen(path, "wb");

	CHECK(f && fwrite(bytes, 1, nr, f) == nr && !fclose(f), "%s", path);
}

static uint64_t make_profile(void)
{
	struct profile_shape shape = { LAYERS, HEADS, K_DIM, V_DIM };
	struct profile p;
	uint64_t digest;
	uint8_t *bytes;

	CHECK(profile_init(&p, &shape) == 0, "shape");
	for (uint32_t i = 0; i < PROFILE_NR_PARTS; i++) {
		uint64_t n = profile_part_floats(&shape, i) / LAYERS;

		for (uint64_t k = 0; k < LAYERS * n; k++)
			p.parts[i][k] = mark(i, k / n, k % n);
		/* An identity whose rows say their layer by their sign. */
		for (uint64_t k = 0; i >= PROFILE_K_ROTATION && k < LAYERS * n;
		     k++) {
			uint64_t dim = i == PROFILE_K_ROTATION ? K_DIM : V_DIM;

			p.parts[i][k] = k % n / dim == k % dim ?
				(k / n & 1 ? -1 : 1) : 0;
		}
	}
	for (int k = 0; k < LAYERS * HEADS * K_DIM; k++) {
		p.parts[PROFILE_K_ZERO][k] = (float)k;
		p.parts[PROFILE_K_RANGE][k] = (float)(k + 1);
	}
	p.parts[PROFILE_K_AMAX][0] = 0;
	bytes = malloc(profile_bytes(&p));
	profile_encode(&p, bytes);
	write_file(bytes, profile_bytes(&p));
	free(bytes);
	digest = p.digest;
	profile_fini(&p);
	return digest;
}

static void test_load(void)
{
	struct kvd_profile *p = NULL;
	char why[256] = "";

	CHECK(kvd_profile_load("/nonexistent", &p, why, sizeof(why)) ==
	      -ENOENT, "%s", why);
	CHECK(strstr(why, "/nonexistent") && strstr(why, "No such"), "%s",
	      why);
	CHECK(kvd_profile_load(dir, &p, why, sizeof(why)) == -EINVAL, "%s",
	      why);
	write_file("nothing", 7);
	CHECK(kvd_profile_load(path, &p, NULL, 0) == -EINVAL, "no text");
	CHECK(kvd_profile_load(path, &p, why, sizeof(why)) == -EINVAL &&
	      strstr(why, "is no profile"), "%s", why);
	CHECK(p == NULL, "untouched on failure");
	kvd_profile_free(NULL);
	make_profile();
	CHECK(kvd_profile_load(path, &p, why, sizeof(why)) == 0, "%s", why);
	CHECK(kvd_profile_digest(p) != 0, "a digest");
	kvd_profile_free(p);
}

static const struct kvd_geometry geometry = {
	.size = sizeof(geometry),
	.page_tokens = 32,
	.k_format = KVD_KVQUANT3,
	.v_format = KVD_KVQUANT2,
	.rope_order = KVD_ROPE_PRE,
	.nr_groups = 2,
	.groups = { { 1, 1, 0, K_DIM, V_DIM, 0, 0 },
		    { 2, 2, 1, K_DIM, V_DIM, 0, 0 } },
};

static const uint32_t layers[] = { 3, 1 };

/* Two layers of two heads of group 1, in an order of its own. */
static void test_kvquant(const struct kvd_profile *p, struct kvd_geometry *g)
{
	struct profile_tables t = PROFILE_TABLES_NULL;
	const struct kv_tables *kt = &t.tables;

	CHECK(profile_tables(p, g, 1, layers, &t) == 0, "%s", t.why);
	CHECK(kt->nr_heads == 2 && !kt->k_scale && !kt->v_scale &&
	      !kt->k_rotation && !kt->v_rotation && !kt->rope_page, "rest");
	for (int i = 0; i < 2; i++) {
		int head = (int)layers[i] * HEADS + 1;

		for (uint32_t k = 0; k < TABLES_CODES; k++) {
			uint32_t at = (uint32_t)i * TABLES_CODES + k;

			CHECK(kt->k_lut[at] == mark(profile_book(
				PROFILE_K_LUT, 3), layers[i], k), "k_lut");
			CHECK(kt->k_out[at] == mark(profile_book(
				PROFILE_K_OUT, 3), layers[i], k), "k_out");
			CHECK(kt->v_lut[at] == mark(profile_book(
				PROFILE_V_LUT, 2), layers[i], k), "v_lut");
			CHECK(kt->v_out[at] == mark(profile_book(
				PROFILE_V_OUT, 2), layers[i], k), "v_out");
		}
		for (int k = 0; k < 2 * K_DIM; k++) {
			int at = i * 2 * K_DIM + k, from = head * K_DIM + k;

			CHECK(kt->k_zero[at] == (float)from, "k_zero");
			CHECK(kt->k_range[at] == (float)(from + 1), "k_range");
		}
	}
	profile_tables_fini(&t);
	profile_tables_fini(&t);
}

static void test_scales(const struct kvd_profile *p, struct kvd_geometry *g)
{
	struct profile_tables t = PROFILE_TABLES_NULL;

	g->rope_order = KVD_ROPE_POST;
	g->k_format = KVD_FP8_E4M3;
	g->v_format = KVD_FP8_E5M2;
	CHECK(profile_tables(p, g, 0, NULL, &t) == 0, "%s", t.why);
	CHECK(t.tables.k_scale[0] == 1, "of a head that is all 0");
	CHECK(t.tables.v_scale[0] == mark(PROFILE_V_AMAX, 0, 0) / 57344,
	      "e5m2");
	profile_tables_fini(&t);
	CHECK(profile_tables(p, g, 1, layers, &t) == 0, "%s", t.why);
	CHECK(t.tables.k_scale[3] == mark(PROFILE_K_AMAX, 1, 2) / 448, "e4m3");
	CHECK(!t.tables.k_lut && !t.tables.k_zero, "nothing else");
	profile_tables_fini(&t);
	g->k_format = g->v_format = KVD_INT8;
	CHECK(profile_tables(p, g, 1, layers, &t) == 0 && !t.copies,
	      "int8 needs nothing");
}

static void test_rotations(const struct kvd_profile *p,
			   struct kvd_geometry *g)
{
	struct profile_tables t = PROFILE_TABLES_NULL;

	g->k_format = g->v_format = KVD_OSCAR2;
	CHECK(profile_tables(p, g, 1, NULL, &t) == 0, "%s", t.why);
	CHECK(t.tables.k_rotation[K_DIM + 1] == 1 &&
	      t.tables.k_rotation[K_DIM * K_DIM] == -1, "K");
	CHECK(t.tables.v_rotation[V_DIM + 1] == 1 &&
	      t.tables.v_rotation[V_DIM * V_DIM] == -1, "V");
	profile_tables_fini(&t);
}

static void refused(const struct kvd_profile *p, const struct kvd_geometry *g,
		    const uint32_t *l, const char *word)
{
	struct profile_tables t = PROFILE_TABLES_NULL;

	CHECK(profile_tables(p, g, 1, l, &t) == -EINVAL, "%s", word);
	CHECK(t.why && strstr(t.why, word) && !t.copies, "%s", t.why);
}

static void test_refused(const struct kvd_profile *p)
{
	struct kvd_geometry g = geometry;
	static const uint32_t far[] = { 0, LAYERS };

	refused(p, &g, layers, "geometry.profile");
	g.profile = kvd_profile_digest(p);
	refused(p, &g, far, "fewer layers");
	g.groups[1].head_first = 2;
	refused(p, &g, layers, "fewer kv heads");
	g.groups[1].head_first = UINT32_MAX - 2;
	refused(p, &g, layers, "fewer kv heads");
	g = geometry;
	g.profile = kvd_profile_digest(p);
	g.groups[1].v_dim = 16;
	refused(p, &g, layers, "v_dim");
}

int main(void)
{
	struct kvd_geometry g = geometry;
	struct kvd_profile *p;
	char why[256];

	CHECK(mkdtemp(dir), "%s", dir);
	snprintf(path, sizeof(path), "%s/profile", dir);
	test_load();
	g.profile = make_profile();
	CHECK(kvd_profile_load(path, &p, why, sizeof(why)) == 0, "%s", why);
	test_kvquant(p, &g);
	test_scales(p, &g);
	test_rotations(p, &g);
	test_refused(p);
	kvd_profile_free(p);
	unlink(path);
	rmdir(dir);
	return 0;
}
