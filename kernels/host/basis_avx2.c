/* SPDX-License-Identifier: Apache-2.0 */
/*
 * basis_avx2.c - transforms of rows on AVX2, with the bits of basis.c.
 *
 * Every product and sum is one of basis.c's, in its order; which of them are
 * done together does not change them. a - b is a + (-b). Stateless; any
 * thread.
 */
#include <string.h>
#include "kernels/host/basis.h"
#include "kernels/host/store8.h"

/* NaNs as one. */
static inline __m256 one_nan(__m256 x)
{
	__m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(BASIS_NAN));

	return _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline __m256 signs(int pattern)
{
	__m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	__m256i set = _mm256_cmpeq_epi32(
		_mm256_and_si256(_mm256_set1_epi32(pattern), bit), bit);

	return _mm256_castsi256_ps(_mm256_slli_epi32(set, 31));
}

/* Butterflies of h = 1, 2 and 4, within an octet. */
static inline __m256 octet(__m256 x)
{
	x = _mm256_add_ps(_mm256_permute_ps(x, 0xb1),
			  _mm256_xor_ps(x, signs(0xaa)));
	x = _mm256_add_ps(_mm256_permute_ps(x, 0x4e),
			  _mm256_xor_ps(x, signs(0xcc)));
	return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 1),
			     _mm256_xor_ps(x, signs(0xf0)));
}

/* Butterflies of @h, then of 2 * @h. */
static void step4(uint32_t dim, uint32_t h, float *y)
{
	uint32_t i, j;

	for (i = 0; i < dim; i += 4 * h)
		for (j = i; j < i + h; j += 8) {
			__m256 a = _mm256_loadu_ps(y + j);
			__m256 b = _mm256_loadu_ps(y + j + h);
			__m256 c = _mm256_loadu_ps(y + j + 2 * h);
			__m256 d = _mm256_loadu_ps(y + j + 3 * h);
			__m256 e = _mm256_add_ps(a, b), f = _mm256_sub_ps(a, b);
			__m256 g = _mm256_add_ps(c, d), k = _mm256_sub_ps(c, d);

			_mm256_storeu_ps(y + j, _mm256_add_ps(e, g));
			_mm256_storeu_ps(y + j + h, _mm256_add_ps(f, k));
			_mm256_storeu_ps(y + j + 2 * h, _mm256_sub_ps(e, g));
			_mm256_storeu_ps(y + j + 3 * h, _mm256_sub_ps(f, k));
		}
}

static void step2(uint32_t dim, uint32_t h, float *y)
{
	uint32_t i, j;

	for (i = 0; i < dim; i += 2 * h)
		for (j = i; j < i + h; j += 8) {
			__m256 a = _mm256_loadu_ps(y + j);
			__m256 b = _mm256_loadu_ps(y + j + h);

			_mm256_storeu_ps(y + j, _mm256_add_ps(a, b));
			_mm256_storeu_ps(y + j + h, _mm256_sub_ps(a, b));
		}
}

static void hadamard(uint32_t dim, const float *x, float *y)
{
	uint32_t n = hadamard_order(dim), i, h = 8;
	__m256 factor = _mm256_set1_ps(hadamard_factor(n));

	for (i = 0; i < dim; i += 8)
		_mm256_storeu_ps(y + i, octet(_mm256_loadu_ps(x + i)));
	for (; 4 * h <= n; h *= 4)
		step4(dim, h, y);
	if (h < n)
		step2(dim, h, y);
	for (i = 0; i < dim; i += 8)
		_mm256_storeu_ps(y + i,
				 one_nan(_mm256_mul_ps(_mm256_loadu_ps(y + i),
						       factor)));
}

/* PLAIN and HADAMARD. Return: whether @basis is one of them. */
static int own_inverse(uint32_t basis, uint32_t dim, const float *x, float *y)
{
	if (basis == BASIS_PROFILE)
		return 0;
	if (basis == BASIS_HADAMARD)
		hadamard(dim, x, y);
	else if (x != y)
		memcpy(y, x, dim * sizeof(*y));
	return 1;
}

#define BLOCK 4u /* octets of a row's result that are summed together */

/* @n octets of the result, from element @j on. */
static inline void rotate(uint32_t dim, const float *rotation, const float *x,
			  float *y, uint32_t j, uint32_t n)
{
	__m256 acc[BLOCK];
	uint32_t i, k;

	for (k = 0; k < n; k++)
		acc[k] = _mm256_setzero_ps();
	for (i = 0; i < dim; i++) {
		const float *r = rotation + (size_t)i * dim + j;
		__m256 a = _mm256_set1_ps(x[i]);

		for (k = 0; k < n; k++)
			acc[k] = _mm256_add_ps(
				acc[k],
				_mm256_mul_ps(a, _mm256_loadu_ps(r + 8 * k)));
	}
	for (k = 0; k < n; k++)
		_mm256_storeu_ps(y + j + 8 * k, one_nan(acc[k]));
}

/**
 * avx2_basis_apply() - basis_apply()
 */
void avx2_basis_apply(uint32_t basis, uint32_t dim, const float *rotation,
		      const float *x, float *y)
{
	uint32_t j = 0;

	if (own_inverse(basis, dim, x, y))
		return;
	for (; j + 8 * BLOCK <= dim; j += 8 * BLOCK)
		rotate(dim, rotation, x, y, j, BLOCK);
	for (; j < dim; j += 8)
		rotate(dim, rotation, x, y, j, 1);
}

/* Columns of 8 rows of 8: out[k] has element k of each. */
static inline void columns(const float *p, uint32_t stride, __m256 *out)
{
	__m256 a[8], b[8];
	uint32_t i;

	for (i = 0; i < 8; i++)
		a[i] = _mm256_loadu_ps(p + (size_t)i * stride);
	for (i = 0; i < 8; i += 2) {
		b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
		b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
	}
	for (i = 0; i < 8; i += 4) {
		a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
		a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
		a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
		a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
	}
	for (i = 0; i < 4; i++) {
		out[i] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
		out[i + 4] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
	}
}

/**
 * avx2_basis_undo() - basis_undo()
 */
void avx2_basis_undo(uint32_t basis, uint32_t dim, const float *rotation,
		     const float *x, float *y)
{
	uint32_t i, j, k;
	__m256 c[8];

	if (own_inverse(basis, dim, x, y))
		return;
	for (i = 0; i < dim; i += 8) {
		__m256 sum = _mm256_setzero_ps();

		for (j = 0; j < dim; j += 8) {
			columns(rotation + (size_t)i * dim + j, dim, c);
			for (k = 0; k < 8; k++)
				sum = _mm256_add_ps(
					sum,
					_mm256_mul_ps(c[k],
						      _mm256_set1_ps(
							      x[j + k])));
		}
		_mm256_storeu_ps(y + i, one_nan(sum));
	}
}
