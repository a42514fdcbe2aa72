/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_avx2.c - what the codes of a side stand for, with the bits of
 * ref_dequant.c, 8 elements at a time.
 *
 * A row's codes become numbers first; then, in the cache, every number is
 * multiplied and added to as its coding has it, each time rounded. kvquant,
 * whose values a profile has, is left to the reference. Stateless; any thread.
 */
#include "kernels/host/convert.h"
#include "kernels/host/fp8.h"
#include "kernels/host/store8.h"
#include "kernels/host/unpack8.h"

/* What is the same for all rows of a side, where it is one for each channel. */
struct channels {
	float scale[KVD_MAX_DIM], min[KVD_MAX_DIM]; /* of K */
	float factor[KVD_MAX_DIM];		    /* of V */
};

S8_INLINE void floats_load(uint32_t dtype, const void *p, size_t n, float *x)
{
	size_t i;

	for (i = 0; i < n; i += 8)
		_mm256_storeu_ps(x + i, s8_load(dtype, p, i));
}

/* ---- codes as numbers ---- */

static void bytes_load(const uint8_t *codes, uint32_t dim, float *x)
{
	uint32_t d;

	for (d = 0; d < dim; d += 8) {
		__m128i c = _mm_loadl_epi64((const __m128i *)(codes + d));

		_mm256_storeu_ps(x + d, _mm256_cvtepi32_ps(
						_mm256_cvtepu8_epi32(c)));
	}
}

/* Of fields of @bits, 4 or 2, in words of 32. */
S8_INLINE void fields_load(uint32_t bits, const __m256i *words, uint32_t dim,
			   float *x)
{
	const __m256i mask = _mm256_set1_epi32((1 << bits) - 1);
	uint32_t d, j;

	for (d = 0; d < dim; words++) {
		__m256i w = _mm256_loadu_si256(words);

		for (j = 0; j < 32 / bits && d < dim; j++, d += 8) {
			_mm256_storeu_ps(x + d,
					 _mm256_cvtepi32_ps(
						 _mm256_and_si256(w, mask)));
			w = _mm256_srli_epi32(w, (int)bits);
		}
	}
}

static void numbers_load(const struct side *s, uint32_t t, float *x)
{
	const uint8_t *row = s->codes + (size_t)t * s->row;
	uint32_t bits = format_bits(s->format);
	__m256i words[KVD_MAX_DIM / 64];

	if (bits == 8) {
		bytes_load(row, s->dim, x);
		return;
	}
	unpack8_words(bits, (const char *)row, s->dim, (char *)words);
	if (bits == 2)
		fields_load(2, words, s->dim, x);
	else
		fields_load(4, words, s->dim, x);
}

/* ---- numbers as values ---- */

static void affine_all(float *x, uint32_t n, const struct affine_meta *m)
{
	const __m256 scale = _mm256_set1_ps(_cvtsh_ss(m->scale));
	const __m256 min = _mm256_set1_ps(_cvtsh_ss(m->min));
	uint32_t i;

	for (i = 0; i < n; i += 8) {
		__m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);

		_mm256_storeu_ps(x + i, _mm256_add_ps(y, min));
	}
}

static void affine_each(float *x, uint32_t n, const struct channels *c)
{
	uint32_t i;

	for (i = 0; i < n; i += 8) {
		__m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i),
					 _mm256_loadu_ps(c->scale + i));

		_mm256_storeu_ps(x + i, _mm256_add_ps(
						y, _mm256_loadu_ps(c->min + i)));
	}
}

static void times_all(float *x, uint32_t n, uint16_t factor)
{
	const __m256 by = _mm256_set1_ps(_cvtsh_ss(factor));
	uint32_t i;

	for (i = 0; i < n; i += 8)
		_mm256_storeu_ps(x + i,
				 _mm256_mul_ps(_mm256_loadu_ps(x + i), by));
}

static void times_each(float *x, uint32_t n, const struct channels *c)
{
	uint32_t i;

	for (i = 0; i < n; i += 8)
		_mm256_storeu_ps(x + i,
				 _mm256_mul_ps(_mm256_loadu_ps(x + i),
					       _mm256_loadu_ps(c->factor + i)));
}

static void groups_load(const struct side *s, uint32_t t, float *x)
{
	const struct affine_meta *m = side_affine(s) + t;
	uint32_t d, n;

	for (d = 0; d < s->dim; d += n, m += s->tokens) {
		n = s->dim - d < s->v_group ? s->dim - d : s->v_group;
		affine_all(x + d, n, m);
	}
}

static void kvarn_load(const struct side *s, const struct channels *c,
		       uint32_t t, float *x)
{
	if (s->is_v) {
		affine_all(x, s->dim, side_affine(s) + t);
		times_each(x, s->dim, c);
	} else {
		affine_each(x, s->dim, c);
		times_all(x, s->dim, side_factors(s)[t]);
	}
}

static void row_load(const struct side *s, const struct channels *c, uint32_t t,
		     float *x)
{
	numbers_load(s, t, x);
	if (format_coding(s->format) == CODING_KVARN)
		kvarn_load(s, c, t, x);
	else if (format_coding(s->format) == CODING_TOKEN)
		affine_all(x, s->dim, side_affine(s) + t);
	else if (s->is_v)
		groups_load(s, t, x);
	else
		affine_each(x, s->dim, c);
}

static void rows_load(const struct side *s, uint32_t nr_tokens, float *x)
{
	struct channels c;
	uint32_t t;

	if (format_coding(s->format) != CODING_TOKEN && !s->is_v) {
		floats_load(KVD_DTYPE_F16, side_scales(s), s->dim, c.scale);
		floats_load(KVD_DTYPE_F16, side_mins(s), s->dim, c.min);
	}
	if (format_coding(s->format) == CODING_KVARN && s->is_v)
		floats_load(KVD_DTYPE_F16, side_factors(s), s->dim, c.factor);
	for (t = 0; t < nr_tokens; t++)
		row_load(s, &c, t, x + (size_t)t * s->dim);
}

static void fp8_load(const struct side *s, size_t n, float *x)
{
	float values[256], scale;
	size_t i;

	memcpy(&scale, s->meta, sizeof(scale));
	for (i = 0; i < 256; i++)
		values[i] = fp8_to_f32(s->format, (uint8_t)i) * scale;
	for (i = 0; i < n; i++)
		x[i] = values[s->codes[i]];
}

/* Rows of 16 bits, and of 8, lie one after the other. */
void avx2_side_load(const struct side *s, uint32_t nr_tokens,
		    const struct kv_tables *tables, float *x)
{
	size_t n = (size_t)nr_tokens * s->dim;

	switch (format_coding(s->format)) {
	case CODING_16:
		if (s->format == KVD_F16)
			floats_load(KVD_DTYPE_F16, s->codes, n, x);
		else
			floats_load(KVD_DTYPE_BF16, s->codes, n, x);
		break;
	case CODING_FP8:
		fp8_load(s, n, x);
		break;
	case CODING_KVQUANT:
		ref_side_load(s, nr_tokens, tables, x);
		break;
	default:
		rows_load(s, nr_tokens, x);
	}
}
