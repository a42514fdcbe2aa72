// SPDX-License-Identifier: Apache-2.0
/*
 * mma.c - what attention on tensor cores promises besides being right: bits
 * that do not depend on the batch, however that cuts the work; graphs that
 * serve any lengths; and nothing read of what a row does not see, be it Inf or
 * NaN.
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

#define HEADS 8u /* of 4 sequences: more items than a GPU's blocks here */

static struct shape shape_of(uint32_t format, uint32_t dim)
{
	return (struct shape){
		.k_dim = dim,
		.v_dim = dim,
		.nr_heads = HEADS,
		.group = 1,
		.page_tokens = 64,
		.format = { { format, format }, { KVD_F16, KVD_F16 } },
		.nr_seqs = 4,
		.len = { 530, 20, 600, 513 },
		.v_group = 64,
		.rope_order = format_coding(format) == CODING_KVQUANT ?
				      KVD_ROPE_PRE : KVD_ROPE_NONE,
	};
}

/* Sequence @i of @c, as the only one. */
static void only(struct call *c, uint32_t i)
{
	c->seqs[0] = c->seqs[i];
	c->seqs[0].first_row = 0;
	c->nr_rows = c->seqs[0].nr_rows;
	c->nr_out = c->nr_rows * HEADS;
}

/*
 * All sequences at once, with few items each block goes through all of its
 * row, against one by one, where a row's quads are apart.
 */
static void check_batch(struct world *w)
{
	const uint32_t nr_seqs = w->s.nr_seqs;
	struct answer whole, part;
	struct call all, one;
	uint32_t i;

	call_init(&all, w, KVD_TILE_MMA, KVD_DTYPE_F32, 19, 1);
	for (i = 0; i < nr_seqs; i++)
		all.seqs[i].pos = w->s.len[i] - 1;
	call_cuda(&all, 1, &whole);
	for (i = 0; i < nr_seqs; i++) {
		struct answer want;

		one = all;
		one.q = (char *)all.q + (size_t)i * HEADS * w->s.k_dim * 4;
		only(&one, i);
		w->s.nr_seqs = 1;
		call_cuda(&one, 1, &part);
		call_same(&one, &whole, i * HEADS, &part);
		call_ref(&one, &want);
		call_compare(&one, &part, &want);
		w->s.nr_seqs = nr_seqs;
		answer_fini(&want);
		answer_fini(&part);
	}
	answer_fini(&whole);
	call_fini(&all);
}

static void test_batch(void **state)
{
	static const uint32_t formats[] = { KVD_F16,	  KVD_INT8,
					    KVD_KIVI4,	  KVD_KVARN2,
					    KVD_KVQUANT4, KVD_KVQUANT3 };
	uint32_t i;

	for (i = 0; i < 6; i++) {
		struct shape s = shape_of(formats[i], i % 2 ? 128 : 64);
		struct world w;

		world_init(&w, &s);
		world_fill(&w);
		check_batch(&w);
		world_fini(&w);
	}
}

/*
 * Neighbours that begin with the same pages: the first of the batch has none
 * in common, the second 1 quad with the third, that 2 with the last.
 */
static void check_share(struct world *w)
{
	struct answer apart, shared;
	struct kv_seq first;
	struct call c;
	uint32_t i;

	call_init(&c, w, KVD_TILE_MMA, KVD_DTYPE_F16, 19, 1);
	for (i = 0; i < w->s.nr_seqs; i++)
		c.seqs[i].pos = w->s.len[i] - 1;
	first = c.seqs[0];
	c.seqs[0] = c.seqs[3];
	c.seqs[3] = first;
	call_cuda(&c, 1, &apart);
	c.share = 1;
	call_cuda(&c, 1, &shared);
	call_same(&c, &apart, 0, &shared);
	answer_fini(&apart);
	answer_fini(&shared);
	call_fini(&c);
}

