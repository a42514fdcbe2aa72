/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sealed.c - pages for the tests of sealing, and input to fill them with.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "kernels/host/half.h"
#include "kernels/host/row.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sealed.h"

void sealed_init(struct sealed *p, uint32_t format, uint32_t tokens,
		 uint32_t dim)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = tokens,
		.k_format = format,
		.v_format = format,
		.rope_order = format_coding(format) == CODING_KVQUANT ?
				      KVD_ROPE_PRE :
				      KVD_ROPE_POST,
		.profile = format_needs_profile(format),
		.nr_groups = 1,
		.groups = { { 1, 1, 0, dim, dim, 0 } },
	};

	assert_string_equal(kvd_geometry_check(&g) ?: "", "");
	assert_int_equal(page_layout_init(&p->l, &g, 0, format, format), 0);
	assert_true(p->l.page_bytes <= sizeof(p->page));
	memset(p->page, 0x5a, sizeof(p->page));
}

struct side sealed_side(struct sealed *p, int is_v)
{
	return side_at(&p->l, p->page, 0, 0, is_v);
}

uint32_t sealed_code(struct sealed *p, int is_v, uint32_t t, uint32_t d)
{
	struct side s = sealed_side(p, is_v);

	return pack_get(format_bits(s.format), s.codes + (size_t)t * s.row,
			s.dim, d);
}

void sealed_values(const struct sealed *p, int is_v,
		   const struct kv_tables *tables, float *out)
{
	ref_dequant(&p->l, p->page, 0, 0, is_v, p->l.page_tokens, tables, out);
}

static uint32_t numbers(const json_t *v, float *out, uint32_t nr, uint32_t max)
{
	const json_t *x;
	size_t i;

	if (!json_is_array(v)) {
		assert_true(nr < max);
		out[nr] = (float)(json_is_boolean(v) ? json_is_true(v) :
						       json_number_value(v));
		return nr + 1;
	}
	json_array_foreach(v, i, x) nr = numbers(x, out, nr, max);
	return nr;
}

uint32_t vector_load(const char *file, const char *key, float *out,
		     uint32_t max)
{
	json_error_t err;
	json_t *root = json_load_file(file, 0, &err), *v;
	uint32_t nr;

	if (!root)
		fail_msg("%s:%d: %s", file, err.line, err.text);
	v = json_object_get(json_object_get(root, key), "data");
	if (!v)
		fail_msg("%s: no %s", file, key);
	nr = numbers(v, out, 0, max);
	json_decref(root);
	return nr;
}

void random_shape(uint32_t *ret_tokens, uint32_t *ret_dim)
{
	static const uint32_t dims[] = { 8, 24, 64, 80, 96, 128, 256 };

	*ret_tokens = 32u << random_below(3);
	*ret_dim = dims[random_below(sizeof(dims) / sizeof(*dims))];
}

static float in_f16(float x)
{
	return f16_round(fmaxf(fminf(x, 65504), -65504));
}

static void stride_set(float *x, uint32_t n, uint32_t stride, uint32_t kind)
{
	float c = f16_round(random_normal());
	uint32_t i;

	for (i = 0; i < n; i++, x += stride)
		switch (kind) {
		case 0:
			*x = random_below(2) ? 0.0f : -0.0f;
			break;
		case 1:
			*x = c;
			break;
		case 2:
			*x = in_f16(random_normal() * 20000);
			break;
		case 3:
			*x = (float)random_below(9) * 0x1p-24f;
			break;
		case 4:
			*x = f16_round(*x * 0x1p-14f);
			break;
		default:
			*x = in_f16(*x * 40 + 8);
		}
}

void random_tile(float *x, uint32_t tokens, uint32_t dim)
{
	uint32_t n = tokens * dim, i, t, d;

	for (i = 0; i < n; i++)
		x[i] = f16_round(random_normal());
	for (i = random_below(8); i; i--) {
		t = random_below(tokens);
		d = random_below(dim);
		if (random_below(2))
			stride_set(x + (size_t)t * dim, dim, 1,
				   random_below(6));
		else
			stride_set(x + d, tokens, dim, random_below(6));
	}
}

void random_hard(float *x, uint32_t tokens, uint32_t dim)
{
	static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY, 1e30f };

	random_tile(x, tokens, dim);
	if (!random_below(8)) /* all of one kind */
		stride_set(x, tokens * dim, 1, random_below(5));
	if (!random_below(4))
		x[random_below(tokens * dim)] = bad[random_below(5)];
}

static int all_finite(const float *x, uint32_t n)
{
	while (n--)
		if (!isfinite(x[n]))
			return 0;
	return 1;
}

/* What a page that was not refused must be, and one that was. */
static void check_sense(const struct sealed *p, int is_v, const float *x,
			int bad, const struct kv_tables *tables)
{
	static float out[SEALED_MAX];
	uint32_t n = p->l.page_tokens * p->l.k_dim, i;

	sealed_values(p, is_v, tables, out);
	if (!bad) {
		assert_true(all_finite(x, n));
		assert_true(all_finite(out, n));
	}
	for (i = 0; i < n; i++)
		if (!isfinite(x[i]) || fabsf(x[i]) > 65504)
			assert_int_equal(bad, 1);
	if (!all_finite(x, n))
		assert_false(all_finite(out, n));
}

static void check_one(enum seal_kind kind, uint32_t format,
		      const struct kv_tables *(*tables_of)(uint32_t dim))
{
	static float x[SEALED_MAX], before[SEALED_MAX];
	static struct sealed ref, got;
	const struct kv_tables *tables;
	uint32_t tokens, dim, i;
	side_store_fn *store;
	int bad[2];

	random_shape(&tokens, &dim);
	random_hard(x, tokens, dim);
	memcpy(before, x, sizeof(x));
	tables = tables_of ? tables_of(dim) : NULL;
	for (i = 0; i < 4; i++) { /* the first set twice */
		struct sealed *p = i ? &got : &ref;
		struct side s[2];
		int v;

		store = seal_nth(kind, i ? i - 1 : 0);
		if (!store)
			break;
		sealed_init(p, format, tokens, dim);
		for (v = 0; v < 2; v++) {
			int b;

			s[v] = sealed_side(p, v);
			b = store(&s[v], x, tables);
			if (!i)
				bad[v] = b;
			assert_int_equal(b, bad[v]);
			check_sense(p, v, x, b, tables);
		}
		assert_memory_equal(p->page, ref.page, sizeof(ref.page));
		assert_memory_equal(x, before, sizeof(x));
	}
	for (i = ref.l.page_bytes; i < sizeof(ref.page); i++)
		assert_int_equal(ref.page[i], 0x5a);
}

void check_same_bytes(enum seal_kind kind, uint32_t format,
		      const struct kv_tables *(*tables)(uint32_t dim))
{
	int i;

	for (i = 0; i < 60; i++)
		check_one(kind, format, tables);
}
