// SPDX-License-Identifier: Apache-2.0
/*
 * formats.c - CUDA attention in every format, both orders of codes and any
 * geometry against the reference in float64 over the same codes; and against
 * itself, bit for bit, in other chunks and with its splits apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "kernels/format.h"
#include "tests/cuda/calls.h"
#include "tests/cuda/gpu.h"
#include "tests/cuda/pairwise.h"
#include "tests/kernels/random.h"

/* ---- tests ---- */

static struct shape plain(uint32_t k, uint32_t v)
{
	return (struct shape){
		.k_dim = 64,
		.v_dim = 64,
		.nr_heads = 1,
		.group = 2,
		.page_tokens = 32,
		.format = { { k, v }, { k, v } },
		.nr_seqs = 1,
		.rope_order = format_coding(k) == CODING_KVQUANT ?
				      KVD_ROPE_PRE : KVD_ROPE_POST,
		.v_group = 64,
	};
}

/* Every length of tail, with nothing written behind it yet. */
static void test_tails(void **state)
{
	uint32_t f, n, order;

	for (f = 0; f < KVD_NR_FORMATS; f++) {
		struct shape s = plain(f, f);
		struct world w;

		s.len[0] = 2 * s.page_tokens + 1;
		world_init(&w, &s);
		world_fill(&w);
		for (n = s.len[0]; n; n--) {
			world_poison(&w, n);
			for (order = 0; order < KVD_NR_TILE_ORDERS; order++)
				rows_check(&w, order, KVD_DTYPE_F32, n - 1, 1);
		}
		world_fini(&w);
	}
}

/* A prompt that ends in its second split, whole and in pieces. */
static void check_chunks(struct world *w, uint32_t order)
{
	const uint32_t first = 506, n = w->s.len[0] - first;
	const size_t heads = w->s.nr_heads * w->s.group;
	struct answer whole, part;
	uint32_t at, by;
	struct call c;

	call_init(&c, w, order, KVD_DTYPE_F32, first, n);
	call_check(&c, &whole);
	call_fini(&c);
	for (at = 0; at < n; at += by) {
		by = 1 + random_below(n / 2);
		call_init(&c, w, order, KVD_DTYPE_F32, first + at, by);
		call_cuda(&c, at % 2, &part);
		call_same(&c, &whole, at * heads, &part);
		answer_fini(&part);
		call_fini(&c);
	}
	answer_fini(&whole);
}

static void test_chunks(void **state)
{
	uint32_t f, order;

	for (f = 0; f < KVD_NR_FORMATS; f++) {
		struct shape s = plain(f, f);
		struct world w;

		s.k_dim = 32;
		s.page_tokens = 32u << f % 3;
		s.window = f % 4 ? 0 : 300;
		s.sinks = f % 2;
		s.len[0] = 520;
		world_init(&w, &s);
		world_fill(&w);
		for (order = 0; order < KVD_NR_TILE_ORDERS; order++)
			check_chunks(&w, order);
		world_fini(&w);
	}
}

static const uint32_t dims[] = { 32, 64, 96, 128, 256 };
static const uint32_t groups[] = { 1, 4, 8 };

enum {
	K_FORMAT, V_FORMAT, ORDER, PAGE, K_DIM, V_DIM, GROUP, DTYPE, ROPE,
	MIXED, OVERLAY, WINDOW, SOFTCAP, SINKS, CHUNK, NR_FACTORS
};

static const uint32_t factors[NR_FACTORS] = {
	[K_FORMAT] = KVD_NR_FORMATS,
	[V_FORMAT] = KVD_NR_FORMATS,
	[ORDER] = KVD_NR_TILE_ORDERS,
	[PAGE] = 3,
	[K_DIM] = 5,
	[V_DIM] = 5,
	[GROUP] = 3,
	[DTYPE] = KVD_NR_DTYPES,
	[ROPE] = KVD_NR_ROPE_ORDERS,
	[MIXED] = KVD_NR_FORMATS, /* what odd pages are */
	[OVERLAY] = 2,
	[WINDOW] = 2,
	[SOFTCAP] = 2,
	[SINKS] = 2,
	[CHUNK] = 2,
};