static void test_share(void **state)
{
	static const uint32_t formats[] = { KVD_BF16, KVD_INT4, KVD_KIVI2,
					    KVD_KVQUANT2, KVD_KVQUANT4 };
	uint32_t i;

	for (i = 0; i < 5; i++) {
		struct shape s = shape_of(formats[i], 64 << i % 2);
		struct world w;

		s.nr_heads = 2;
		s.group = 1 + 3 * (i % 3);
		s.len[0] = 1100;
		s.len[1] = 1030;
		s.len[2] = 1200;
		s.len[3] = 530;
		world_init(&w, &s);
		world_share(&w, 1, 10);
		world_share(&w, 2, 17);
		world_fill(&w);
		check_share(&w);
		world_fini(&w);
	}
}

static cu_graph_exec capture(const struct on_device *d, cu_stream stream)
{
	cu_graph_exec exec;
	cu_graph graph;

	assert_int_equal(gpu->cuStreamBeginCapture(stream, 0), 0);
	assert_int_equal(kv_cuda_attend(gpu_kernels, &d->args, &d->scratch,
					stream), 0);
	assert_int_equal(gpu->cuStreamEndCapture(stream, &graph), 0);
	assert_int_equal(gpu->cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
	assert_int_equal(gpu->cuGraphDestroy(graph), 0);
	return exec;
}

/* Replays with the sequences as they are now. */
static void replay(struct call *c, const struct on_device *d,
		   cu_graph_exec exec, cu_stream stream)
{
	struct answer got, want;

	assert_int_equal(gpu->cuMemcpyHtoDAsync((cu_ptr)(uintptr_t)d->args.seqs,
						c->seqs, sizeof(c->seqs),
						stream), 0);
	assert_int_equal(gpu->cuStreamSynchronize(stream), 0);
	assert_int_equal(gpu->cuGraphLaunch(exec, stream), 0);
	assert_int_equal(gpu->cuStreamSynchronize(stream), 0);
	call_read(c, d, &got);
	call_ref(c, &want);
	call_compare(c, &got, &want);
	answer_fini(&got);
	answer_fini(&want);
}

/*
 * One graph for all steps of a batch: lengths are read when it runs, and may
 * be any up to those it was made with.
 */
static void test_graph(void **state)
{
	static const uint32_t ends[][4] = { { 530, 20, 600, 513 },
					    { 1, 19, 512, 140 },
					    { 529, 2, 65, 512 } };
	struct shape s = shape_of(KVD_KIVI4, 64);
	struct on_device d;
	cu_graph_exec exec;
	cu_stream stream;
	struct world w;
	struct call c;
	uint32_t i, j;

	s.nr_heads = 2;
	world_init(&w, &s);
	world_fill(&w);
	call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_BF16, 0, 1);
	for (i = 0; i < 4; i++)
		c.seqs[i].pos = ends[0][i] - 1;
	assert_int_equal(gpu->cuStreamCreateWithPriority(
				 &stream, CU_STREAM_OWN_ORDER, 0), 0);
	call_prepare(&c, 1, &d);
	exec = capture(&d, stream);
	for (j = 0; j < 3; j++) {
		for (i = 0; i < 4; i++)
			c.seqs[i].pos = ends[j][i] - 1;
		replay(&c, &d, exec, stream);
	}
	assert_int_equal(gpu->cuGraphExecDestroy(exec), 0);
	assert_int_equal(gpu->cuStreamDestroy(stream), 0);
	call_release(&c, &d);
	call_fini(&c);
	world_fini(&w);
}

/* Element @d of K or V of token @t becomes what @code stands for. */
static void code_set(struct call *c, int is_v, uint32_t t, uint32_t d,
		     uint32_t code)
{
	const struct kv_page_ref *r =
		&c->pages[c->seqs[0].first_page + t / c->w->s.page_tokens];
	const struct page_layout *l = &c->layouts[r->layout];
	const struct codes place = page_codes(l, is_v);
	uint8_t *page = c->segments[r->segment] + r->offset;

	codes_set(&place,
		  page + page_record(l, WORLD_LAYER, 0) +
			  (is_v ? l->v_codes : 0),
		  t % l->page_tokens, d, code);
}

