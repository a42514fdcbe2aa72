// SPDX-License-Identifier: Apache-2.0
/*
 * records.c - what goes into pages at random, and pages in either order.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/host/half.h"
#include "tests/cuda/records.h"
#include "tests/kernels/random.h"

void records_seed(void)
{
	random_seed();
}

uint32_t records_below(uint32_t n)
{
	return random_below(n);
}

struct kvd_geometry records_geometry(uint32_t k_format, uint32_t v_format,
				     uint32_t tokens, uint32_t k_dim,
				     uint32_t v_dim)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = tokens,
		.k_format = k_format,
		.v_format = v_format,
		.rope_order = format_coding(k_format) == CODING_KVQUANT ?
				      KVD_ROPE_PRE :
				      KVD_ROPE_POST,
		.v_group = 32u << random_below(3),
		.profile = 1,
		.nr_groups = 1,
		.groups = { { .nr_layers = RECORDS_LAYERS,
			      .nr_kv_heads = RECORDS_HEADS,
			      .k_dim = k_dim,
			      .v_dim = v_dim } },
	};

	assert_string_equal(kvd_geometry_check(&g) ?: "", "");
	return g;
}

/* ---- tables ---- */

static uint32_t table_code_count(uint32_t format)
{
	return format_coding(format) == CODING_KVQUANT ?
		       1u << format_bits(format) :
		       TABLES_CODES;
}

/* Ascending in -1..1 of each layer; past the format's codes far away. */
static void codebook(float *x, uint32_t nr, float times)
{
	for (uint32_t i = 0; i < RECORDS_LAYERS * TABLES_CODES; i++) {
		float step = 2.0f / (float)nr;
		uint32_t c = i % TABLES_CODES;

		x[i] = c < nr ? (-1 + step * ((float)c + 0.5f)) * times +
					step * 0.2f * (float)(i % 2) :
				100 + (float)c;
	}
}

static const float **table_place(struct kv_tables *t, uint32_t i)
{
	const float **places[RECORDS_PARTS] = {
		&t->k_scale, &t->v_scale, &t->k_rotation, &t->v_rotation,
		&t->k_lut,   &t->k_out,	  &t->v_lut,	  &t->v_out,
		&t->k_zero,  &t->k_range
	};

	return places[i];
}

void tables_init(struct tables *t, const struct kvd_geometry *g)
{
	const uint32_t records = RECORDS_LAYERS * RECORDS_HEADS;
	const uint32_t k = g->groups[0].k_dim, v = g->groups[0].v_dim;
	const uint32_t books = RECORDS_LAYERS * TABLES_CODES;
	const uint32_t nr[RECORDS_PARTS] = {
		records, records, RECORDS_LAYERS * k * k,
		RECORDS_LAYERS * v * v, books, books, books, books,
		records * k, records * k
	};
	struct kv_tables device = { .nr_heads = RECORDS_HEADS };
	uint32_t i, j;

	*t = (struct tables){ .host.nr_heads = RECORDS_HEADS };
	for (i = 0; i < RECORDS_PARTS; i++)
		t->parts[i] = xcalloc(nr[i], sizeof(float));
	for (i = 0; i < 2; i++) {
		const float dim = (float)(i ? v + 1 : k);

		for (j = 0; j < records; j++)
			t->parts[i][j] = 0.013f * (float)(1 + random_below(90));
		for (j = 0; j < nr[2 + i]; j++)
			t->parts[2 + i][j] = random_normal() / sqrtf(dim);
	}
	for (i = 4; i < 8; i++)
		codebook(t->parts[i],
			 table_code_count(i < 6 ? g->k_format : g->v_format),
			 i % 2 ? 1.03f : 1.0f);
	for (j = 0; j < nr[8]; j++) {
		t->parts[8][j] = f16_round(random_normal());
		t->parts[9][j] =
			random_below(20) ?
				f16_round(1 + fabsf(random_normal())) :
				0x1p-14f;
	}
	for (i = 0; i < RECORDS_PARTS; i++) {
		t->copies[i] = gpu_copy(t->parts[i], nr[i] * sizeof(float));
		*table_place(&t->host, i) = t->parts[i];
		*table_place(&device, i) =
			(const float *)(uintptr_t)t->copies[i];
	}
	t->device = gpu_copy(&device, sizeof(device));
}

void tables_fini(struct tables *t)
{
	for (uint32_t i = 0; i < RECORDS_PARTS; i++) {
		free(t->parts[i]);
		gpu_free(t->copies[i]);
	}
	gpu_free(t->device);
}

/* ---- values ---- */

static void stride_set(float *x, uint32_t n, uint32_t stride, uint32_t kind)
{
	float c = f16_round(random_normal());

	for (uint32_t i = 0; i < n; i++, x += stride)
		switch (kind) {
		case 0:
			*x = random_below(2) ? 0.0f : -0.0f;
			break;
		case 1:
			*x = c;
			break;
		case 2:
			*x = fmaxf(fminf(random_normal() * 20000, 65504),
				   -65504);
			break;
		case 3:
			*x = (float)random_below(9) * 0x1p-24f;
			break;
		case 4:
			*x = *x * 0x1p-14f;
			break;
		case 5:
			*x = (float)random_below(4);
			break;
		default:
			*x = *x * 40 + 8;
		}
}