/* kvquant's keys are never stored turned. */
static int allowed(const uint32_t *x)
{
	return format_coding(x[K_FORMAT]) != CODING_KVQUANT ||
	       x[ROPE] != KVD_ROPE_POST;
}

static struct shape shape_of(const uint32_t *x)
{
	struct shape s = {
		.k_dim = dims[x[K_DIM]],
		.v_dim = dims[x[V_DIM]],
		.nr_heads = x[GROUP] ? 1 : 2,
		.group = groups[x[GROUP]],
		.page_tokens = 32u << x[PAGE],
		.format = { { x[K_FORMAT], x[V_FORMAT] },
			    { x[MIXED], x[MIXED] } },
		.nr_seqs = 2,
		.softcap = x[SOFTCAP] ? 5.0f : 0,
		.sinks = (int)x[SINKS],
		.rope_order = x[ROPE],
		.v_group = 32u << random_below(3),
		.interleaved = (int)random_below(2),
	};

	s.len[0] = s.page_tokens + 1 + random_below(s.page_tokens);
	s.len[1] = 1 + random_below(s.len[0]);
	s.window = x[WINDOW] ? 1 + random_below(s.len[0]) : 0;
	if (random_below(2))
		s.rope_pairs = 4 * (1 + random_below(s.k_dim / 8));
	return s;
}

static void case_check(const uint32_t *x)
{
	struct shape s = shape_of(x);
	const uint32_t rows = x[CHUNK] ? 3 : 1;
	struct world w;

	world_init(&w, &s);
	world_fill(&w);
	if (x[OVERLAY])
		world_overlay(&w, 0, 1);
	rows_check(&w, x[ORDER], x[DTYPE], s.len[0] - rows, rows);
	rows_check(&w, x[ORDER], x[DTYPE], random_below(s.len[1]), 1);
	world_fini(&w);
}

/* Every value of every factor with every value of every other. */
static void test_pairs(void **state)
{
	struct pairwise p;
	uint32_t x[NR_FACTORS], nr = 0;

	pairwise_init(&p, factors, NR_FACTORS, allowed);
	for (; pairwise_next(&p, x); nr++)
		case_check(x);
	printf("%u cases\n", nr);
	pairwise_fini(&p);
}

/* Latent attention: keys are values. */
static void test_mla(void **state)
{
	uint32_t f;

	for (f = 0; f < KVD_NR_FORMATS; f++) {
		struct shape s = plain(f, f);
		struct world w;

		s.k_dim = random_below(2) ? 576 : 72;
		s.v_dim = 0;
		s.group = 5;
		s.rope_order = KVD_ROPE_NONE;
		s.len[0] = 40 + random_below(30);
		world_init(&w, &s);
		world_fill(&w);
		rows_check(&w, KVD_TILE_ROW, f % KVD_NR_DTYPES, s.len[0] - 2, 2);
		world_fini(&w);
	}
}

/* Dims that no tensor core takes, and the largest. */
static void test_dims(void **state)
{
	static const uint32_t odd[][2] = { { 8, 24 }, { 80, 72 }, { 40, 1024 },
					   { 1024, 8 }, { 1024, 1024 } };
	uint32_t f, i;

	for (f = 0; f < KVD_NR_FORMATS; f++)
		for (i = 0; i < 5; i++) {
			struct shape s = plain(f, f);
			struct world w;

			s.k_dim = odd[i][0];
			s.v_dim = odd[i][1];
			s.len[0] = i < 2 ? 70 : 9;
			world_init(&w, &s);
			world_fill(&w);
			rows_check(&w, KVD_TILE_ROW, KVD_DTYPE_F32,
				   s.len[0] - 1, 1);
			world_fini(&w);
		}
}

static void test_worst(void **state)
{
	uint32_t i, j;

	for (i = 0; i < KVD_NR_TILE_ORDERS; i++)
		for (j = 0; j < KVD_NR_DTYPES; j++)
			printf("order %u, dtype %u: worst error %.2g, "
			       "bound %.2g\n", i, j, call_worst[i][j],
			       call_bounds[i][j]);
}

static int setup(void **state)
{
	random_seed();
	return gpu_setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tails), cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_pairs), cmocka_unit_test(test_mla),
		cmocka_unit_test(test_dims),  cmocka_unit_test(test_worst),
	};

	return cmocka_run_group_tests(tests, setup, gpu_teardown);
}