/*
 * Three rows at the end, the last but one of which wrote a value that is no
 * number: the row before must not know, those that see it must.
 */
static void check_poison(struct call *c, uint32_t code)
{
	const uint32_t len = c->w->s.len[0], dim = c->w->s.v_dim, d = 21;
	struct answer clean, got;
	uint32_t i;

	call_cuda(c, 1, &clean);
	code_set(c, 1, len - 2, d, code);
	call_cuda(c, 1, &got);
	for (i = 0; i < dim; i++) {
		const float *x = got.out, *y = clean.out;

		assert_memory_equal(&x[i], &y[i], 4);
		if (i != d) {
			assert_memory_equal(&x[dim + i], &y[dim + i], 4);
			assert_memory_equal(&x[2 * dim + i], &y[2 * dim + i],
					    4);
		} else {
			assert_false(isfinite(x[dim + i]));
			assert_false(isfinite(x[2 * dim + i]));
		}
	}
	answer_fini(&clean);
	answer_fini(&got);
}

static void test_poison(void **state)
{
	static const struct {
		uint32_t format, code;
	} list[] = {
		{ KVD_F16, 0x7e00 },	  { KVD_F16, 0xfc00 },
		{ KVD_BF16, 0x7fc0 },	  { KVD_BF16, 0x7f80 },
		{ KVD_FP8_E4M3, 0xff },	  { KVD_FP8_E5M2, 0x7d },
		{ KVD_FP8_E5M2, 0x7c },
	};
	uint32_t i;

	for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		struct shape s = shape_of(list[i].format, 64);
		struct world w;
		struct call c;

		s.nr_heads = s.nr_seqs = 1;
		s.len[0] = 70;
		memcpy(s.format[1], s.format[0], sizeof(s.format[1]));
		world_init(&w, &s);
		world_fill(&w);
		call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, 67, 3);
		check_poison(&c, list[i].code);
		call_fini(&c);
		world_fini(&w);
	}
}

/* A run of keys that are all NaN is seen as NaN, not passed over. */
static void test_nan_keys(void **state)
{
	struct shape s = shape_of(KVD_F16, 64);
	const uint32_t run = 128;
	struct answer got;
	struct world w;
	struct call c;
	uint32_t t, d;

	s.nr_heads = s.nr_seqs = 1;
	s.len[0] = run + 12;
	world_init(&w, &s);
	world_fill(&w);
	call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, s.len[0] - 1, 1);
	for (t = 0; t < run; t++)
		for (d = 0; d < s.k_dim; d++)
			code_set(&c, 0, t, d, 0x7e00);
	call_cuda(&c, 1, &got);
	for (d = 0; d < s.v_dim; d++)
		assert_true(isnan(((float *)got.out)[d]));
	answer_fini(&got);
	call_fini(&c);
	world_fini(&w);
}

/* Is a call over pages of @format, then of @open, the tensor cores' own? */
static int takes(uint32_t format, uint32_t open, struct shape s)
{
	struct on_device d;
	struct world w;
	struct call c;
	int takes;

	s.format[0][0] = s.format[0][1] = format;
	s.format[1][0] = s.format[1][1] = open;
	world_init(&w, &s);
	world_fill(&w);
	call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, s.len[0] - 1, 1);
	call_prepare(&c, 1, &d);
	takes = kv_cuda_attend_tensor(gpu_kernels, &d.args, &d.scratch.batch);
	call_release(&c, &d);
	call_fini(&c);
	world_fini(&w);
	return takes;
}

/*
 * What tensor cores take of kvquant, right in all of it; and a page past whose
 * open tail nothing is written.
 */
