/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sheet.h - one head on one page, and numbers from files: for tests of what
 * is stored. To be included after cmocka.h; VECTORS is where the files are.
 */
#ifndef TESTS_KERNELS_SHEET_H
#define TESTS_KERNELS_SHEET_H

#include <jansson.h>
#include <string.h>
#include "kernels/host/host.h"

#define PT 64u /* page tokens */

/* One head, one page: rows at positions 0.. of one sequence. */
struct sheet {
	struct page_layout l;
	uint8_t page[PT * KVD_MAX_DIM * 4 + PT * 8];
	uint32_t nonfinite;
	float scale; /* of fp8 */
};

static inline void sheet_init_in(struct sheet *s, uint32_t format, uint32_t dim,
				 uint32_t tile_order)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = PT,
		.k_format = format,
		.v_format = format,
		.tile_order = tile_order,
		.nr_groups = 1,
		.groups = { { 1, 1, 0, dim, dim, 0 } },
	};

	assert_null(kvd_geometry_check(&g));
	assert_int_equal(page_layout_init(&s->l, &g, 0, format, format), 0);
	memset(s->page, 0x5a, sizeof(s->page));
	s->nonfinite = 0;
	s->scale = 1;
}

static inline void sheet_init(struct sheet *s, uint32_t format, uint32_t dim)
{
	sheet_init_in(s, format, dim, KVD_TILE_ROW);
}

static inline void sheet_append(struct sheet *s, const struct host_kernels *k,
                         uint32_t dtype, const void *rows, uint32_t n)
{
	void *base = s->page;
	struct kv_tables tables = {
		.nr_heads = 1,
		.k_scale = &s->scale,
		.v_scale = &s->scale,
	};
	struct kv_page_ref ref = { 0 };
	struct kv_seq seq = { .nr_rows = n };
	struct kv_append_args a = {
		.layouts = { s->l },
		.bases = &base,
		.pages = &ref,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = n,
		.dtype = dtype,
		.k = rows,
		.v = rows,
		.k_stride = s->l.k_dim,
		.v_stride = s->l.v_dim,
		.tables = &tables,
		.nonfinite = &s->nonfinite,
		.nr_threads = 1,
	};

	k->append(&a);
}

static inline const struct affine_meta *sheet_meta(const struct sheet *s, uint32_t t)
{
	return (const struct affine_meta *)(s->page + s->l.k_meta) + t;
}

static inline json_t *load(const char *file, const char *key, uint32_t *ret_rows,
                    uint32_t *ret_dim)
{
	json_error_t err;
	json_t *root = json_load_file(file, 0, &err), *v;

	if (!root)
		fail_msg("%s:%d: %s", file, err.line, err.text);
	v = json_object_get(root, key);
	assert_non_null(v);
	json_incref(v);
	json_decref(root);
	*ret_rows = json_integer_value(
		json_array_get(json_object_get(v, "shape"), 0));
	*ret_dim = json_integer_value(
		json_array_get(json_object_get(v, "shape"), 1));
	return v;
}

/* Reads [rows][dim] (or [rows] when dim is 0) numbers. */
static inline void numbers(const char *file, const char *key, float *out,
                    uint32_t *ret_rows, uint32_t *ret_dim)
{
	json_t *v = load(file, key, ret_rows, ret_dim), *row, *x;
	size_t i, j;

	json_array_foreach(json_object_get(v, "data"), i, row)
	{
		if (!json_is_array(row))
			*out++ = json_number_value(row);
		json_array_foreach(row, j, x) *out++ = json_number_value(x);
	}
	json_decref(v);
}

static inline float number(const char *file, const char *key)
{
	json_t *root = json_load_file(file, 0, NULL), *data;
	float x;

	data = json_object_get(json_object_get(root, key), "data");
	assert_true(json_is_number(data));
	x = json_number_value(data);
	json_decref(root);
	return x;
}

/* Integers of 32 bits, all rows one after the other. */
static inline void words_read(const char *file, const char *key, uint64_t *out)
{
	json_t *root = json_load_file(file, 0, NULL), *row, *x;
	size_t i, j;

	json_array_foreach(json_object_get(json_object_get(root, key), "data"),
			   i, row)
		json_array_foreach(row, j, x) *out++ = json_integer_value(x);
	json_decref(root);
}

#endif
