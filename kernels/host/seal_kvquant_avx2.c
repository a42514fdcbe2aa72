/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kvquant_avx2.c - ref_kvquant.c's codes, found 8 at a time.
 *
 * Stateless; any thread.
 */
#include "kernels/host/kvquant.h"
#include "kernels/host/tile_avx2.h"

#define HEAP_MAX (65536u / 100 + 1)

/* Few of a row are larger than the least of those found: look for them. */
static float nth_largest(const float *x, uint32_t dim, float sign, uint32_t n)
{
	struct kvquant_top top = { .n = n };
	uint32_t d, i;

	for (d = 0; d < dim; d += 8) {
		__m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + d),
					 _mm256_set1_ps(sign));
		float least = top.nr == n ? top.x[n - 1] : -INFINITY;
		int more = _mm256_movemask_ps(_mm256_cmp_ps(
			y, _mm256_set1_ps(least), _CMP_GT_OQ));

		for (; more; more &= more - 1) {
			i = (uint32_t)__builtin_ctz((unsigned)more);
			kvquant_top_add(&top, sign * x[d + i]);
		}
	}
	return top.x[n - 1];
}

static void nearest(struct kvquant_row *r)
{
	uint32_t d, c;

	for (d = 0; d < r->dim; d += 8) {
		__m256 x = _mm256_loadu_ps(r->x + d);
		__m256 range = _mm256_loadu_ps(r->range + d);
		__m256 zero = _mm256_loadu_ps(r->zero + d);
		__m256 best = _mm256_set1_ps(INFINITY);
		__m256 code = _mm256_setzero_ps();

		for (c = 0; c < r->nr_codes; c++) {
			__m256 v = _mm256_mul_ps(_mm256_set1_ps(r->lut[c]),
						 range);
			__m256 far = v8_abs(_mm256_sub_ps(
				_mm256_add_ps(v, zero), x));

			code = _mm256_blendv_ps(
				code, _mm256_set1_ps((float)c),
				_mm256_cmp_ps(far, best, _CMP_LT_OQ));
			best = _mm256_min_ps(far, best);
		}
		v8_bytes_store(r->codes + d, code);
	}
}

/**
 * avx2_kvquant_store() - seals a side with the bytes of ref_kvquant_store()
 */
int avx2_kvquant_store(const struct side *s, const float *x,
		       const struct kv_tables *tables)
{
	static const struct kvquant_ops ops = { nth_largest, nearest,
						v8_pack };
	uint64_t keys[HEAP_MAX];
	struct kvquant_heap heap = { keys, sparse_max(s->tokens, s->dim), 0 };

	return kvquant_store(s, x, tables, &ops, &heap);
}
