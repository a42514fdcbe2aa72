// SPDX-License-Identifier: Apache-2.0
/*
 * mma_table.c - kvquant, and keys before RoPE, on tensor cores: what they take,
 * right at any length; and lists of outliers, pages and keys at their worst.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/format.h"
#include "kernels/host/half.h"
#include "kernels/host/side.h"
#include "tests/cuda/calls.h"
#include "tests/cuda/gpu.h"
#include "tests/kernels/random.h"

/* One sequence of kvquant, every other page in 16 bits. */
static struct shape shape_of(uint32_t format, uint32_t open, uint32_t dim)
{
	return (struct shape){
		.k_dim = dim,
		.v_dim = dim,
		.nr_heads = 1,
		.group = 2,
		.page_tokens = 64,
		.format = { { format, format }, { open, open } },
		.nr_seqs = 1,
		.rope_order = KVD_ROPE_PRE,
		.v_group = 64,
	};
}

/* Is a call of that shape the tensor cores' own? */
static int takes(const struct shape *s)
{
	struct on_device d;
	struct world w;
	struct call c;
	int takes;

	world_init(&w, s);
	world_fill(&w);
	call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, s->len[0] - 1, 1);
	call_prepare(&c, 1, &d);
	takes = kv_cuda_attend_tensor(gpu_kernels, &d.args, &d.scratch.batch);
	call_release(&c, &d);
	call_fini(&c);
	world_fini(&w);
	return takes;
}

static void test_tables(void **state)
{
	static const uint32_t dims[] = { 64, 128, 256 };
	uint32_t f, i, n;

	for (f = KVD_KVQUANT4; f <= KVD_KVQUANT2; f++)
		for (i = 0; i < 36; i++) {
			const uint32_t open = i / 3 % 2 ? KVD_BF16 : KVD_F16;
			struct shape s = shape_of(f, open, dims[i % 3]);
			struct world w;

			s.group = 1 + i % 5;
			s.page_tokens = 32u << i / 6 % 3;
			s.interleaved = (int)(i & 1);
			s.rope_order = i / 18 ? KVD_ROPE_NONE : KVD_ROPE_PRE;
			s.len[0] = s.page_tokens * 3 + 1 +
				   random_below(s.page_tokens - 1);
			assert_true(takes(&s));
			world_init(&w, &s);
			world_fill(&w);
			for (n = 0; n < 3; n++)
				rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32,
					   random_below(s.len[0]), 1);
			rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32,
				   random_below(3), 1);
			world_fini(&w);
		}
}

/* What goes to the general kernel: mixtures, and other pairs. */
static void test_tables_not(void **state)
{
	struct shape s = shape_of(KVD_KVQUANT4, KVD_BF16, 64);

	s.len[0] = 70;
	assert_true(takes(&s));
	s.rope_pairs = 16;
	assert_false(takes(&s));
	s.rope_pairs = 0;
	s.format[1][1] = KVD_INT8;
	assert_false(takes(&s));
	s.format[0][0] = s.format[0][1] = KVD_INT8;
	assert_false(takes(&s));
	s.rope_order = KVD_ROPE_NONE;
	assert_true(takes(&s));
}

/* Every length of an open tail in 16 bits, with nothing written behind it. */
static void test_tails(void **state)
{
	uint32_t i, n;

	for (i = 0; i < 4; i++) {
		struct shape s = shape_of(KVD_KVQUANT4 + i % 3,
					  i % 2 ? KVD_BF16 : KVD_F16, 64);
		struct world w;

		s.page_tokens = 32;
		s.len[0] = 64;
		s.interleaved = (int)(i / 2);
		world_init(&w, &s);
		world_fill(&w);
		for (n = 64; n > 32; n--) {
			world_poison(&w, n);
			rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32, n - 1, 1);
		}
		world_fini(&w);
	}
}

/* ---- lists ---- */

typedef void list_edit(const struct side *s, uint32_t nr);

/* Both lists of page 0. */
static void lists_edit(struct call *c, list_edit *f, uint32_t nr)
{
	const struct kv_page_ref *r = &c->pages[c->seqs[0].first_page];
	const struct page_layout *l = &c->layouts[r->layout];
	uint32_t v;

	for (v = 0; v < 2; v++) {
		struct side s = side_at(l,
					c->segments[r->segment] + r->offset,
					WORLD_LAYER, 0, v);

		f(&s, nr);
	}
}