static void test_tables(void **state)
{
	static const uint32_t dims[] = { 64, 128, 256 };
	uint32_t f, i, n;

	for (f = KVD_KVQUANT4; f <= KVD_KVQUANT2; f++)
		for (i = 0; i < 36; i++) {
			struct shape s = shape_of(f, dims[i % 3]);
			const uint32_t open = i / 3 % 2 ? KVD_BF16 : KVD_F16;
			struct world w;

			s.nr_heads = s.nr_seqs = 1;
			s.group = 1 + i % 5;
			s.page_tokens = 32u << i / 6 % 3;
			s.interleaved = (int)(i & 1);
			s.rope_order = i / 18 ? KVD_ROPE_NONE : KVD_ROPE_PRE;
			s.len[0] = s.page_tokens * 3 + 1 + random_below(31);
			s.format[1][0] = s.format[1][1] = open;
			assert_true(takes(f, open, s));
			world_init(&w, &s);
			world_fill(&w);
			for (n = 0; n < 3; n++)
				rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32,
					   s.len[0] - 1 -
						   n * s.page_tokens, 1);
			world_fini(&w);
		}
}

/* What goes to the general kernel: mixtures, and other pairs. */
static void test_tables_not(void **state)
{
	struct shape s = shape_of(KVD_KVQUANT4, 64);

	s.nr_heads = s.nr_seqs = 1;
	s.len[0] = 70;
	assert_true(takes(KVD_KVQUANT4, KVD_BF16, s));
	assert_false(takes(KVD_KVQUANT4, KVD_INT8, s));
	assert_false(takes(KVD_INT8, KVD_INT8, s));
	s.rope_pairs = 16;
	assert_false(takes(KVD_KVQUANT4, KVD_BF16, s));
	s.rope_order = KVD_ROPE_NONE;
	assert_true(takes(KVD_INT8, KVD_F16, s));
}

/*
 * Both lists of page 0 become full ones that say they have @nr entries. Past
 * the last, where nothing means anything, is what looks like one more.
 */
static void lists_say(struct call *c, uint32_t nr)
{
	const struct kv_page_ref *r = &c->pages[c->seqs[0].first_page];
	const struct page_layout *l = &c->layouts[r->layout];
	uint32_t v, i;

	for (v = 0; v < 2; v++) {
		struct side s = side_at(l,
					c->segments[r->segment] + r->offset,
					WORLD_LAYER, 0, v);
		struct sparse_head *h = side_sparse(&s);
		struct sparse_entry *e = (struct sparse_entry *)(h + 1);
		const uint32_t most = sparse_max(s.tokens, s.dim);

		h->nr = (uint16_t)nr;
		for (i = 0; i <= most; i++)
			e[i] = (struct sparse_entry){
				.at = (uint16_t)i,
				.value = f16_from_f32(i < most ? 1 : 90),
			};
	}
}

/* A list that says it is longer than there is room for is as long as that. */
static void test_long_list(void **state)
{
	struct shape s = shape_of(KVD_KVQUANT4, 64);
	struct answer full, more;
	struct world w;
	struct call c;

	s.nr_heads = s.nr_seqs = 1;
	s.page_tokens = s.len[0] = 128;
	world_init(&w, &s);
	world_fill(&w);
	call_init(&c, &w, KVD_TILE_MMA, KVD_DTYPE_F32, 127, 1);
	lists_say(&c, sparse_max(128, 64));
	call_cuda(&c, 1, &full);
	lists_say(&c, 0xffff);
	call_cuda(&c, 1, &more);
	call_same(&c, &full, 0, &more);
	answer_fini(&full);
	answer_fini(&more);
	call_fini(&c);
	world_fini(&w);
}

static int setup(void **state)
{
	random_seed();
	return gpu_setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_graph),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_nan_keys),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_long_list),
		cmocka_unit_test(test_tables_not),
	};

	return cmocka_run_group_tests(tests, setup, gpu_teardown);
}
