/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_vectors_test.c - attention against published numbers: RoPE inside
 * attention, scales folded into queries and weights, sealed and open pages in
 * one sequence. Every kernel set, ref first.
 *
 * A score is read from lse: with a window of 1 a query sees one key.
 */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/host.h"
#include "kernels/host/side.h"

#define DIM    32u
#define PT     32u /* page tokens */
#define TOKENS 64u
#define ROUND  0x1p-11 /* of a number to f16, at most */

/* Array @key of @file, row by row, to @out. */
static void load(const char *file, const char *key, double *out)
{
	char path[256];
	json_t *root, *data, *row, *x;
	size_t i, j;

	snprintf(path, sizeof(path), VECTORS "/%s.json", file);
	root = json_load_file(path, 0, NULL);
	data = json_object_get(json_object_get(root, key), "data");
	assert_non_null(data);
	json_array_foreach(data, i, row) {
		if (!json_is_array(row))
			*out++ = json_number_value(row);
		json_array_foreach(row, j, x) *out++ = json_number_value(x);
	}
	json_decref(root);
}

/* Two pages, of one head. */
struct pair {
	struct kvd_geometry g;
	struct page_layout l[2];
	uint8_t mem[2][16384];
	struct kv_tables tables;
};

static void pair_init(struct pair *p, uint32_t k, uint32_t v, uint32_t rope)
{
	memset(p, 0, sizeof(*p));
	p->g = (struct kvd_geometry){
		.size = sizeof(p->g),
		.page_tokens = PT,
		.k_format = k,
		.v_format = v,
		.v_group = 32,
		.rope_order = rope,
		.nr_groups = 1,
		.groups = { { .nr_layers = 1,
			      .nr_kv_heads = 1,
			      .k_dim = DIM,
			      .v_dim = DIM } },
	};
	assert_null(kvd_geometry_check(&p->g));
	assert_int_equal(page_layout_init(&p->l[0], &p->g, 0, k, v), 0);
	assert_int_equal(
		page_layout_init(&p->l[1], &p->g, 0, KVD_F16, KVD_F16), 0);
}

static struct side pair_side(struct pair *p, uint32_t page, uint32_t layout,
			     int is_v)
{
	return side_at(&p->l[layout], p->mem[page], 0, 0, is_v);
}

/* @n rows of the same query, the last at position @pos. */
static void attend(struct pair *p, const struct host_kernels *k, uint32_t last,
		   uint32_t n, uint32_t pos, float scale, const float *q,
		   float *out, float *lse)
{
	const void *bases[2] = { p->mem[0], p->mem[1] };
	struct kv_page_ref pages[2] = { { .segment = 0 },
					{ .segment = 1, .layout = last } };
	struct kv_seq seq = { .nr_rows = n, .pos = pos + 1 - n };
	struct kv_attend_args a = {
		.layouts = { p->l[0], p->l[1] },
		.bases = bases,
		.pages = pages,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = n,
		.nr_q_heads = 1,
		.window = n > 1,
		.scale = scale,
		.q = q,
		.out = out,
		.lse = lse,
		.out_stride = DIM,
		.tables = &p->tables,
		.nr_threads = 1,
	};

	assert_int_equal(k->attend(&a), 0);
}

static void check_scores(struct pair *p, uint32_t last, const float *q,
			 const double *want, const double *tol)
{
	float out[TOKENS * DIM], lse[TOKENS];
	const struct host_kernels *k;
	uint32_t i, t;

	for (i = 0; (k = host_kernels_nth(i)); i++) {
		attend(p, k, last, TOKENS, TOKENS - 1, 1, q, out, lse);
		for (t = 0; t < TOKENS; t++)
			if (!(fabs(lse[t] - want[t]) <= tol[t]))
				fail_msg("%s: score %u is %g, want %g +- %g",
					 k->name, t, lse[t], want[t], tol[t]);
	}
}

static void check_out(struct pair *p, uint32_t last, uint32_t pos, float scale,
		      const float *q, const double *want, double tol)
{
	const struct host_kernels *k;
	float out[DIM], y[DIM];
	uint32_t i, d;

	for (i = 0; (k = host_kernels_nth(i)); i++) {
		attend(p, k, last, 1, pos, scale, q, out, NULL);
		basis_apply(p->l[0].v_basis, DIM, NULL, out, y);
		for (d = 0; d < DIM; d++)
			if (!(fabs(y[d] - want[d]) <= tol))
				fail_msg("%s: out %u is %g, want %g +- %g",
					 k->name, d, y[d], want[d], tol);
	}
}

static void floats(const double *x, float *out, uint32_t n)
{
	while (n--)
		out[n] = x[n];
}

static void store16(const struct side *s, const double *x, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n * DIM; i++)
		((uint16_t *)s->codes)[i] = f16_from_f32(x[i]);
}

