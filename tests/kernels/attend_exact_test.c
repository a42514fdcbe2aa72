/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_exact_test.c - what must not change a single bit of attention:
 * threads, chunks of a prompt, company in a batch, another run, what lies
 * past a sequence's end, and the width of the vectors.
 */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/kernels/random.h"
#include "tests/kernels/world.h"

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

static void attend(struct world *w, const struct host_kernels *k,
                   uint32_t first, uint32_t n, uint32_t nr_threads,
                   struct result *r)
{
	assert_int_equal(
		world_attend(w, k, first, n, nr_threads, r->out, r->lse), 0);
}

static void same(const struct result *a, const struct result *b)
{
	assert_memory_equal(a->out, b->out, a->out_bytes);
	assert_memory_equal(a->lse, b->lse, a->lse_bytes);
}

/* The prompt appended and attended in chunks of a random or given size. */
static void prefill(struct world *w, const struct host_kernels *k,
                    uint32_t chunk, uint32_t nr_threads, struct result *r)
{
	uint32_t first, n, longest = 0, i;

	for (i = 0; i < w->s.nr_seqs; i++)
		longest = w->s.len[i] > longest ? w->s.len[i] : longest;
	world_wipe(w);
	for (first = 0; first < longest; first += n) {
		n = chunk ? chunk : 1 + random_below(100);
		world_append(w, k, first, n, nr_threads);
		attend(w, k, first, n, nr_threads, r);
	}
}

static void random_shape(struct shape *s, uint32_t n)
{
	static const uint32_t groups[] = { 1, 3, 4, 5, 7, 8 };

	*s = (struct shape){
		.k_dim = 8 * (1 + random_below(17)),
		.v_dim = n % 4 ? 8 * (1 + random_below(17)) : 0,
		.nr_heads = 1 + random_below(2),
		.group = groups[n % 6],
		.page_tokens = 32u << n % 3,
		.format = { { n % 3, n / 3 % 3 }, { n / 2 % 3, n % 3 } },
		.nr_seqs = 1 + n % 2,
		.len = { 100 + random_below(200), 1 + random_below(150) },
		.window = n % 5 ? 0 : 1 + random_below(120),
		.softcap = n % 7 ? 0 : 8.0f,
		.sinks = n % 2,
	};
	if (n % 4 == 3) {
		s->k_dim = (s->k_dim + 31) / 32 * 32;
		s->v_dim = (s->v_dim + 31) / 32 * 32;
		s->tile_order = KVD_TILE_MMA;
	}
}

/*
 * Chunks of 1 hold garbage past every row's position: had it been read, the
 * chunk of all tokens, where there is none, would differ.
 */
static void test_chunks(void **state)
{
	static const uint32_t chunks[] = { 1, 7, 32, 0, 0, 64 };
	const struct host_kernels *k;
	struct result whole, parts;
	struct shape s;
	struct world w;
	uint32_t n, i, c;

	for (n = 0; n < 18; n++) {
		random_shape(&s, n);
		world_init(&w, &s);
		result_init(&whole, &w);
		result_init(&parts, &w);
		for (i = n < 2 ? 0 : 1; (k = host_kernels_nth(i)); i++) {
			prefill(&w, k, 1000, 1, &whole);
			for (c = 0; c < (i ? 6 : 1); c++) {
				memset(parts.out, 0, parts.out_bytes);
				prefill(&w, k, chunks[c], 1 + c % 3, &parts);
				same(&whole, &parts);
			}
		}
		result_fini(&whole);
		result_fini(&parts);
		world_fini(&w);
	}
}

/* Enough work that threads are used, by tile and by run. */
static void test_threads(void **state)
{
	static const uint32_t last[] = { 1, 2, 130 }; /* query tokens */
	const struct host_kernels *k;
	struct result one, many;
	struct shape s = {
		.k_dim = 64,
		.v_dim = 64,
		.nr_heads = 2,
		.group = 4,
		.page_tokens = 64,
		.nr_seqs = 2,
		.len = { 4700, 4650 },
		.format = { { KVD_F16, KVD_F16 }, { KVD_INT8, KVD_INT8 } },
	};
	struct world w;
	uint32_t i, n, t;

	world_init(&w, &s);
	result_init(&one, &w);
	result_init(&many, &w);
	world_append(&w, host_kernels(), 0, 5000, 0);
	for (i = 1; (k = host_kernels_nth(i)); i++)
		for (n = 0; n < 3; n++) {
			attend(&w, k, 4650 - last[n], last[n], 1, &one);
			for (t = 0; t < 5; t++) {
				attend(&w, k, 4650 - last[n], last[n], t,
				       &many);
				same(&one, &many);
			}
		}
	result_fini(&one);
	result_fini(&many);
	world_fini(&w);
}

/* A sequence alone, and as one of a batch. */
static void test_company(void **state)
{
	const struct host_kernels *k;
	struct result batch, alone;
	struct shape s;
	struct world w;
	uint32_t i, n;

	for (n = 0; n < 6; n++) {
		random_shape(&s, n);
		s.nr_seqs = 3;
		s.len[2] = s.len[1];
		world_init(&w, &s);
		result_init(&batch, &w);
		result_init(&alone, &w);
		world_append(&w, host_kernels(), 0, 1000, 1);
		for (i = 1; (k = host_kernels_nth(i)); i++) {
			w.s.nr_seqs = 3;
			attend(&w, k, 0, 1000, 1, &batch);
			w.s.nr_seqs = 1;
			attend(&w, k, 0, 1000, 1, &alone);
			assert_memory_equal(batch.out, alone.out,
			                    (size_t)s.len[0] * s.nr_heads *
			                            s.group * w.v_out * 4);
		}
		result_fini(&batch);
		result_fini(&alone);
		world_fini(&w);
	}
}

/* AVX-512's source on emulated vectors (emulate512.h). */
extern const struct host_kernels emulated_avx512;

/* AVX2 and AVX-512, emulated and real, agree to the bit. */
static void test_widths(void **state)
{
	const struct host_kernels *narrow = host_kernels_nth(1);
	const struct host_kernels *wide = host_kernels_nth(2);
	struct result a, b;
	struct shape s;
	struct world w;
	uint32_t n;

	for (n = 0; n < 60; n++) {
		random_shape(&s, n);
		world_init(&w, &s);
		result_init(&a, &w);
		result_init(&b, &w);
		world_append(&w, narrow, 0, 1000, 1);
		attend(&w, narrow, 0, 1000, 1, &a);
		attend(&w, &emulated_avx512, 0, 1000, 1, &b);
		same(&a, &b);
		if (wide) {
			attend(&w, wide, 0, 1000, 1, &b);
			same(&a, &b);
		}
		result_fini(&a);
		result_fini(&b);
		world_fini(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_company),
		cmocka_unit_test(test_widths),
	};

	if (!host_kernels_nth(1))
		return 77;
	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
