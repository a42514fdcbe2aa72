/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_formats_test.c - attention over every format against float64 over
 * the dequantized pages: any pair of K and V, pages of two kinds in one
 * sequence, keys held before RoPE, any basis.
 *
 * Bound: a row of out differs from float64 by less than BOUND of its length,
 * lse by less than BOUND times max(1, |lse|).
 */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/kernels/random.h"
#include "tests/kernels/twin.h"
#include "tests/kernels/world.h"

#define BOUND 1e-4 /* a tenth of what is promised */

static double worst;

/* AVX-512's source on emulated vectors (emulate512.h). */
extern const struct host_kernels emulated_avx512;

struct rows {
	float *out, *lse;
	size_t nr, dim;
};

static void rows_init(struct rows *r, const struct world *w)
{
	r->dim = w->v_out;
	r->nr = (size_t)w->nr_tokens * w->s.nr_heads * w->s.group;
	r->out = calloc(r->nr * r->dim, sizeof(*r->out));
	r->lse = calloc(r->nr, sizeof(*r->lse));
	assert(r->out && r->lse);
}

static void rows_fini(struct rows *r)
{
	free(r->out);
	free(r->lse);
}

static void bounded(double err, const char *what, const struct world *w)
{
	const uint32_t(*f)[2] = w->s.format;

	if (!(err < BOUND))
		fail_msg("%s off by %g: %s/%s %s/%s, dims %u %u, group %u, "
			 "page %u, rope %u", what, err,
			 kvd_format_name(f[0][0]), kvd_format_name(f[0][1]),
			 kvd_format_name(f[1][0]), kvd_format_name(f[1][1]),
			 w->s.k_dim, w->s.v_dim, w->s.group, w->s.page_tokens,
			 w->s.rope_order);
	worst = err > worst ? err : worst;
}

static void compare(const struct rows *got, const struct rows *want,
		    const struct world *w)
{
	size_t i, d;

	for (i = 0; i < got->nr; i++) {
		double diff = 0, sum = 1e-30;

		for (d = 0; d < got->dim; d++) {
			double x = want->out[i * got->dim + d];
			double e = got->out[i * got->dim + d] - x;

			diff += e * e;
			sum += x * x;
		}
		bounded(sqrt(diff / sum), "out", w);
		bounded(fabs(got->lse[i] - want->lse[i]) /
				fmax(1, fabs(want->lse[i])),
			"lse", w);
	}
}

/* Rows first .. first + n - 1 of every sequence, on every kernel set. */
static void check_rows(struct world *w, uint32_t first, uint32_t n,
		       int emulated)
{
	const struct host_kernels *k;
	struct rows want, got, wide;
	uint32_t i;

	rows_init(&want, w);
	rows_init(&got, w);
	rows_init(&wide, w);
	world_attend(w, &host_kernels_ref, first, n, 1, want.out, want.lse);
	for (i = 1; (k = host_kernels_nth(i)); i++) {
		world_attend(w, k, first, n, 1, got.out, got.lse);
		compare(&got, &want, w);
	}
	if (emulated) {
		world_attend(w, &emulated_avx512, first, n, 1, wide.out,
			     wide.lse);
		assert_memory_equal(wide.out, got.out,
				    got.nr * got.dim * sizeof(float));
		assert_memory_equal(wide.lse, got.lse, got.nr * sizeof(float));
	}
	rows_fini(&want);
	rows_fini(&got);
	rows_fini(&wide);
}

static const uint32_t dims[] = { 64, 80, 96, 128, 8, 72, 256 };
static const uint32_t groups[] = { 1, 4, 7, 8, 2, 3 };

static int is_kvquant(uint32_t f)
{
	return format_coding(f) == CODING_KVQUANT;
}

/* What the formats do not decide. */
static void shape_rest(struct shape *s, uint32_t n, uint32_t max_len)
{
	uint32_t i;

	s->k_dim = dims[n % 7];
	s->v_dim = dims[n / 7 % 7];
	s->nr_heads = 1 + random_below(2);
	s->group = groups[n % 6];
	s->page_tokens = 32u << random_below(3);
	s->nr_seqs = 1 + random_below(2);
	for (i = 0; i < s->nr_seqs; i++)
		s->len[i] = 1 + random_below(max_len);
	s->window = random_below(3) ? 0 : 1 + random_below(max_len);
	s->softcap = random_below(4) ? 0 : 5.0f;
	s->sinks = random_below(2);
	if (shape_tiles(s))
		s->tile_order = random_below(2);
	s->v_group = 32u << random_below(3);
	s->rope_order = random_below(2);
	if (is_kvquant(s->format[0][0]) || !random_below(4))
		s->rope_order = random_below(3) ? KVD_ROPE_PRE : KVD_ROPE_NONE;
	s->interleaved = random_below(2);
	if (!random_below(3))
		s->rope_pairs = 4 * (1 + random_below(s->k_dim / 8));
}

static void check_shape(const struct shape *s, uint32_t rows)
{
	uint32_t longest = 0, i, first;
	struct world w;

	for (i = 0; i < s->nr_seqs; i++)
		longest = s->len[i] > longest ? s->len[i] : longest;
	first = rows < longest ? longest - rows : 0;
	world_init(&w, s);
	world_fill(&w);
	check_rows(&w, first, UINT32_MAX, 1);
	first = random_below(longest);
	check_rows(&w, first, 1, 0);
	world_fini(&w);
}

