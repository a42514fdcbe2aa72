/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order_test.c - pages in tile order hold what pages of rows hold, code by
 * code, and the same metadata: moved, appended, sealed and opened again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "tests/kernels/random.h"
#include "tests/kernels/twin.h"

#define LAYERS 1u
#define HEADS  2u
#define HEAD   1u /* the one whose values are looked at */
#define SIDE   (128u * 128u)

static const uint32_t dims[] = { 32, 64, 96, 128 };

/* A page of one class. */
struct page {
	struct page_layout l;
	uint8_t *mem;
};

static void page_init(struct page *p, const struct kvd_geometry *g,
		      uint32_t order, uint32_t format)
{
	struct kvd_geometry x = *g;

	x.tile_order = order;
	assert_null(kvd_geometry_check(&x));
	assert_int_equal(page_layout_init(&p->l, &x, 0, format, format), 0);
	p->mem = malloc(p->l.page_bytes);
	assert_non_null(p->mem);
	memset(p->mem, 0x5a, p->l.page_bytes);
}

static struct side page_side(const struct page *p, uint32_t i)
{
	return side_at(&p->l, p->mem, 0, i / 2, i % 2);
}

#define NR_SIDES (LAYERS * HEADS * 2)

/* @to gets what @from holds. */
static void page_copy(const struct page *to, const struct page *from)
{
	uint32_t i;

	for (i = 0; i < NR_SIDES; i++) {
		struct side a = page_side(to, i), b = page_side(from, i);

		twin_side(&a, &b);
	}
}

static void random_geometry(struct kvd_geometry *g, uint32_t format)
{
	*g = (struct kvd_geometry){
		.size = sizeof(*g),
		.page_tokens = 32u << random_below(3),
		.k_format = format,
		.v_format = format,
		.v_group = 32u << random_below(3),
		.rope_order = KVD_ROPE_NONE,
		.profile = 1,
		.nr_groups = 1,
		.groups = { { .nr_layers = LAYERS,
			      .nr_kv_heads = HEADS,
			      .k_dim = dims[random_below(4)],
			      .v_dim = dims[random_below(4)] } },
	};
}

/* Rows of a side, of random codes, there and back among other tokens. */
static void check_side(const struct side *tile, const struct side *row)
{
	static uint8_t rows[SIDE * 2], back[SIDE * 2];
	uint32_t first = random_below(tile->tokens), t, d;
	uint32_t nr = 1 + random_below(tile->tokens - first);
	uint32_t bits = format_bits(tile->format);
	struct codes place = side_place(row);

	for (t = 0; t < row->tokens; t++)
		for (d = 0; d < row->dim; d++)
			codes_set(&place, row->codes, t, d,
				  random_below(1u << bits));
	twin_side(tile, row);
	memset(rows, 0x5a, sizeof(rows));
	side_gather(tile, first, nr, rows);
	assert_memory_equal(rows, row->codes + (size_t)first * row->row,
			    (size_t)nr * row->row);
	assert_int_equal(rows[(size_t)nr * row->row], 0x5a);
	for (t = 0; t < nr * row->row; t++)
		rows[t] = (uint8_t)random_u64();
	side_scatter(tile, first, nr, rows);
	side_gather(tile, first, nr, back);
	for (t = 0; t < nr; t++)
		for (d = 0; d < row->dim; d++)
			assert_int_equal(codes_get(&place, rows, t, d),
					 codes_get(&place, back, t, d));
	assert_true(twin_codes(tile, row, 0, first));
	assert_true(twin_codes(tile, row, first + nr, row->tokens));
}

static void test_moved(void **state)
{
	struct kvd_geometry g;
	struct page row, tile;
	uint32_t n, i;

	for (n = 0; n < 12 * KVD_NR_FORMATS; n++) {
		random_geometry(&g, n % KVD_NR_FORMATS);
		page_init(&row, &g, KVD_TILE_ROW, g.k_format);
		page_init(&tile, &g, KVD_TILE_MMA, g.k_format);
		for (i = 0; i < NR_SIDES; i++) {
			struct side a, b = page_side(&row, i);

			memset(b.codes, 0, (size_t)b.tokens * b.row);
			a = page_side(&tile, i);
			check_side(&a, &b);
		}
		free(row.mem);
		free(tile.mem);
	}
}

