/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_kvquant.c - how pages of kvquant are sealed: the definition, in scalar C.
 *
 * KVQuant (arXiv 2401.18079), per head: a codebook of the profile, and a list
 * of outliers. With range and zero of an element, the code is that of the
 * nearest lut[code] * range + zero, the lower of equals, and stands for
 * out[code] * range + zero; products and sums are f32, each rounded.
 *
 * K: range and zero are the channel's. An element with |x - zero| > range is
 * a candidate to be an outlier.
 *
 * V: k = floor(dim / 200) + 1; max and min are the (k+1)-th largest and
 * smallest element of the token. range = f16((max - min) / 2), zero =
 * f16((max + min) / 2). What is strictly outside of min..max is a candidate,
 * and the code of an outlier is that of the middle, 2^(bits-1) - 1.
 *
 * The residual of a candidate is f16(x - what its code, as an outlier, stands
 * for). Of all candidates of the side whose residual is not 0, sparse_max()
 * with the largest |residual| are outliers, of equals that of the lower
 * place. Others have the nearest code, and that is all.
 *
 * Stateless; any thread.
 */
#include <stdlib.h>
#include "kernels/host/kvquant.h"

#define HEAP_MAX (65536u / 100 + 1)

/* Larger for a larger residual, then for a lower place; then its sign. */
static uint64_t key_of(uint32_t at, uint16_t residual)
{
	return (uint64_t)(residual & 0x7fffu) << 33 |
	       (uint64_t)(0xffffffffu - at) << 1 | residual >> 15;
}

static uint32_t key_at(uint64_t key)
{
	return 0xffffffffu - (uint32_t)(key >> 1);
}

static uint16_t key_residual(uint64_t key)
{
	return (uint16_t)(key >> 33 | (key & 1) << 15);
}

/* Puts @key where entry @i was, in a heap of @nr, and sinks it. */
static void heap_sink(uint64_t *keys, uint32_t nr, uint32_t i, uint64_t key)
{
	uint32_t child;

	while ((child = 2 * i + 1) < nr) {
		if (child + 1 < nr && keys[child + 1] < keys[child])
			child++;
		if (keys[child] >= key)
			break;
		keys[i] = keys[child];
		i = child;
	}
	keys[i] = key;
}

static void heap_rise(uint64_t *keys, uint32_t i, uint64_t key)
{
	for (; i && keys[(i - 1) / 2] > key; i = (i - 1) / 2)
		keys[i] = keys[(i - 1) / 2];
	keys[i] = key;
}

/* Return: 1 when the residual is past f16. */
static int heap_offer(struct kvquant_heap *h, uint32_t at, float x)
{
	uint16_t residual = f16_from_f32(x);
	int bad = (residual & F16_EXP) == F16_EXP;
	uint64_t key = key_of(at, bad ? residual - 1 : residual);

	if (!(residual & 0x7fff))
		return 0;
	if (h->nr < h->cap)
		heap_rise(h->keys, h->nr++, key);
	else if (key > h->keys[0])
		heap_sink(h->keys, h->nr, 0, key);
	return bad;
}

static int by_place(const void *a, const void *b)
{
	uint32_t x = key_at(*(const uint64_t *)a);
	uint32_t y = key_at(*(const uint64_t *)b);

	return (x > y) - (x < y);
}

/* Writes the list, and codes of outliers where @code is one. */
static void list_store(const struct side *s, struct kvquant_heap *h, int code)
{
	uint32_t bits = format_bits(s->format), i;
	struct sparse_head *head = side_sparse(s);
	struct sparse_entry *e = (struct sparse_entry *)(head + 1);

	qsort(h->keys, h->nr, sizeof(*h->keys), by_place);
	*head = (struct sparse_head){ .nr = (uint16_t)h->nr };
	memset(e, 0, h->cap * sizeof(*e));
	for (i = 0; i < h->nr; i++) {
		uint32_t at = key_at(h->keys[i]);

		e[i].at = (uint16_t)at;
		e[i].value = key_residual(h->keys[i]);
		if (code >= 0)
			pack_set(bits, s->codes + at / s->dim * s->row, s->dim,
				 at % s->dim, (uint32_t)code);
	}
}

static float value_of(const float *out, uint32_t code, float range, float zero)
{
	float x = out[code] * range;

	return x + zero;
}

static int store_k(const struct side *s, const float *x, const float *out,
		   struct kvquant_row *r, const struct kvquant_ops *ops,
		   struct kvquant_heap *h)
{
	uint32_t t, d;
	int bad = 0;

	for (t = 0; t < s->tokens; t++) {
		r->x = x + (uint64_t)t * s->dim;
		ops->nearest(r);
		ops->pack(s, t, r->codes);
		for (d = 0; d < s->dim; d++) {
			if (!(fabsf(r->x[d] - r->zero[d]) > r->range[d]))
				continue;
			bad |= heap_offer(h, t * s->dim + d,
					  r->x[d] - value_of(out, r->codes[d],
							     r->range[d],
							     r->zero[d]));
		}
	}
	list_store(s, h, -1);
	return bad;
}