/* Every format as K with every one as V. */
static void test_pairs(void **state)
{
	uint32_t k, v, n = random_below(1000);

	for (k = 0; k < KVD_NR_FORMATS; k++)
		for (v = 0; v < KVD_NR_FORMATS; v++, n++) {
			struct shape s = { .format = { { k, v }, { k, v } } };

			shape_rest(&s, n, 200);
			check_shape(&s, 3);
		}
}

/* Pages of two kinds: sealed and exact, demoted. */
static void test_mixed(void **state)
{
	uint32_t n;

	for (n = 0; n < 200; n++) {
		struct shape s = { 0 };

		s.format[0][0] = random_below(KVD_NR_FORMATS);
		s.format[0][1] = random_below(KVD_NR_FORMATS);
		s.format[1][0] = random_below(KVD_NR_FORMATS);
		s.format[1][1] = random_below(KVD_NR_FORMATS);
		if (is_kvquant(s.format[1][0]))
			s.format[1][0] = s.format[0][0];
		shape_rest(&s, random_below(1000), 300);
		check_shape(&s, 3);
	}
}

/* Every column of a prompt. */
static void test_prefill(void **state)
{
	uint32_t f;

	for (f = 0; f < KVD_NR_FORMATS; f++) {
		struct shape s = { .format = { { f, f }, { KVD_F16, f } } };

		shape_rest(&s, random_below(1000), 100);
		s.k_dim = s.v_dim = 64;
		s.tile_order = f % 2;
		s.rope_pairs = 0;
		check_shape(&s, UINT32_MAX);
	}
}

/* Latent attention: keys are values. */
static void test_mla(void **state)
{
	uint32_t f;

	for (f = 0; f < KVD_NR_FORMATS; f++) {
		struct shape s = { .format = { { f, f }, { f, f } } };

		shape_rest(&s, random_below(1000), 150);
		s.k_dim = random_below(2) ? 576 : 72;
		s.v_dim = 0;
		s.tile_order = KVD_TILE_ROW;
		s.rope_pairs = 0;
		s.rope_order = is_kvquant(f) ? KVD_ROPE_NONE : KVD_ROPE_POST;
		s.page_tokens = 32u << random_below(2);
		s.group = 16;
		check_shape(&s, 2);
	}
}

static void same(const struct rows *a, const struct rows *b)
{
	assert_memory_equal(a->out, b->out, a->nr * a->dim * sizeof(float));
	assert_memory_equal(a->lse, b->lse, a->nr * sizeof(float));
}

/* A prompt in chunks, and with nothing yet written past each chunk. */
static void test_chunks(void **state)
{
	const struct host_kernels *k;
	struct rows whole, parts;
	struct shape s;
	struct world w;
	uint32_t n, i, at, by;

	for (n = 0; n < 2 * KVD_NR_FORMATS; n++) {
		uint32_t f = n % KVD_NR_FORMATS;

		s = (struct shape){ .format = { { f, f }, { KVD_BF16, f } } };
		shape_rest(&s, random_below(1000), 200);
		world_init(&w, &s);
		world_fill(&w);
		rows_init(&whole, &w);
		rows_init(&parts, &w);
		for (i = 1; (k = host_kernels_nth(i)); i++) {
			world_attend(&w, k, 0, 1000, 1, whole.out, whole.lse);
			for (at = 0; at < 200; at += by) {
				by = 1 + random_below(60);
				world_attend(&w, k, at, by, 1 + by % 3,
					     parts.out, parts.lse);
			}
			same(&whole, &parts);
		}
		memset(parts.out, 0xff, parts.nr * parts.dim * sizeof(float));
		for (at = 200; at > 0; at -= by) {
			by = 1 + random_below(at < 30 ? at : 30);
			world_poison(&w, at);
			world_attend(&w, host_kernels_nth(1), at - by, by, 2,
				     parts.out, parts.lse);
		}
		same(&whole, &parts);
		rows_fini(&whole);
		rows_fini(&parts);
		world_fini(&w);
	}
}

static void check_twin(struct world *w, const struct host_kernels *k)
{
	struct rows got, want;
	struct world twin;

	twin_init(&twin, w, KVD_TILE_MMA);
	rows_init(&got, w);
	rows_init(&want, w);
	world_attend(w, k, 0, 1000, 1, want.out, want.lse);
	world_attend(&twin, k, 0, 1000, 1, got.out, got.lse);
	same(&got, &want);
	rows_fini(&got);
	rows_fini(&want);
	twin_fini(&twin);
}

/* The order of codes changes no bit, on any kernel set. */
static void test_orders(void **state)
{
	static const uint32_t tile_dims[] = { 32, 64, 96, 128 };
	const struct host_kernels *k;
	struct world w;
	uint32_t n, i;

	for (n = 0; n < 4 * KVD_NR_FORMATS; n++) {
		uint32_t f = n % KVD_NR_FORMATS;
		struct shape s = { .format = { { f, f }, { KVD_F16, f } } };

		shape_rest(&s, n, 80);
		s.k_dim = tile_dims[n / KVD_NR_FORMATS];
		s.v_dim = tile_dims[random_below(4)];
		s.tile_order = KVD_TILE_ROW;
		s.rope_pairs = 0;
		world_init(&w, &s);
		world_fill(&w);
		for (i = 0; (k = host_kernels_nth(i)); i++)
			check_twin(&w, k);
		check_twin(&w, &emulated_avx512);
		world_fini(&w);
	}
}

static void test_worst(void **state)
{
	printf("worst error %.2g, bound %.2g\n", worst, BOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_prefill),
		cmocka_unit_test(test_mla),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_worst),
	};

	if (!host_kernels_nth(1))
		return 77;
	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