/* What a profile would say: for all formats, of any dims in use here. */
static const struct kv_tables *tables(void)
{
	static float scale[LAYERS * HEADS], lut[LAYERS * TABLES_CODES];
	static float zero[LAYERS * HEADS * 128], range[LAYERS * HEADS * 128];
	static const struct kv_tables t = {
		.nr_heads = HEADS,
		.k_scale = scale,
		.v_scale = scale,
		.k_lut = lut,
		.k_out = lut,
		.v_lut = lut,
		.v_out = lut,
		.k_zero = zero,
		.k_range = range,
	};
	uint32_t i;

	for (i = 0; i < LAYERS * HEADS; i++)
		scale[i] = 0.02f * (float)(1 + i);
	for (i = 0; i < LAYERS * TABLES_CODES; i++)
		lut[i] = (float)(i % TABLES_CODES) * 0.13f - 1;
	for (i = 0; i < LAYERS * HEADS * 128; i++) {
		zero[i] = f16_round((float)(i % 7) * 0.1f - 0.3f);
		range[i] = f16_round(1 + (float)(i % 5) * 0.3f);
	}
	return &t;
}

static uint32_t convert(const struct host_kernels *k, const struct page *from,
			const struct page *to, uint32_t nr_tokens)
{
	void *const bases[] = { from->mem, to->mem };
	struct kv_convert_page page = { .from = { 0, 0, 0 },
					.to = { 0, 1, 1 },
					.nr_tokens = nr_tokens };
	uint32_t nonfinite = 0;
	struct kv_convert_args a = {
		.layouts = { from->l, to->l },
		.bases = bases,
		.pages = &page,
		.nr_pages = 1,
		.nr_layers = LAYERS,
		.tables = tables(),
		.nonfinite = &nonfinite,
		.nr_threads = 1 + random_below(3),
	};

	k->convert(&a);
	return nonfinite;
}

/* A page of rows in @format, of normal numbers, now and then with a NaN. */
static void source_init(struct page *p, const struct kvd_geometry *g,
			uint32_t format)
{
	struct page open;
	uint32_t i, t;

	page_init(&open, g, KVD_TILE_ROW, KVD_F16);
	page_init(p, g, KVD_TILE_ROW, format);
	for (i = 0; i < NR_SIDES; i++) {
		struct side s = page_side(&open, i);
		uint16_t *x = (uint16_t *)s.codes;

		for (t = 0; t < s.tokens * s.dim; t++)
			x[t] = f16_from_f32(random_normal());
		if (!random_below(40))
			x[random_below(t)] = 0x7e01;
	}
	convert(&host_kernels_ref, &open, p, g->page_tokens);
	free(open.mem);
}

/* Values too. */
static void check_values(const struct host_kernels *k, const struct page *a,
			 const struct page *b, uint32_t nr_tokens)
{
	static float x[SIDE], y[SIDE];
	int v;

	for (v = 0; v < 2; v++) {
		memset(x, 0, sizeof(x));
		memset(y, 0, sizeof(y));
		k->dequant(&a->l, a->mem, 0, HEAD, v, nr_tokens, tables(),
			   x);
		k->dequant(&b->l, b->mem, 0, HEAD, v, nr_tokens, tables(),
			   y);
		assert_memory_equal(x, y, sizeof(x));
	}
}

/*
 * The first @n tokens of @from to @want's format, in any order but that of
 * rows only: as @want, and codes of other tokens stay.
 */
static void check_orders(const struct host_kernels *k,
			 const struct kvd_geometry *g, const struct page *from,
			 const struct page *want, uint32_t n)
{
	uint32_t bad = convert(&host_kernels_ref, from, want, n), o, i;
	struct page a, b, old;

	for (o = 1; o < 4; o++) {
		page_init(&a, g, o & 1, from->l.k_format);
		page_init(&b, g, o >> 1, want->l.k_format);
		page_init(&old, g, o >> 1, want->l.k_format);
		page_copy(&a, from);
		assert_int_equal(convert(k, &a, &b, n), bad);
		for (i = 0; i < NR_SIDES; i++) {
			struct side s = page_side(&b, i);
			struct side t = page_side(want, i);
			struct side u = page_side(&old, i);

			assert_true(twin_codes(&s, &t, 0, n));
			assert_true(twin_codes(&s, &u, n, s.tokens));
			assert_true(twin_meta(&s, &t));
		}
		check_values(k, &b, want, n);
		free(a.mem);
		free(b.mem);
		free(old.mem);
	}
}

