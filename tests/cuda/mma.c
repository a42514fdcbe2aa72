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
static void check_graph(uint32_t format)
{
	static const uint32_t ends[][4] = { { 530, 20, 600, 513 },
					    { 1, 19, 512, 140 },
					    { 529, 2, 65, 512 } };
	struct shape s = shape_of(format, 64);
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

static void test_graph(void **state)
{
	check_graph(KVD_KIVI4);
	check_graph(KVD_KVQUANT3);
}

/*
 * Where few tokens are seen nothing evens a score's error out, and the log-sum
 * has all of it: queries of f32 are not an f16 alone.
 */
static void test_few(void **state)
{
	uint32_t f, i;

	for (f = 0; f < KVD_NR_FORMATS; f++)
		for (i = 0; i < 4; i++) {
			struct shape s = shape_of(f, i % 2 ? 128 : 64);
			struct world w;

			s.nr_heads = s.nr_seqs = 1;
			s.group = 8;
			s.len[0] = 1 + i;
			world_init(&w, &s);
			world_fill(&w);
			rows_check(&w, KVD_TILE_MMA, KVD_DTYPE_F32, i, 1);
			world_fini(&w);
		}
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
	call_set_code(c, 1, len - 2, d, code);
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
			call_set_code(&c, 0, t, d, 0x7e00);
	call_cuda(&c, 1, &got);
	for (d = 0; d < s.v_dim; d++)
		assert_true(isnan(((float *)got.out)[d]));
	answer_fini(&got);
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
		cmocka_unit_test(test_few),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_nan_keys),
	};

	return cmocka_run_group_tests(tests, setup, gpu_teardown);
}
