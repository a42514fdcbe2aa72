/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert_test.c - pages stored once more: kivi's published numbers, what
 * every format promises of its values, and the same bytes from every set.
 */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/fp8.h"
#include "kernels/host/side.h"
#include "tests/kernels/random.h"
#include "tests/kernels/sheet.h"

#define LAYERS 2u
#define HEADS  2u
#define FILL   0x5a

static const uint32_t dims[] = { 64, 80, 96, 128, 256, 72 };
static const uint32_t targets[] = { KVD_F16,	  KVD_BF16,	KVD_INT8,
				    KVD_FP8_E4M3, KVD_FP8_E5M2, KVD_INT4,
				    KVD_INT4H,	  KVD_KIVI4,	KVD_KIVI2 };
/* Formats whose values need no profile. */
static const uint32_t sources[] = { KVD_INT8,	  KVD_FP8_E4M3, KVD_FP8_E5M2,
				    KVD_INT4,	  KVD_INT4H,	KVD_KIVI4,
				    KVD_KIVI2,	  KVD_KVARN4,	KVD_KVARN3,
				    KVD_KVARN2 };

#define NR(a) (sizeof(a) / sizeof((a)[0]))

/* A page, and the page it becomes. */
struct pair {
	struct kvd_geometry g;
	struct page_layout l[2];
	uint8_t *page[2];
	float k_scale[LAYERS * HEADS], v_scale[LAYERS * HEADS];
	uint32_t nonfinite;
};

static void pair_init(struct pair *p, uint32_t from, uint32_t to,
		      uint32_t k_dim, uint32_t v_dim, uint32_t tokens,
		      uint32_t v_group)
{
	uint32_t i;

	*p = (struct pair){ 0 };
	p->g = (struct kvd_geometry){
		.size = sizeof(p->g),
		.page_tokens = tokens,
		.k_format = to,
		.v_format = to,
		.v_group = v_group,
		.nr_groups = 1,
		.groups = { { .nr_layers = LAYERS,
			      .nr_kv_heads = HEADS,
			      .k_dim = k_dim,
			      .v_dim = v_dim } },
	};
	assert_null(kvd_geometry_check(&p->g));
	for (i = 0; i < 2; i++) {
		uint32_t f = i ? to : from;

		assert_int_equal(page_layout_init(&p->l[i], &p->g, 0, f, f), 0);
		p->page[i] = malloc(p->l[i].page_bytes);
		assert_non_null(p->page[i]);
		memset(p->page[i], FILL, p->l[i].page_bytes);
	}
	for (i = 0; i < LAYERS * HEADS; i++) {
		p->k_scale[i] = 0.013f * (1 + i);
		p->v_scale[i] = i ? 0.1f * i : 1.0f;
	}
}

static void pair_fini(struct pair *p)
{
	free(p->page[0]);
	free(p->page[1]);
}

static void pair_convert(struct pair *p, const struct host_kernels *k,
			 uint32_t nr_tokens, uint32_t nr_threads)
{
	struct kv_tables tables = { .nr_heads = HEADS,
				    .k_scale = p->k_scale,
				    .v_scale = p->v_scale };
	struct kv_convert_page page = { .from = { 0, 0, 0 },
					.to = { 0, 1, 1 },
					.nr_tokens = nr_tokens };
	struct kv_convert_args a = {
		.layouts = { p->l[0], p->l[1] },
		.bases = (void *const *)p->page,
		.pages = &page,
		.nr_pages = 1,
		.nr_layers = LAYERS,
		.tables = &tables,
		.nonfinite = &p->nonfinite,
		.nr_threads = nr_threads,
	};

	k->convert(&a);
}

static struct side pair_side(struct pair *p, int to, uint32_t layer,
			     uint32_t head, int is_v)
{
	return side_at(&p->l[to], p->page[to], layer, head, is_v);
}

static uint32_t code_at(const struct side *s, uint32_t t, uint32_t d)
{
	return pack_get(format_bits(s->format), s->codes + t * s->row, s->dim,
			d);
}

/* Element of a 16-bit side. */
static void put(struct side *s, uint32_t t, uint32_t d, float x)
{
	uint16_t *row = (uint16_t *)(s->codes + (size_t)t * s->row);

	row[d] = s->format == KVD_F16 ? f16_from_f32(x) : bf16_from_f32(x);
}

static float hard_value(uint32_t kind)
{
	switch (kind) {
	case 0:
		return 0.0f;
	case 1:
		return -3.25f;
	case 2:
		return random_normal() * 0x1p-22f;
	case 3:
		return random_normal() * 30000;
	case 4:
		return (float)random_below(16) * 0.5f;
	case 5:
		return f32_from_bits((uint32_t)random_u64());
	default:
		return random_normal() * ldexpf(1, (int)random_below(20) - 10);
	}
}