/* Sealed, opened again, requantized, copied. */
static void test_converted(void **state)
{
	uint32_t from, to, i, n;
	const struct host_kernels *k;
	struct page source, want;
	struct kvd_geometry g;

	for (from = 0; from < KVD_NR_FORMATS; from++)
		for (to = 0; to < KVD_NR_FORMATS; to++) {
			random_geometry(&g, to);
			n = g.page_tokens;
			if (!format_whole(to) && random_below(2))
				n = 1 + random_below(n);
			source_init(&source, &g, from);
			for (i = 0; (k = host_kernels_nth(i)); i++) {
				page_init(&want, &g, KVD_TILE_ROW, to);
				check_orders(k, &g, &source, &want, n);
				free(want.mem);
			}
			free(source.mem);
		}
}

/* As @want: where nothing was appended both are ones. */
static void check_appended(const struct world *w, const struct world *want)
{
	uint32_t p, h;
	int v;

	for (p = 0; p < w->nr_pages; p++)
		for (h = 0; h < w->s.nr_heads; h++)
			for (v = 0; v < 2; v++) {
				struct side a = twin_at(w, p, h, v);
				struct side b = twin_at(want, p, h, v);

				assert_true(twin_codes(&a, &b, 0, a.tokens));
				assert_true(twin_meta(&a, &b));
			}
}

/* By one thread and by many; in any pieces. */
static void test_appended(void **state)
{
	const struct host_kernels *k;
	struct world row, tile;
	uint32_t f, i, at, by, threads;

	for (f = 0; f <= KVD_INT4H; f++) {
		struct shape s = {
			.k_dim = dims[random_below(4)],
			.v_dim = dims[random_below(4)],
			.nr_heads = 2,
			.group = 1,
			.page_tokens = 32u << random_below(3),
			.format = { { f, f },
				    { random_below(2), KVD_INT8 } },
			.nr_seqs = 2,
			.len = { 900, 1 + random_below(300) },
		};

		world_init(&row, &s);
		world_append(&row, &host_kernels_ref, 0, 1000, 1);
		twin_init(&tile, &row, KVD_TILE_MMA);
		for (i = 0; (k = host_kernels_nth(i)); i++)
			for (threads = 1; threads < 5; threads++) {
				world_wipe(&tile);
				world_append(&tile, k, 0, 1, threads);
				for (at = 1; at < 900; at += by) {
					by = 1 + random_below(at < 80 ? 20 :
									999);
					world_append(&tile, k, at, by, threads);
				}
				check_appended(&tile, &row);
			}
		twin_fini(&tile);
		world_fini(&row);
	}
}

/*
 * Tokens 0 and 8, 1 and 9 ... have bytes in common: two threads that halved
 * the tokens would write these at the same time.
 */
static void test_one_tile(void **state)
{
	static const struct shape s = {
		.k_dim = 128,
		.v_dim = 128,
		.nr_heads = 16,
		.group = 1,
		.page_tokens = 32,
		.format = { { KVD_INT4, KVD_INT4 }, { KVD_INT4, KVD_INT4 } },
		.nr_seqs = 1,
		.len = { 16 },
	};
	struct world row, tile;
	uint32_t i;

	world_init(&row, &s);
	world_append(&row, &host_kernels_ref, 0, 16, 1);
	twin_init(&tile, &row, KVD_TILE_MMA);
	for (i = 0; i < 100; i++) {
		world_wipe(&tile);
		world_append(&tile, host_kernels(), 0, 16, 2);
		check_appended(&tile, &row);
	}
	twin_fini(&tile);
	world_fini(&row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_converted),
		cmocka_unit_test(test_appended),
		cmocka_unit_test(test_one_tile),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