static void strides_set(float *x, uint32_t tokens, uint32_t dim)
{
	for (uint32_t i = 1 + random_below(8); i; i--)
		if (random_below(2))
			stride_set(x + (size_t)random_below(tokens) * dim, dim,
				   1, random_below(7));
		else
			stride_set(x + random_below(dim), tokens, dim,
				   random_below(7));
}

/* What is within f16, but what is made of it need not be. */
static void edge_set(float *x, uint32_t tokens, uint32_t dim)
{
	const uint32_t by_token = random_below(2);
	const uint32_t n = by_token ? dim : tokens;
	const uint32_t stride = by_token ? 1 : dim;
	const uint32_t far = random_below(2) * random_below(n);
	uint32_t i;

	x += by_token ? (size_t)random_below(tokens) * dim : random_below(dim);
	for (i = 0; i < n; i++) /* the whole span, or one element far away */
		x[i * stride] = far ? (i == far ? 65504 : -60000) :
				      (i % 2 ? 65504 : -65504);
}

void values_random(float *x, uint32_t tokens, uint32_t dim)
{
	static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY, 1e30f };
	const uint32_t n = tokens * dim, kind = random_below(12);
	uint32_t i;

	for (i = 0; i < n; i++)
		x[i] = random_normal() * (kind % 10 == 1 ? 1e-3f : 1);
	if (kind < 3) /* nearly all of it plain */
		for (i = n / 100; i; i--)
			x[random_below(n)] *= 20;
	else if (kind < 8)
		strides_set(x, tokens, dim);
	else if (kind == 8) /* all of one kind */
		stride_set(x, n, 1, random_below(7));
	else if (kind == 9)
		for (i = 0; i < n; i++)
			x[i] = f32_from_bits((uint32_t)random_u64());
	else if (kind == 10)
		x[random_below(n)] = bad[random_below(5)];
	else
		edge_set(x, tokens, dim);
}

/* ---- pages in either order ---- */

static uint8_t *side_codes(const struct page_layout *l, const uint8_t *page,
			   uint32_t record, uint32_t is_v)
{
	return (uint8_t *)(uintptr_t)page + (uint64_t)record * l->record_bytes +
	       (is_v ? l->v_codes : 0);
}

/* Codes of tokens @first and up, from one page to another. */
static void codes_move(const struct page_layout *from, const uint8_t *in,
		       const struct page_layout *to, uint8_t *out,
		       uint32_t first)
{
	const uint32_t nr_records = from->nr_layers * from->nr_heads;

	for (uint32_t r = 0; r < nr_records; r++)
		for (uint32_t v = 0; v <= (from->v_dim > 0); v++) {
			struct codes f = page_codes(from, (int)v);
			struct codes t = page_codes(to, (int)v);
			const uint8_t *src = side_codes(from, in, r, v);
			uint8_t *dst = side_codes(to, out, r, v);

			for (uint32_t i = first * f.dim; i < f.tokens * f.dim;
			     i++)
				codes_set(&t, dst, i / f.dim, i % f.dim,
					  codes_get(&f, src, i / f.dim,
						    i % f.dim));
		}
}

static void metas_copy(const struct page_layout *from, const uint8_t *in,
		       const struct page_layout *to, uint8_t *out)
{
	for (uint32_t r = 0; r < from->nr_layers * from->nr_heads; r++) {
		const uint8_t *f = in + (size_t)r * from->record_bytes;
		uint8_t *t = out + (size_t)r * to->record_bytes;

		memcpy(t + to->k_meta, f + from->k_meta,
		       page_meta_bytes(from->k_format, 0, from->page_tokens,
				       from->k_dim, from->v_group));
		if (from->v_dim)
			memcpy(t + to->v_meta, f + from->v_meta,
			       page_meta_bytes(from->v_format, 1,
					       from->page_tokens, from->v_dim,
					       from->v_group));
	}
}

void page_reorder(const struct page_layout *from, const uint8_t *in,
		  const struct page_layout *to, uint8_t *out)
{
	if (from->tile_order == to->tile_order) {
		memcpy(out, in, from->page_bytes);
		return;
	}
	memset(out, RECORDS_GARBAGE, to->page_bytes);
	metas_copy(from, in, to, out);
	codes_move(from, in, to, out, 0);
}

static void bytes_same(const struct page_layout *l, const uint8_t *want,
		       const uint8_t *got)
{
	for (uint32_t i = 0; i < l->page_bytes; i++) {
		uint32_t at = i % l->record_bytes;

		if (want[i] == got[i])
			continue;
		fail_msg("record %u, byte %u (V from %u, metadata at %u and "
			 "%u): %02x, not %02x; %s and %s, %u tokens of %u and "
			 "%u, order %u",
			 i / l->record_bytes, at, l->v_codes, l->k_meta,
			 l->v_meta, got[i], want[i],
			 kvd_format_name(l->k_format),
			 kvd_format_name(l->v_format), l->page_tokens, l->k_dim,
			 l->v_dim, l->tile_order);
	}
}

void page_same(const struct page_layout *row, const uint8_t *want,
	       const struct page_layout *l, const uint8_t *got,
	       uint32_t nr_tokens)
{
	uint8_t *all;

	if (l->tile_order == row->tile_order) {
		bytes_same(l, want, got);
		return;
	}
	all = xcalloc(l->page_bytes, 1);
	page_reorder(row, want, l, all);
	codes_move(l, got, l, all, nr_tokens);
	bytes_same(l, all, got);
	free(all);
}
