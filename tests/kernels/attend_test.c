/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_test.c - attention of every kernel set against float64.
 *
 * Bound: an element of out differs from float64 over the dequantized pages by
 * at most BOUND times the largest |V|, lse by at most BOUND times
 * max(1, |lse|). Keys and values are normal, scores span about +-6.
 */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/kernels/random.h"
#include "tests/kernels/world.h"

#define BOUND 1e-5

static double worst; /* of all compared, as a part of the bound's unit */

static void compare(double got, double want, double unit)
{
	double err = fabs(got - want) / unit;

	if (!(err <= BOUND))
		fail_msg("got %.9g, want %.9g", got, want);
	worst = err > worst ? err : worst;
}

/* A token and a head of each sequence against the oracle. */
static void check_rows(struct world *w, uint32_t first, uint32_t n,
                       const float *out, const float *lse)
{
	uint32_t heads = w->s.nr_heads * w->s.group, i, h, d, pos;
	double want[KVD_MAX_DIM], want_lse;

	for (i = 0; i < w->s.nr_seqs; i++) {
		if (first >= w->s.len[i])
			continue;
		pos = w->s.len[i] - first < n ? w->s.len[i] - first : n;
		pos = first + random_below(pos);
		h = random_below(heads);
		world_oracle(w, i, pos, h, want, &want_lse);
		h += world_row(w, i, pos) * heads;
		for (d = 0; d < w->v_out; d++)
			compare(out[(size_t)h * w->v_out + d], want[d], 4);
		compare(lse[h], want_lse, fmax(1, fabs(want_lse)));
	}
}

static void check_shape(const struct shape *s)
{
	const struct host_kernels *k;
	uint32_t i, first, longest = 0;
	float *out, *lse;
	struct world w;
	size_t rows;

	world_init(&w, s);
	world_append(&w, &host_kernels_ref, 0, UINT32_MAX, 1);
	rows = (size_t)w.nr_tokens * s->nr_heads * s->group;
	out = malloc(rows * w.v_out * sizeof(*out));
	lse = malloc(rows * sizeof(*lse));
	for (i = 0; i < s->nr_seqs; i++)
		longest = s->len[i] > longest ? s->len[i] : longest;
	for (i = 0; (k = host_kernels_nth(i)); i++) {
		first = longest - 1 - random_below(longest < 5 ? longest : 5);
		assert_int_equal(
			world_attend(&w, k, first, UINT32_MAX, 1, out, lse), 0);
		check_rows(&w, first, UINT32_MAX, out, lse);
		first = random_below(longest);
		assert_int_equal(world_attend(&w, k, first, 1, 1, out, lse), 0);
		check_rows(&w, first, 1, out, lse);
	}
	free(out);
	free(lse);
	world_fini(&w);
}

/* What a shape does not fix is drawn. */
static void random_rest(struct shape *s, uint32_t max_len)
{
	uint32_t i;

	s->nr_heads = 1 + random_below(2);
	s->nr_seqs = 1 + random_below(WORLD_SEQS);
	for (i = 0; i < s->nr_seqs; i++)
		s->len[i] = 1 + random_below(max_len);
	s->window = random_below(2) ? 1 + random_below(max_len) : 0;
	s->softcap = random_below(3) ? 0 : 5.0f;
	s->sinks = random_below(2);
	if (shape_tiles(s))
		s->tile_order = random_below(2);
}

static const uint32_t dims[] = { 8, 64, 72, 80, 96, 128, 256 };
static const uint32_t groups[] = { 1, 2, 3, 4, 7, 8 };

static void test_shapes(void **state)
{
	uint32_t d, g, f, pt;

	for (d = 0; d < sizeof(dims) / 4; d++)
		for (g = 0; g < sizeof(groups) / 4; g++)
			for (f = 0; f <= KVD_INT8; f++)
				for (pt = 32; pt <= 128; pt *= 2) {
					struct shape s = {
						.k_dim = dims[d],
						.v_dim = dims[d],
						.group = groups[g],
						.page_tokens = pt,
						.format = { { f, f },
						            { f, f } },
					};

					random_rest(&s, 150);
					check_shape(&s);
				}
}

/* Any pair of formats, pages of two kinds in one sequence, K as V. */
static void test_mixed(void **state)
{
	uint32_t n;

	for (n = 0; n < 81; n++) {
		struct shape s = {
			.k_dim = 8 * (1 + random_below(20)),
			.v_dim = 8 * random_below(20),
			.group = 1 + random_below(9),
			.page_tokens = 32u << random_below(3),
			.format = { { n % 3, n / 3 % 3 },
			            { n / 9 % 3, n / 27 % 3 } },
		};

		random_rest(&s, 300);
		check_shape(&s);
	}
}

/* Past a run, with windows that begin in another one. */
static void test_long(void **state)
{
	uint32_t n;

	for (n = 0; n < 6; n++) {
		struct shape s = {
			.k_dim = 64,
			.v_dim = 64,
			.nr_heads = 1,
			.group = 4,
			.page_tokens = 32u << n % 3,
			.format = { { n % 3, n % 3 }, { n % 3, n % 3 } },
			.nr_seqs = 2,
			.len = { 1024 + random_below(3000),
			         2048 + random_below(2) },
			.window = n < 3 ? 0 : 900 + random_below(1500),
			.sinks = n % 2,
		};

		check_shape(&s);
	}
}

static void test_worst(void **state)
{
	printf("worst error %.2g of the bound's unit, bound %.2g\n", worst,
	       BOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_worst),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