/* Fills a 16-bit page; rows and channels each of some kind. */
static void fill(struct pair *p, int hard)
{
	uint32_t layer, h, t, d;
	int v;

	for (layer = 0; layer < LAYERS; layer++)
		for (h = 0; h < HEADS; h++)
			for (v = 0; v <= (p->l[0].v_dim > 0); v++) {
				struct side s = pair_side(p, 0, layer, h, v);
				uint32_t kind = random_below(12);

				for (t = 0; t < s.tokens; t++)
					for (d = 0; d < s.dim; d++)
						put(&s, t, d,
						    !hard ? random_normal() :
						    v	  ? hard_value(
								(kind + t) %
								12) :
							    hard_value(
								    (kind + d) %
								    12));
			}
}

/* KIVI's own numbers: codes, scales and values, to the bit. */
static void check_kivi(const char *file, uint32_t format)
{
	float k[256], kc[256], kd[256], ks[8], km[8];
	float v[1024], vc[1024], vd[1024], vs[32], vm[32], got[1024];
	uint32_t rows, dim, i, t, d;
	struct pair p;

	numbers(file, "K", k, &rows, &dim);
	numbers(file, "K_code", kc, &rows, &dim);
	numbers(file, "K_deq", kd, &rows, &dim);
	numbers(file, "K_scale", ks, &rows, &dim);
	numbers(file, "K_min", km, &rows, &dim);
	numbers(file, "V", v, &rows, &dim);
	numbers(file, "V_code", vc, &rows, &dim);
	numbers(file, "V_deq", vd, &rows, &dim);
	numbers(file, "V_scale", vs, &rows, &dim);
	numbers(file, "V_min", vm, &rows, &dim);
	for (i = 0; host_kernels_nth(i); i++) {
		struct side s;

		pair_init(&p, KVD_F16, format, 8, 32, 32, 32);
		fill(&p, 0);
		s = pair_side(&p, 0, 1, 1, 0);
		for (t = 0; t < 256; t++)
			put(&s, t / 8, t % 8, k[t]);
		s = pair_side(&p, 0, 1, 1, 1);
		for (t = 0; t < 1024; t++)
			put(&s, t / 32, t % 32, v[t]);
		pair_convert(&p, host_kernels_nth(i), 32, 1);
		assert_int_equal(p.nonfinite, 0);
		s = pair_side(&p, 1, 1, 1, 0);
		for (d = 0; d < 8; d++) {
			assert_true(f16_to_f32(side_scales(&s)[d]) == ks[d]);
			assert_true(f16_to_f32(side_mins(&s)[d]) == km[d]);
		}
		for (t = 0; t < 256; t++)
			assert_int_equal(code_at(&s, t / 8, t % 8), kc[t]);
		host_kernels_ref.dequant(&p.l[1], p.page[1], 1, 1, 0, 32, NULL,
					 got);
		assert_memory_equal(got, kd, sizeof(kd));
		s = pair_side(&p, 1, 1, 1, 1);
		for (t = 0; t < 32; t++) {
			assert_true(f16_to_f32(side_affine(&s)[t].scale) ==
				    vs[t]);
			assert_true(f16_to_f32(side_affine(&s)[t].min) ==
				    vm[t]);
		}
		for (t = 0; t < 1024; t++)
			assert_int_equal(code_at(&s, t / 32, t % 32), vc[t]);
		host_kernels_ref.dequant(&p.l[1], p.page[1], 1, 1, 1, 32, NULL,
					 got);
		assert_memory_equal(got, vd, sizeof(vd));
		pair_fini(&p);
	}
}

static void test_kivi(void **state)
{
	check_kivi(VECTORS "/kivi_k4_v4.json", KVD_KIVI4);
	check_kivi(VECTORS "/kivi_k2_v2.json", KVD_KIVI2);
}

static void random_pair(struct pair *p, uint32_t from, uint32_t to)
{
	pair_init(p, from, to, dims[random_below(NR(dims))],
		  random_below(4) ? dims[random_below(NR(dims))] : 0,
		  32u << random_below(3), 32u << random_below(3));
}

/* A page in @from, of one in 16 bits: hard ones some formats refuse whole. */
static void make_source(struct pair *p, uint32_t from)
{
	struct pair open;

	pair_init(&open, random_below(2) ? KVD_F16 : KVD_BF16, from,
		  p->l[0].k_dim, p->l[0].v_dim, p->l[0].page_tokens,
		  p->l[0].v_group);
	fill(&open, random_below(2));
	if (format_coding(from) == CODING_16)
		open.l[1] = open.l[0];
	pair_convert(&open, &host_kernels_ref, open.l[0].page_tokens, 1);
	memcpy(p->page[0], open.page[1], p->l[0].page_bytes);
	pair_fini(&open);
}