static int store_v_row(const struct side *s, uint32_t t, const float *out,
		       struct kvquant_row *r, const struct kvquant_ops *ops,
		       struct kvquant_heap *h)
{
	uint32_t k = s->dim / 200 + 1, d;
	float max = ops->nth_largest(r->x, s->dim, 1.0f, k + 1);
	float min = -ops->nth_largest(r->x, s->dim, -1.0f, k + 1);
	struct affine_meta m = { f16_from_f32((max - min) * 0.5f + 0.0f),
				 f16_from_f32((max + min) * 0.5f + 0.0f) };
	float range[KVD_MAX_DIM], zero[KVD_MAX_DIM], middle;
	int bad = 0;

	for (d = 0; d < s->dim; d++) {
		range[d] = f16_to_f32(m.scale);
		zero[d] = f16_to_f32(m.min);
	}
	r->range = range;
	r->zero = zero;
	middle = value_of(out, r->nr_codes / 2 - 1, range[0], zero[0]);
	side_affine(s)[t] = m;
	ops->nearest(r);
	ops->pack(s, t, r->codes);
	for (d = 0; d < s->dim; d++)
		if (r->x[d] < min || r->x[d] > max)
			bad |= heap_offer(h, t * s->dim + d,
					  r->x[d] - middle);
	return bad;
}

static int store_v(const struct side *s, const float *x, const float *out,
		   struct kvquant_row *r, const struct kvquant_ops *ops,
		   struct kvquant_heap *h)
{
	uint32_t t;
	int bad = 0;

	for (t = 0; t < s->tokens; t++) {
		r->x = x + (uint64_t)t * s->dim;
		bad |= store_v_row(s, t, out, r, ops, h);
	}
	list_store(s, h, (int)r->nr_codes / 2 - 1);
	return bad;
}

/* Of V, every token's zero is NaN; of K, the first bad element. */
static int refuse(const struct side *s, const float *x, uint32_t cap)
{
	struct sparse_head *head = side_sparse(s);
	struct sparse_entry *e = (struct sparse_entry *)(head + 1);
	uint32_t i = 0;

	memset(s->codes, 0, (size_t)s->tokens * s->row);
	memset(head, 0, sizeof(*head) + cap * sizeof(*e));
	if (s->is_v) {
		for (; i < s->tokens; i++)
			side_affine(s)[i] = (struct affine_meta){ 0, F16_NAN };
		return 1;
	}
	while (tile_in_reach(x + i, 1))
		i++;
	head->nr = 1;
	*e = (struct sparse_entry){ (uint16_t)i, F16_NAN };
	return 1;
}

int kvquant_store(const struct side *s, const float *x,
		  const struct kv_tables *tables,
		  const struct kvquant_ops *ops, struct kvquant_heap *heap)
{
	uint64_t c = ((uint64_t)s->layer * tables->nr_heads + s->head) * s->dim;
	const float *luts = s->is_v ? tables->v_lut : tables->k_lut;
	const float *out = side_codebook(s, tables);
	struct kvquant_row r = {
		.lut = luts + s->layer * TABLES_CODES,
		.nr_codes = 1u << format_bits(s->format),
		.dim = s->dim,
	};

	if (!tile_in_reach(x, s->tokens * s->dim))
		return refuse(s, x, heap->cap);
	if (s->is_v)
		return store_v(s, x, out, &r, ops, heap);
	r.range = tables->k_range + c;
	r.zero = tables->k_zero + c;
	return store_k(s, x, out, &r, ops, heap);
}

static float ref_nth_largest(const float *x, uint32_t dim, float sign,
			     uint32_t n)
{
	struct kvquant_top top = { .n = n };
	uint32_t d;

	for (d = 0; d < dim; d++)
		kvquant_top_add(&top, sign * x[d]);
	return top.x[n - 1];
}

static void ref_nearest(struct kvquant_row *r)
{
	uint32_t d, c;

	for (d = 0; d < r->dim; d++) {
		float best = INFINITY;

		for (c = 0; c < r->nr_codes; c++) {
			float v = value_of(r->lut, c, r->range[d], r->zero[d]);
			float far = fabsf(v - r->x[d]);

			if (far < best) {
				best = far;
				r->codes[d] = (uint8_t)c;
			}
		}
	}
}

/**
 * ref_kvquant_store() - seals K or V of one record in kvquant
 *
 * Return: as kvquant_store(), with sparse_max() outliers at most.
 */
int ref_kvquant_store(const struct side *s, const float *x,
		      const struct kv_tables *tables)
{
	static const struct kvquant_ops ops = { ref_nth_largest, ref_nearest,
						tile_pack };
	uint64_t keys[HEAP_MAX];
	struct kvquant_heap heap = { keys, sparse_max(s->tokens, s->dim), 0 };

	return kvquant_store(s, x, tables, &ops, &heap);
}
