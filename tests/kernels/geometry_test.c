/* SPDX-License-Identifier: Apache-2.0 */
/*
 * geometry_test.c - checks, names, fingerprint and page layouts.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/page.h"

static const struct kvd_geometry good = {
	.size = sizeof(good),
	.page_tokens = 64,
	.k_format = KVD_INT8,
	.v_format = KVD_F16,
	.nr_groups = 2,
	.groups = {
		{ .nr_layers = 24, .nr_kv_heads = 8, .k_dim = 128, .v_dim = 128 },
		{ .nr_layers = 8, .nr_kv_heads = 1, .k_dim = 576, .window = 512 },
	},
};

static void test_good(void **state)
{
	struct kvd_geometry g = good;

	assert_null(kvd_geometry_check(&g));
	g.nr_groups = 1;
	memset(&g.groups[1], 0xff, sizeof(g.groups[1]));
	assert_null(kvd_geometry_check(&g));
}

/* Each field out of range alone is refused, by a text that names it. */
static void test_bad(void **state)
{
	static const struct {
		size_t offset;
		uint32_t value;
		const char *names;
	} bad[] = {
		{ offsetof(struct kvd_geometry, size), 0, "size" },
		{ offsetof(struct kvd_geometry, page_tokens), 48, "page_tokens" },
		{ offsetof(struct kvd_geometry, page_tokens), 0, "page_tokens" },
		{ offsetof(struct kvd_geometry, page_tokens), 256, "page_tokens" },
		{ offsetof(struct kvd_geometry, k_format), KVD_NR_FORMATS, "k_format" },
		{ offsetof(struct kvd_geometry, v_format), KVD_NR_FORMATS, "v_format" },
		{ offsetof(struct kvd_geometry, rope_order), KVD_NR_ROPE_ORDERS, "rope_order" },
		{ offsetof(struct kvd_geometry, tile_order), KVD_NR_TILE_ORDERS, "tile_order" },
		{ offsetof(struct kvd_geometry, open_format), KVD_INT8, "open_format" },
		{ offsetof(struct kvd_geometry, exact_pages), 17, "exact_pages" },
		{ offsetof(struct kvd_geometry, v_group), 48, "v_group" },
		{ offsetof(struct kvd_geometry, k_format), KVD_OSCAR2, "calibrate" },
		{ offsetof(struct kvd_geometry, groups[1].exact), 2, "exact" },
		{ offsetof(struct kvd_geometry, nr_groups), 0, "nr_groups" },
		{ offsetof(struct kvd_geometry, nr_groups), 9, "nr_groups" },
		{ offsetof(struct kvd_geometry, nr_groups), UINT32_MAX, "nr_groups" },
		{ offsetof(struct kvd_geometry, groups[1].nr_layers), 0, "nr_layers" },
		{ offsetof(struct kvd_geometry, groups[1].nr_layers), 513, "nr_layers" },
		{ offsetof(struct kvd_geometry, groups[1].nr_kv_heads), 0, "nr_kv_heads" },
		{ offsetof(struct kvd_geometry, groups[1].nr_kv_heads), 513, "nr_kv_heads" },
		{ offsetof(struct kvd_geometry, groups[1].head_first), UINT32_MAX, "head_first" },
		{ offsetof(struct kvd_geometry, groups[1].k_dim), 0, "k_dim" },
		{ offsetof(struct kvd_geometry, groups[1].k_dim), 100, "k_dim" },
		{ offsetof(struct kvd_geometry, groups[1].k_dim), 1032, "k_dim" },
		{ offsetof(struct kvd_geometry, groups[1].k_dim), UINT32_MAX - 7, "k_dim" },
		{ offsetof(struct kvd_geometry, groups[1].v_dim), 4, "v_dim" },
		{ offsetof(struct kvd_geometry, groups[1].v_dim), 1032, "v_dim" },
	};
	unsigned i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct kvd_geometry g = good;
		const char *err;

		memcpy((char *)&g + bad[i].offset, &bad[i].value, 4);
		err = kvd_geometry_check(&g);
		assert_non_null(err);
		assert_non_null(strstr(err, bad[i].names));
	}
}

static void test_too_big(void **state)
{
	struct kvd_geometry g = good;
	struct page_layout l;

	g.groups[0].nr_layers = KVD_MAX_LAYERS;
	g.groups[0].nr_kv_heads = KVD_MAX_HEADS;
	assert_non_null(strstr(kvd_geometry_check(&g), "64 MiB"));
	assert_int_equal(page_layout_init(&l, &g, 0, KVD_F16, KVD_F16), -E2BIG);
	g = good;
	assert_int_equal(page_layout_init(&l, &g, 2, KVD_F16, KVD_F16), -EINVAL);
	assert_int_equal(page_layout_init(&l, &g, 0, KVD_NR_FORMATS, KVD_F16), -EINVAL);
	assert_int_equal(page_layout_init(&l, &g, 0, KVD_F16, KVD_NR_FORMATS), -EINVAL);
}