static void test_sets_agree(void **state)
{
	uint32_t n, from, i, bad, seen[2] = { 0, 0 };
	const struct host_kernels *k;
	struct pair p;
	uint8_t *want;

	for (n = 0; n < 300; n++) {
		uint32_t to = targets[n % NR(targets)];

		from = random_below(2) ? random_below(2) :
					 sources[random_below(NR(sources))];
		random_pair(&p, from, to);
		if (format_coding(from) == CODING_16)
			fill(&p, n & 1);
		else
			make_source(&p, from);
		pair_convert(&p, &host_kernels_ref, p.l[0].page_tokens, 1);
		want = malloc(p.l[1].page_bytes);
		assert_non_null(want);
		memcpy(want, p.page[1], p.l[1].page_bytes);
		bad = p.nonfinite;
		seen[bad]++;
		for (i = 0; (k = host_kernels_nth(i)); i++) {
			p.nonfinite = 0;
			memset(p.page[1], FILL, p.l[1].page_bytes);
			pair_convert(&p, k, p.l[0].page_tokens,
				     1 + random_below(3));
			assert_int_equal(p.nonfinite, bad);
			assert_memory_equal(p.page[1], want,
					    p.l[1].page_bytes);
		}
		free(want);
		pair_fini(&p);
	}
	assert_true(seen[0] && seen[1]);
}

/* Largest error of a coded element, by what its run's scale is. */
static float bound(const struct side *s, uint32_t t, uint32_t d, float x)
{
	float q = (float)((1u << format_bits(s->format)) - 1), scale, y;

	switch (format_coding(s->format)) {
	case CODING_16:
		return fabsf(x) * (s->format == KVD_F16 ? 0x1p-11f : 0x1p-8f) +
		       0x1p-25f;
	case CODING_FP8:
		memcpy(&scale, s->meta, 4);
		y = fabsf(x) / scale;
		if (s->format == KVD_FP8_E4M3)
			return scale * fmaxf(0x1p-10f, y * 0x1.001p-4f);
		return scale * fmaxf(0x1p-17f, y * 0x1.001p-3f);
	case CODING_KIVI:
		scale = !s->is_v ? f16_to_f32(side_scales(s)[d]) :
				   f16_to_f32(side_affine(s)[d / s->v_group *
								     s->tokens +
							     t]
						      .scale);
		break;
	default:
		scale = f16_to_f32(side_affine(s)[t].scale);
	}
	return scale * (0.5f + q * 0x1p-10f) + q * 0x1p-25f +
	       fabsf(x) * 0x1p-10f;
}

static void check_errors(struct pair *p, const float *x, int is_v)
{
	struct side s = pair_side(p, 1, 1, 0, is_v);
	float *y = malloc(sizeof(float) * s.tokens * s.dim);
	uint32_t i;

	assert_non_null(y);
	host_kernels_ref.dequant(&p->l[1], p->page[1], 1, 0, is_v, s.tokens,
				 NULL, y);
	for (i = 0; i < s.tokens * s.dim; i++)
		assert_true(fabsf(x[i] - y[i]) <=
			    bound(&s, i / s.dim, i % s.dim, x[i]));
	free(y);
}

/* Values come back to half a step; coding what came back changes no code. */
static void test_values(void **state)
{
	uint32_t n, i, same, t;
	struct pair p, again;
	float *x;

	for (n = 0; n < 60; n++) {
		uint32_t to = targets[n % NR(targets)];

		random_pair(&p, KVD_F16, to);
		fill(&p, 0);
		for (i = 0; i < LAYERS * HEADS; i++)
			p.k_scale[i] = p.v_scale[i] = 0.05f;
		pair_convert(&p, host_kernels(), p.l[0].page_tokens, 0);
		assert_int_equal(p.nonfinite, 0);
		x = malloc(sizeof(float) * KVD_MAX_DIM * KVD_MAX_PAGE_TOKENS);
		assert_non_null(x);
		for (i = 0; i <= (p.l[0].v_dim > 0); i++) {
			host_kernels_ref.dequant(&p.l[0], p.page[0], 1, 0, i,
						 p.l[0].page_tokens, NULL, x);
			check_errors(&p, x, i);
		}
		pair_init(&again, KVD_F16, to, p.l[0].k_dim, p.l[0].v_dim,
			  p.l[0].page_tokens, p.l[0].v_group);
		memcpy(again.k_scale, p.k_scale, sizeof(p.k_scale));
		memcpy(again.v_scale, p.v_scale, sizeof(p.v_scale));
		for (i = 0; i <= (p.l[0].v_dim > 0); i++) {
			struct side s = pair_side(&p, 1, 1, 0, i);
			struct side a = pair_side(&again, 1, 1, 0, i);
			struct side open = pair_side(&again, 0, 1, 0, i);

			host_kernels_ref.dequant(&p.l[1], p.page[1], 1, 0, i,
						 s.tokens, NULL, x);
			for (t = 0; t < s.tokens * s.dim; t++)
				put(&open, t / s.dim, t % s.dim, x[t]);
			again.nonfinite = 0;
			pair_convert(&again, host_kernels(), s.tokens, 1);
			for (t = same = 0; t < s.tokens * s.dim; t++)
				same += format_coding(to) == CODING_16 ||
					code_at(&s, t / s.dim, t % s.dim) ==
						code_at(&a, t / s.dim,
							t % s.dim);
			/* f16 has 8 bits' codes only to a rounding. */
			if (to == KVD_INT8)
				assert_true(same * 10 >= t * 9);
			else
				assert_int_equal(same, t);
		}
		free(x);
		pair_fini(&p);
		pair_fini(&again);
	}
}