static void test_rope(void **state)
{
	float page[2 * DIM], token[PT * DIM], f[DIM];
	double q[DIM], k[TOKENS * DIM], want[TOKENS], tol[TOKENS], theta;
	static const double zero[PT * DIM];
	struct side s;
	struct pair p;
	uint32_t t, i;

	load("rope_scores", "q", q);
	load("rope_scores", "k_pre", k);
	load("rope_scores", "scores", want);
	pair_init(&p, KVD_F16, KVD_F16, KVD_ROPE_PRE);
	p.tables.rope_page = page;
	p.tables.rope_token = token;
	p.tables.rope_pairs = DIM / 2;
	for (t = 0; t < PT; t++)
		for (i = 0; i < DIM / 2; i++) {
			theta = pow(10000.0, -2.0 * i / DIM);
			token[t * DIM + i] = cos(t * theta);
			token[t * DIM + DIM / 2 + i] = sin(t * theta);
			page[t / 16 * DIM + i] = cos(t / 16 * PT * theta);
			page[t / 16 * DIM + DIM / 2 + i] =
				sin(t / 16 * PT * theta);
		}
	for (i = 0; i < DIM / 2; i++) { /* the vector's query is not turned */
		double c = cos(100 * pow(10000.0, -2.0 * i / DIM));
		double sn = sin(100 * pow(10000.0, -2.0 * i / DIM));

		f[i] = q[i] * c - q[i + DIM / 2] * sn;
		f[i + DIM / 2] = q[i] * sn + q[i + DIM / 2] * c;
	}
	for (t = 0; t < 2; t++) {
		s = pair_side(&p, t, 0, 0);
		store16(&s, k + t * PT * DIM, PT);
		s = pair_side(&p, t, 0, 1);
		store16(&s, zero, PT);
	}
	for (t = 0; t < TOKENS; t++)
		for (tol[t] = 1e-5, i = 0; i < DIM; i++)
			tol[t] += ROUND * 1.5 * fabs(k[t * DIM + i]);
	check_scores(&p, 0, f, want, tol);
}

/* Codes and metadata of one run of 32 values @step apart, by KIVI's recipe. */
static void kivi_run(const double *x, uint32_t step, uint16_t *scale,
		     uint16_t *min, uint32_t *codes)
{
	float mn = INFINITY, mx = -INFINITY, s;
	uint32_t i;

	for (i = 0; i < 32; i++) {
		mn = fminf(mn, x[i * step]);
		mx = fmaxf(mx, x[i * step]);
	}
	s = f16_round(f16_round(mx - mn) / 15);
	*scale = f16_from_f32(s);
	*min = f16_from_f32(mn);
	for (i = 0; i < 32; i++)
		codes[i] = nearbyintf(fminf(
			f16_round(f16_round((float)x[i * step] - mn) / s), 15));
}

static void kivi_page(struct pair *p, const double *k, const double *v)
{
	struct side ks = pair_side(p, 0, 0, 0), vs = pair_side(p, 0, 0, 1);
	uint32_t codes[32], i, j;

	for (i = 0; i < 32; i++) {
		kivi_run(k + i, DIM, &side_scales(&ks)[i], &side_mins(&ks)[i],
			 codes);
		for (j = 0; j < 32; j++)
			pack_set(4, ks.codes + j * ks.row, DIM, i, codes[j]);
		kivi_run(v + i * DIM, 1, &side_affine(&vs)[i].scale,
			 &side_affine(&vs)[i].min, codes);
		for (j = 0; j < 32; j++)
			pack_set(4, vs.codes + i * vs.row, DIM, j, codes[j]);
	}
}

static void test_sealed_and_open(void **state)
{
	static const char file[] = "attn_kivi4_sealed32_open16";
	double q[DIM], k[48 * DIM], v[48 * DIM], want[DIM], deq[32 * DIM];
	float f[DIM], x[32 * DIM];
	struct side s;
	struct pair p;
	uint32_t i;

	load(file, "q", q);
	load(file, "K", k);
	load(file, "V", v);
	load(file, "out_quant", want);
	load(file, "K_deq_sealed", deq);
	pair_init(&p, KVD_KIVI4, KVD_KIVI4, KVD_ROPE_POST);
	kivi_page(&p, k, v);
	host_kernels_ref.dequant(&p.l[0], p.mem[0], 0, 0, 0, 32, NULL, x);
	for (i = 0; i < 32 * DIM; i++)
		assert_true(fabs(x[i] - deq[i]) <= 1e-6 * (1 + fabs(deq[i])));
	s = pair_side(&p, 1, 1, 0);
	store16(&s, k + 32 * DIM, 16);
	s = pair_side(&p, 1, 1, 1);
	store16(&s, v + 32 * DIM, 16);
	floats(q, f, DIM);
	check_out(&p, 1, 47, 1 / sqrt(DIM), f, want, 1e-4);
}

struct folded {
	double q[DIM], k_code[TOKENS * DIM], v_code[TOKENS * DIM];
	double k_scale[2 * DIM], k_min[2 * DIM], v_scale[TOKENS], v_min[TOKENS];
	double scores[TOKENS], out[DIM];
	double va[TOKENS], vz[TOKENS], vo[DIM], v_out[DIM];
	double ka[DIM], kz[DIM], ko[TOKENS], k_scores[TOKENS];
};

