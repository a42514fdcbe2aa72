/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_share_test.c - sequences that begin with the same pages, and pages
 * found in an overlay: not a bit differs from each sequence alone.
 */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/share.h"
#include "tests/kernels/random.h"
#include "tests/kernels/world.h"

#define RUN 1024u /* tokens: what is shared, or not, at once */

struct result {
	float *out, *lse;
	size_t out_bytes, lse_bytes;
};

static void result_init(struct result *r, const struct world *w)
{
	size_t rows = (size_t)w->nr_tokens * w->s.nr_heads * w->s.group;

	r->out_bytes = rows * w->v_out * sizeof(float);
	r->lse_bytes = rows * sizeof(float);
	r->out = calloc(1, r->out_bytes);
	r->lse = calloc(1, r->lse_bytes);
	assert(r->out && r->lse);
}

static void result_fini(struct result *r)
{
	free(r->out);
	free(r->lse);
}

static void shape_init(struct shape *s, uint32_t n)
{
	uint32_t f = n % KVD_NR_FORMATS, i;

	*s = (struct shape){
		.k_dim = n % 3 ? 64 : 80,
		.v_dim = 64,
		.nr_heads = 1 + n % 2,
		.group = 1 + random_below(5),
		.page_tokens = 32u << random_below(3),
		.format = { { f, f }, { KVD_F16, f } },
		.nr_seqs = WORLD_SEQS,
		.window = random_below(3) ? 0 : 200 + random_below(2500),
		.sinks = n % 2,
		.rope_order = format_coding(f) == CODING_KVQUANT ?
				      KVD_ROPE_PRE :
				      KVD_ROPE_POST,
	};
	for (i = 0; i < WORLD_SEQS; i++)
		s->len[i] = 2 * RUN + 300 + random_below(900);
}

/* The last rows of all sequences, at once and one sequence after the other. */
static void check(struct world *w, const struct host_kernels *k)
{
	uint32_t shortest = UINT32_MAX, i, threads;
	struct result alone, batch;

	for (i = 0; i < w->s.nr_seqs; i++)
		if (w->s.len[i] < shortest)
			shortest = w->s.len[i];
	shortest -= 1 + random_below(4);
	result_init(&alone, w);
	for (i = 0; i < w->s.nr_seqs; i++) {
		w->only = i + 1;
		assert_int_equal(world_attend(w, k, shortest, 3, 1, alone.out,
					      alone.lse), 0);
	}
	w->only = 0;
	for (threads = 1; threads < 4; threads++) {
		result_init(&batch, w);
		assert_int_equal(world_attend(w, k, shortest, 3, threads,
					      batch.out, batch.lse), 0);
		assert_memory_equal(alone.out, batch.out, alone.out_bytes);
		assert_memory_equal(alone.lse, batch.lse, alone.lse_bytes);
		result_fini(&batch);
	}
	result_fini(&alone);
}

/* Prefixes of other lengths; one sequence shares nothing. */
static void test_prefix(void **state)
{
	const struct host_kernels *k;
	struct shape s;
	struct world w;
	uint32_t n, i;

	for (n = 0; n < 2 * KVD_NR_FORMATS; n++) {
		shape_init(&s, n);
		world_init(&w, &s);
		world_share(&w, 1, 2 * RUN / s.page_tokens);
		world_share(&w, 2 + n % 2,
			    (RUN + random_below(RUN)) / s.page_tokens);
		world_fill(&w);
		for (i = 1; (k = host_kernels_nth(i)); i++)
			check(&w, k);
		world_fini(&w);
	}
}

/* What is found to be shared: else the test above would show nothing. */
static void test_groups(void **state)
{
	struct shape s;
	struct world w;
	struct share share;
	struct kv_attend_args a = { .nr_seqs = WORLD_SEQS };
	uint32_t i;

	shape_init(&s, 0);
	world_init(&w, &s);
	world_share(&w, 1, 2 * RUN / s.page_tokens);
	world_share(&w, 3, 2 * RUN / s.page_tokens - 1);
	for (i = 0; i < WORLD_SEQS; i++) {
		w.seqs[i].pos = 2 * RUN + 10;
		w.seqs[i].nr_rows = 1 + i;
		w.seqs[i].first_row = 10 * i;
	}
	memcpy(a.layouts, w.layouts, sizeof(a.layouts));
	a.pages = w.pages;
	a.seqs = w.seqs;
	assert_int_equal(share_init(&share, &a, RUN, 8), 0);
	assert_int_equal(share.nr_groups, 1);
	assert_int_equal(share.groups[0].nr_tokens, 1 + 2 + 4);
	assert_int_equal(share.groups[0].nr_runs, 1);
	assert_int_equal(share.tokens[2].row, 11);
	assert_int_equal(share.tokens[2].pos, 2 * RUN + 11);
	assert_int_equal(share.runs[2], 0);
	assert_int_equal(share.runs[3], 1);
	assert_int_equal(share.first[3], 3);
	share_fini(&share);
	w.seqs[1].pos = RUN - 1; /* sees no whole run before its own */
	assert_int_equal(share_init(&share, &a, RUN, 2), 0);
	assert_int_equal(share.nr_groups, 0); /* and 4 rows are too many */
	share_fini(&share);
	world_fini(&w);
}

/* The same pages by way of an overlay, on ref too. */
static void test_overlay(void **state)
{
	const struct host_kernels *k;
	struct result plain, over;
	struct shape s;
	struct world w;
	uint32_t n, i, q;

	for (n = 0; n < 2 * KVD_NR_FORMATS; n++)
		for (i = 0; (k = host_kernels_nth(i)); i++) {
			shape_init(&s, n);
			s.window = 0;
			for (q = 0; q < WORLD_SEQS; q++)
				s.len[q] = 150 + random_below(200);
			world_init(&w, &s);
			world_fill(&w);
			result_init(&plain, &w);
			result_init(&over, &w);
			world_attend(&w, k, 140, 3, 1, plain.out, plain.lse);
			for (q = 0; q < WORLD_SEQS; q++)
				world_overlay(&w, q, 1);
			world_attend(&w, k, 140, 3, 2, over.out, over.lse);
			assert_memory_equal(plain.out, over.out,
					    plain.out_bytes);
			assert_memory_equal(plain.lse, over.lse,
					    plain.lse_bytes);
			result_fini(&plain);
			result_fini(&over);
			world_fini(&w);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_overlay),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