/* Tokens in another order: the same codes and scales in that order. */
static void test_permutation(void **state)
{
	uint32_t n, t, d, v;

	for (n = 0; n < NR(targets); n++) {
		uint32_t to = targets[n], pt = 64;
		struct pair a, b;

		if (format_coding(to) == CODING_16)
			continue;
		pair_init(&a, KVD_F16, to, 96, 80, pt, 32);
		pair_init(&b, KVD_F16, to, 96, 80, pt, 32);
		fill(&a, 0);
		for (v = 0; v < 2; v++) {
			struct side s = pair_side(&a, 0, 0, 1, v);
			struct side r = pair_side(&b, 0, 0, 1, v);

			for (t = 0; t < pt; t++)
				memcpy(r.codes + t * 37 % pt * r.row,
				       s.codes + t * s.row, s.row);
		}
		pair_convert(&a, host_kernels(), pt, 1);
		pair_convert(&b, host_kernels(), pt, 1);
		for (v = 0; v < 2; v++) {
			struct side s = pair_side(&a, 1, 0, 1, v);
			struct side r = pair_side(&b, 1, 0, 1, v);

			for (t = 0; t < pt; t++)
				for (d = 0; d < s.dim; d++)
					assert_int_equal(
						code_at(&s, t, d),
						code_at(&r, t * 37 % pt, d));
			if (format_coding(to) == CODING_KIVI && !v)
				assert_memory_equal(s.meta, r.meta, 4 * s.dim);
			if (format_coding(to) == CODING_TOKEN)
				for (t = 0; t < pt; t++)
					assert_memory_equal(
						side_affine(&s) + t,
						side_affine(&r) + t * 37 % pt,
						4);
		}
		pair_fini(&a);
		pair_fini(&b);
	}
}

/* One NaN is flagged, and read as NaN or as nothing else than its run. */
static void test_flags(void **state)
{
	uint32_t i, n, t;
	float got[32 * 64];

	for (i = 0; host_kernels_nth(i); i++)
		for (n = 0; n < NR(targets); n++) {
			struct side s;
			struct pair p;

			pair_init(&p, KVD_F16, targets[n], 64, 64, 32, 32);
			fill(&p, 0);
			s = pair_side(&p, 0, 1, 0, 1);
			put(&s, 5, 40, NAN);
			pair_convert(&p, host_kernels_nth(i), 32, 2);
			assert_int_equal(p.nonfinite, 1);
			host_kernels_ref.dequant(&p.l[1], p.page[1], 1, 0, 1,
						 32, NULL, got);
			for (t = 0; t < 32 * 64; t++)
				assert_true(t / 64 == 5 || isfinite(got[t]));
			assert_true(isnan(got[5 * 64 + 40]));
			pair_fini(&p);
		}
}

/* Fewer tokens than a page: the rest of the codes stays as it was. */
static void test_short(void **state)
{
	uint32_t i, n, t;

	for (i = 0; host_kernels_nth(i); i++)
		for (n = 0; !format_whole(targets[n]); n++) {
			struct side s, r;
			struct pair p;

			pair_init(&p, KVD_INT8, targets[n], 64, 128, 64, 0);
			make_source(&p, KVD_INT8);
			pair_convert(&p, host_kernels_nth(i), 13, 1);
			s = pair_side(&p, 1, 1, 1, 1);
			r = pair_side(&p, 0, 1, 1, 1);
			for (t = 13 * s.row; t < 64 * s.row; t++)
				assert_int_equal(s.codes[t], FILL);
			if (targets[n] == KVD_INT8) {
				assert_memory_equal(s.codes, r.codes,
						    13 * s.row);
				assert_memory_equal(s.meta, r.meta, 13 * 4);
				assert_int_equal(s.meta[13 * 4], FILL);
			}
			pair_fini(&p);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kivi),
		cmocka_unit_test(test_sets_agree),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_permutation),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_short),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