/*
 * A full list that says it has @nr entries. Past the last, where nothing means
 * anything, is what looks like one more.
 */
static void list_full(const struct side *s, uint32_t nr)
{
	struct sparse_head *h = side_sparse(s);
	struct sparse_entry *e = (struct sparse_entry *)(h + 1);
	const uint32_t most = sparse_max(s->tokens, s->dim);
	uint32_t i;

	h->nr = (uint16_t)nr;
	for (i = 0; i <= most; i++)
		e[i] = (struct sparse_entry){
			.at = (uint16_t)i,
			.value = f16_from_f32(i < most ? 1 : 90),
		};
}

/* @nr entries that are right, those after them past the last element. */
static void list_past(const struct side *s, uint32_t nr)
{
	struct sparse_head *h = side_sparse(s);
	struct sparse_entry *e = (struct sparse_entry *)(h + 1);
	const uint32_t most = sparse_max(s->tokens, s->dim);
	const uint32_t end = s->tokens * s->dim;
	uint32_t i;

	for (i = 0; i < most; i++)
		e[i] = (struct sparse_entry){
			.at = (uint16_t)(i < nr ? i * 90 :
					 i + 1 < most ? end + i : 0xffff),
			.value = f16_from_f32(i < nr ? 2 : 90),
		};
	h->nr = (uint16_t)most;
}

/* The same without those. */
static void list_short(const struct side *s, uint32_t nr)
{
	list_past(s, nr);
	side_sparse(s)->nr = (uint16_t)nr;
}

/* Nothing but garbage, in no order. */
static void list_garbage(const struct side *s, uint32_t nr)
{
	struct sparse_head *h = side_sparse(s);
	uint16_t *x = (uint16_t *)(h + 1);
	uint32_t i;

	h->nr = (uint16_t)random_u64();
	for (i = 0; i < 2 * sparse_max(s->tokens, s->dim); i++)
		x[i] = (uint16_t)random_u64();
}

/* @f with @a and with @b of it gives the same bits. */
static void check_lists(list_edit *f, uint32_t a, list_edit *g, uint32_t b)
{
	struct shape s = shape_of(KVD_KVQUANT4, KVD_F16, 64);
	struct answer x, y;
	struct world w;
	struct call c;

	s.page_tokens = s.len[0] = 128;
	world_init(&w, &s);
	world_fill(&w);
	call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, 127, 1);
	lists_edit(&c, f, a);
	call_cuda(&c, 1, &x);
	lists_edit(&c, g, b);
	call_cuda(&c, 1, &y);
	call_same(&c, &x, 0, &y);
	answer_fini(&x);
	answer_fini(&y);
	call_fini(&c);
	world_fini(&w);
}

static void test_lists(void **state)
{
	check_lists(list_full, sparse_max(128, 64), list_full, 0xffff);
	check_lists(list_short, 40, list_past, 40);
	check_lists(list_short, 0, list_past, 0);
}

/* What lists say of one page stays in that page, whatever it is. */
static void test_garbage_lists(void **state)
{
	struct shape s = shape_of(KVD_KVQUANT2, KVD_F16, 64);
	struct answer got;
	struct world w;
	struct call c;
	uint32_t i;

	s.len[0] = 150;
	world_init(&w, &s);
	world_fill(&w);
	for (i = 0; i < 8; i++) {
		call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, 149, 1);
		lists_edit(&c, list_garbage, 0);
		call_cuda(&c, 1, &got);
		answer_fini(&got);
		call_fini(&c);
	}
	rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32, 149, 1);
	world_fini(&w);
}

/* Pages without any outlier. */
static void test_no_outliers(void **state)
{
	uint32_t f;

	for (f = KVD_KVQUANT4; f <= KVD_KVQUANT2; f++) {
		struct shape s = shape_of(f, KVD_F16, 64);
		const struct kv_page_ref *r;
		struct world w;
		uint32_t i;

		s.len[0] = 150;
		world_init(&w, &s);
		world_fill(&w);
		r = &w.pages[w.seqs[0].first_page];
		for (i = 0; i < 4; i++) {
			struct side x = side_at(&w.layouts[0],
						w.segments[r[i / 2 * 2].segment] +
							r[i / 2 * 2].offset,
						WORLD_LAYER, 0, i % 2);

			side_sparse(&x)->nr = 0;
		}
		rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32, 149, 1);
		rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32, 2, 1);
		world_fini(&w);
	}
}