static void folded_load(struct folded *x)
{
	static const char f[] = "folded_attention";

	load(f, "q", x->q);
	load(f, "K_code", x->k_code);
	load(f, "K_scale", x->k_scale);
	load(f, "K_min", x->k_min);
	load(f, "scores", x->scores);
	load(f, "V_code", x->v_code);
	load(f, "V_scale", x->v_scale);
	load(f, "V_min", x->v_min);
	load(f, "out", x->out);
	load(f, "kvarn_V_absorbed_scale", x->va);
	load(f, "kvarn_V_absorbed_zero", x->vz);
	load(f, "kvarn_V_channel_scale", x->vo);
	load(f, "kvarn_out", x->v_out);
	load(f, "kvarn_K_absorbed_scale", x->ka);
	load(f, "kvarn_K_absorbed_zero", x->kz);
	load(f, "kvarn_K_token_scale", x->ko);
	load(f, "kvarn_scores", x->k_scores);
}

static void codes_store(const struct side *s, const double *codes)
{
	uint32_t t, d;

	for (t = 0; t < PT; t++)
		for (d = 0; d < DIM; d++)
			pack_set(4, s->codes + t * s->row, DIM, d,
				 codes[t * DIM + d]);
}

static void halves_store(uint16_t *to, const double *x, uint32_t n)
{
	while (n--)
		to[n] = f16_from_f32(x[n]);
}

static void affine_store(const struct side *s, const double *a,
			 const double *b)
{
	uint32_t t;

	for (t = 0; t < PT; t++)
		side_affine(s)[t] = (struct affine_meta){ f16_from_f32(a[t]),
							  f16_from_f32(b[t]) };
}

/* K per channel; V per token, or as kvarn has it. */
static void folded_pages(struct pair *p, const struct folded *x, int kvarn_k)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		struct side k = pair_side(p, i, 0, 0), v = pair_side(p, i, 0, 1);

		codes_store(&k, x->k_code + i * PT * DIM);
		codes_store(&v, x->v_code + i * PT * DIM);
		halves_store(side_scales(&k),
			     kvarn_k ? x->ka : x->k_scale + i * DIM, DIM);
		halves_store(side_mins(&k), kvarn_k ? x->kz : x->k_min + i * DIM,
			     DIM);
		if (kvarn_k)
			halves_store(side_factors(&k), x->ko + i * PT, PT);
		if (v.format == KVD_KVARN4) {
			affine_store(&v, x->va + i * PT, x->vz + i * PT);
			halves_store(side_factors(&v), x->vo, DIM);
		} else {
			affine_store(&v, x->v_scale + i * PT,
				     x->v_min + i * PT);
		}
	}
}

static double max_abs(const double *x, uint32_t n)
{
	double max = 0;

	while (n--)
		max = fmax(max, fabs(x[n]));
	return max;
}

/* What rounding metadata to f16, three numbers a value, may do to scores. */
static void score_tol(const struct folded *x, int kvarn, double *tol)
{
	uint32_t t, d;

	for (t = 0; t < TOKENS; t++) {
		const double *s = kvarn ? x->ka : x->k_scale + t / PT * DIM;
		const double *z = kvarn ? x->kz : x->k_min + t / PT * DIM;

		for (tol[t] = 1e-4, d = 0; d < DIM; d++)
			tol[t] += 2 * ROUND * fabs(x->q[d]) *
				  (x->k_code[t * DIM + d] * s[d] + fabs(z[d])) *
				  (kvarn ? x->ko[t] : 1);
	}
}

static void test_folded(void **state)
{
	static const uint32_t v[] = { KVD_KIVI4, KVD_INT4, KVD_KVARN4 };
	double tol[TOKENS];
	struct folded x;
	struct pair p;
	float q[DIM];
	uint32_t i;

	folded_load(&x);
	floats(x.q, q, DIM);
	score_tol(&x, 0, tol);
	for (i = 0; i < 3; i++) {
		const double *out = v[i] == KVD_KVARN4 ? x.v_out : x.out;

		pair_init(&p, KVD_KIVI4, v[i], KVD_ROPE_POST);
		folded_pages(&p, &x, 0);
		check_scores(&p, 0, q, x.scores, tol);
		check_out(&p, 0, TOKENS - 1, 1, q, out,
			  5e-3 * max_abs(out, DIM));
	}
	pair_init(&p, KVD_KVARN4, KVD_KVARN4, KVD_ROPE_POST);
	folded_pages(&p, &x, 1);
	floats(x.q, q, DIM);
	basis_undo(BASIS_HADAMARD, DIM, NULL, q, q);
	score_tol(&x, 1, tol);
	check_scores(&p, 0, q, x.k_scores, tol);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rope),
		cmocka_unit_test(test_sealed_and_open),
		cmocka_unit_test(test_folded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