/* Every field counts, and nothing past the groups in use. */
static void test_fingerprint(void **state)
{
	uint64_t was = kvd_geometry_fingerprint(&good);
	size_t i, used = offsetof(struct kvd_geometry, groups[2]) / 4;
	struct kvd_geometry g;

	assert_int_equal(was, 0xc4490797cf22288d);
	for (i = 1; i < used; i++) {
		uint32_t f;

		if (i == offsetof(struct kvd_geometry, nr_groups) / 4)
			continue;
		g = good;
		memcpy(&f, (char *)&g + 4 * i, 4);
		f++;
		memcpy((char *)&g + 4 * i, &f, 4);
		assert_int_not_equal(kvd_geometry_fingerprint(&g), was);
	}
	g = good;
	g.groups[2].k_dim = 5;
	assert_int_equal(kvd_geometry_fingerprint(&g), was);
}

/* Smaller formats of one basis, and a class for each group that has any. */
static void test_demotion(void **state)
{
	struct kvd_geometry g = good;
	struct page_layout l, d;
	uint32_t c, k, v;

	g.k_format = g.v_format = KVD_INT8;
	g.groups[1].exact = 1;
	assert_null(kvd_geometry_check(&g));
	assert_int_equal(geometry_demoted_class(&g, 0), PAGE_NO_CLASS);
	c = geometry_nr_classes(&g);
	g.demote_k = g.demote_v = KVD_INT4;
	assert_null(kvd_geometry_check(&g));
	assert_int_equal(geometry_nr_classes(&g), c + 1);
	assert_int_equal(geometry_demoted_class(&g, 0), c);
	assert_int_equal(geometry_demoted_class(&g, 1), PAGE_NO_CLASS);
	assert_int_equal(geometry_class_group(&g, c), 0);
	geometry_class_formats(&g, c, &k, &v);
	assert_int_equal(k, KVD_INT4);
	assert_int_equal(v, KVD_INT4);
	assert_int_equal(page_layout_class(&l, &g, geometry_sealed_class(&g, 0)), 0);
	assert_int_equal(page_layout_class(&d, &g, c), 0);
	assert_true(d.page_bytes < l.page_bytes);

	g.demote_v = 0; /* one alone */
	assert_non_null(strstr(kvd_geometry_check(&g), "demote_k"));
	g.demote_k = g.demote_v = KVD_INT4H; /* another basis */
	assert_non_null(strstr(kvd_geometry_check(&g), "basis"));
	g.demote_k = g.demote_v = KVD_FP8_E4M3;
	assert_non_null(strstr(kvd_geometry_check(&g), "fp8"));
	g.demote_k = g.demote_v = KVD_INT8;
	assert_non_null(strstr(kvd_geometry_check(&g), "no smaller"));
	g.demote_k = KVD_NR_FORMATS;
	assert_non_null(strstr(kvd_geometry_check(&g), "demote_k"));
}

static void test_names(void **state)
{
	uint32_t f;

	for (f = 0; f < KVD_NR_FORMATS; f++)
		assert_int_equal(kvd_format_parse(kvd_format_name(f)), f);
	assert_string_equal(kvd_format_name(KVD_NR_FORMATS), "?");
	assert_int_equal(kvd_format_parse("?"), -EINVAL);
	assert_int_equal(kvd_format_parse(""), -EINVAL);
	assert_int_equal(kvd_format_parse("f16 "), -EINVAL);
}

/* Sizes worked out by hand: 64 tokens, D 128. */
static void test_layout(void **state)
{
	struct page_layout l;

	assert_int_equal(page_layout_init(&l, &good, 0, KVD_INT8, KVD_F16), 0);
	assert_int_equal(l.k_meta, 8192);
	assert_int_equal(l.v_codes, 8192 + 256);
	assert_int_equal(l.v_meta, 8192 + 256 + 16384);
	assert_int_equal(l.record_bytes, 8192 + 256 + 16384);
	assert_int_equal(l.page_bytes, (8192 + 256 + 16384) * 24 * 8);
	assert_int_equal(page_record(&l, 2, 3), (2 * 8 + 3) * l.record_bytes);
	assert_int_equal(page_layout_init(&l, &good, 0, KVD_INT8, KVD_INT8), 0);
	assert_int_equal(l.record_bytes, 16896);
	assert_int_equal(page_layout_init(&l, &good, 1, KVD_INT8, KVD_F16), 0);
	assert_int_equal(l.record_bytes, 576 * 64 + 256);
	assert_int_equal(page_value_dim(&l), 576);
	assert_int_equal(l.page_bytes % PAGE_ALIGN, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_too_big),
		cmocka_unit_test(test_fingerprint),
		cmocka_unit_test(test_demotion),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