/* ---- what is no number, or a large one ---- */

/* V of page 2 becomes what a refused page of kvquant is. */
static void page_refuse(struct call *c)
{
	const struct kv_page_ref *r = &c->pages[c->seqs[0].first_page + 2];
	const struct page_layout *l = &c->layouts[r->layout];
	struct side s = side_at(l, c->segments[r->segment] + r->offset,
				WORLD_LAYER, 0, 1);
	uint32_t t;

	for (t = 0; t < s.tokens; t++)
		side_affine(&s)[t] = (struct affine_meta){ 0, 0x7e00 };
	side_sparse(&s)->nr = 0;
}

/* Rows @first and the next, of which only that may see what @edit did. */
static void check_seen(struct call *c, void (*spoil)(struct call *), uint32_t d)
{
	const uint32_t dim = c->w->s.v_dim, heads = c->w->s.group;
	const float *x, *y;
	struct answer clean, got;
	uint32_t i;

	call_cuda(c, 1, &clean);
	spoil(c);
	call_cuda(c, 1, &got);
	x = got.out;
	y = clean.out;
	assert_memory_equal(x, y, heads * dim * sizeof(*x));
	for (i = heads * dim; i < 2 * heads * dim; i++) {
		if (d == dim || i % dim == d)
			assert_true(isnan(x[i]));
		else
			assert_memory_equal(&x[i], &y[i], sizeof(*x));
	}
	assert_memory_equal(got.lse, clean.lse, 2 * heads * sizeof(float));
	answer_fini(&clean);
	answer_fini(&got);
}

/* Element 21 of V of a page in 16 bits, among those of kvquant. */
static void element_spoil(struct call *c)
{
	call_set_code(c, 1, 100, 21,
		      c->w->s.format[1][1] == KVD_BF16 ? 0x7fc0 : 0x7e00);
}

/*
 * V that was refused: one page that stayed in 16 bits as it is, and one that is
 * kvquant's all the same.
 */
static void test_refused(void **state)
{
	uint32_t i;

	for (i = 0; i < 4; i++) {
		struct shape s = shape_of(KVD_KVQUANT3,
					  i % 2 ? KVD_BF16 : KVD_F16, 64);
		struct world w;
		struct call c;

		s.len[0] = 200;
		world_init(&w, &s);
		world_fill(&w);
		call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32,
			  i / 2 ? 127 : 99, 2);
		check_seen(&c, i / 2 ? page_refuse : element_spoil,
			   i / 2 ? s.v_dim : 21);
		call_fini(&c);
		world_fini(&w);
	}
}

/* Keys of bf16 that are past what an f16 holds, as far as scores are finite. */
static void test_large_keys(void **state)
{
	static const float large[] = { 70000, -3e5f, 1e9f, 0x1p60f };
	uint32_t i, n;

	for (i = 0; i < 8; i++) {
		struct shape s = shape_of(KVD_KVQUANT4, KVD_BF16, 64);
		struct world w;
		const struct kv_page_ref *r;
		struct codes place;

		s.len[0] = 120;
		s.rope_order = i / 4 ? KVD_ROPE_NONE : KVD_ROPE_PRE;
		s.interleaved = (int)(i % 2);
		world_init(&w, &s);
		world_fill(&w);
		r = &w.pages[w.seqs[0].first_page + 1];
		place = page_codes(&w.layouts[1], 0);
		for (n = 64; n < 120; n += 9)
			codes_set(&place,
				  w.segments[r->segment] + r->offset +
					  page_record(&w.layouts[1],
						      WORLD_LAYER, 0),
				  n - 64, n % 64, bf16_from_f32(large[i % 4]));
		rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32, 119, 1);
		world_fini(&w);
	}
}

static int setup(void **state)
{
	random_seed();
	return gpu_setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_tables_not),
		cmocka_unit_test(test_tails),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_garbage_lists),
		cmocka_unit_test(test_no_outliers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_large_keys),
	};

	return cmocka_run_group_tests(tests, setup, gpu_teardown);
}
