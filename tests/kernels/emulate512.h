/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emulate512.h - the AVX-512 that vec_avx512.h uses, in two halves of AVX2.
 *
 * Put before kernels/host/avx512.c by the build, so that its source runs, and
 * can be compared with avx2.c's, on a CPU without AVX-512. Each lane does what
 * the instruction set's manual says of it.
 */
#ifndef TESTS_KERNELS_EMULATE512_H
#define TESTS_KERNELS_EMULATE512_H

#include <immintrin.h>
#include <stdint.h>

struct e512 {
	__m256 l, h;
};

struct e512i {
	__m256i l, h;
};

#define __m512	  struct e512
#define __m512i	  struct e512i
#define __mmask16 uint16_t

#define E_UNARY(name, from, to, op)                                    \
	static inline struct to e_##name(struct from a)                \
	{                                                              \
		return (struct to){ op(a.l), op(a.h) };                \
	}
#define E_BINARY(name, type, op)                                       \
	static inline struct type e_##name(struct type a, struct type b) \
	{                                                              \
		return (struct type){ op(a.l, b.l), op(a.h, b.h) };    \
	}

E_BINARY(add_ps, e512, _mm256_add_ps)
E_BINARY(sub_ps, e512, _mm256_sub_ps)
E_BINARY(mul_ps, e512, _mm256_mul_ps)
E_BINARY(div_ps, e512, _mm256_div_ps)
E_BINARY(max_ps, e512, _mm256_max_ps)
E_BINARY(or_ps, e512, _mm256_or_ps)
E_BINARY(and_ps, e512, _mm256_and_ps)
E_BINARY(andnot_ps, e512, _mm256_andnot_ps)
E_BINARY(add_epi32, e512i, _mm256_add_epi32)
E_BINARY(and_si512, e512i, _mm256_and_si256)
E_BINARY(srlv_epi32, e512i, _mm256_srlv_epi32)
E_UNARY(castps_si512, e512, e512i, _mm256_castps_si256)
E_UNARY(castsi512_ps, e512i, e512, _mm256_castsi256_ps)
E_UNARY(cvtps_epi32, e512, e512i, _mm256_cvtps_epi32)
E_UNARY(cvtepi32_ps, e512i, e512, _mm256_cvtepi32_ps)

#define _mm512_add_ps	    e_add_ps
#define _mm512_sub_ps	    e_sub_ps
#define _mm512_mul_ps	    e_mul_ps
#define _mm512_div_ps	    e_div_ps
#define _mm512_max_ps	    e_max_ps
#define _mm512_or_ps	    e_or_ps
#define _mm512_and_ps	    e_and_ps
#define _mm512_andnot_ps    e_andnot_ps
#define _mm512_add_epi32    e_add_epi32
#define _mm512_and_si512    e_and_si512
#define _mm512_srlv_epi32   e_srlv_epi32
#define _mm512_castps_si512 e_castps_si512
#define _mm512_castsi512_ps e_castsi512_ps
#define _mm512_cvtps_epi32  e_cvtps_epi32
#define _mm512_cvtepi32_ps  e_cvtepi32_ps


static inline uint16_t e_mask(__m256 l, __m256 h)
{
	return _mm256_movemask_ps(l) | _mm256_movemask_ps(h) << 8;
}

/* All ones in the lanes whose bit of @m is set. */
static inline __m256 e_lanes(uint8_t m)
{
	__m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);

	return _mm256_castsi256_ps(_mm256_cmpeq_epi32(
		_mm256_and_si256(_mm256_set1_epi32(m), bit), bit));
}

/* Entries of @a, by the low 4 bits of each index. */
static inline __m256 e_lookup(__m256i i, struct e512 a)
{
	__m256 high = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28));

	return _mm256_blendv_ps(_mm256_permutevar8x32_ps(a.l, i),
				_mm256_permutevar8x32_ps(a.h, i), high);
}

/* Macros in one compiler's headers or another's. */
#undef _mm512_setr_epi32
#undef _mm512_roundscale_ps
#undef _mm512_slli_epi32
#undef _mm512_cmp_ps_mask
#undef _mm512_cmplt_epi32_mask
#undef _mm512_cmpge_epi32_mask
#undef _mm512_extractf32x8_ps
#undef _mm512_insertf32x8
#undef _mm512_inserti64x4
#undef _mm512_srli_epi32

#define _mm512_loadu_ps(p) \
	((struct e512){ _mm256_loadu_ps(p), _mm256_loadu_ps((p) + 8) })
#define _mm512_storeu_ps(p, a) \
	(_mm256_storeu_ps(p, (a).l), _mm256_storeu_ps((p) + 8, (a).h))
#define _mm512_set1_ps(x) \
	((struct e512){ _mm256_set1_ps(x), _mm256_set1_ps(x) })
#define _mm512_setzero_ps() _mm512_set1_ps(0.0f)
#define _mm512_set1_epi32(x) \
	((struct e512i){ _mm256_set1_epi32(x), _mm256_set1_epi32(x) })
#define _mm512_setr_epi32(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p) \
	((struct e512i){ _mm256_setr_epi32(a, b, c, d, e, f, g, h),       \
			 _mm256_setr_epi32(i, j, k, l, m, n, o, p) })
#define _mm512_fmadd_ps(a, b, c)                                \
	((struct e512){ _mm256_fmadd_ps((a).l, (b).l, (c).l),   \
			_mm256_fmadd_ps((a).h, (b).h, (c).h) })
#define _mm512_roundscale_ps(a, imm)                            \
	((struct e512){ _mm256_round_ps((a).l, imm),            \
			_mm256_round_ps((a).h, imm) })
#define _mm512_slli_epi32(a, n)                                 \
	((struct e512i){ _mm256_slli_epi32((a).l, n),           \
			 _mm256_slli_epi32((a).h, n) })
#define _mm512_srli_epi32(a, n)                                 \
	((struct e512i){ _mm256_srli_epi32((a).l, (int)(n)),    \
			 _mm256_srli_epi32((a).h, (int)(n)) })
#define _mm512_cmp_ps_mask(a, b, imm)                           \
	e_mask(_mm256_cmp_ps((a).l, (b).l, imm),                \
	       _mm256_cmp_ps((a).h, (b).h, imm))
#define _mm512_cmplt_epi32_mask(a, b)                                       \
	e_mask(_mm256_castsi256_ps(_mm256_cmpgt_epi32((b).l, (a).l)),       \
	       _mm256_castsi256_ps(_mm256_cmpgt_epi32((b).h, (a).h)))
#define _mm512_cmpge_epi32_mask(a, b) \
	((uint16_t)~_mm512_cmplt_epi32_mask(a, b))
#define _mm512_mask_mov_ps(a, m, b)                                         \
	((struct e512){ _mm256_blendv_ps((a).l, (b).l, e_lanes((m) & 255)), \
			_mm256_blendv_ps((a).h, (b).h, e_lanes((m) >> 8)) })
#define _mm512_castps512_ps256(a)      ((a).l)
#define _mm512_extractf32x8_ps(a, i)   ((a).h)
#define _mm512_insertf32x8(a, b, i)                 \
	((struct e512){ (i) ? (a).l : (b), (i) ? (b) : (a).h })
#define _mm512_inserti64x4(a, b, i)                 \
	((struct e512i){ (i) ? (a).l : (b), (i) ? (b) : (a).h })
#define _mm512_castps256_ps512(a)      ((struct e512){ a, a })
#define _mm512_castsi256_si512(a)      ((struct e512i){ a, a })
#define _mm512_broadcast_i64x4(a)      ((struct e512i){ a, a })
#define _mm512_permutexvar_ps(i, a) \
	((struct e512){ e_lookup((i).l, a), e_lookup((i).h, a) })
#define _mm512_broadcast_f32x8(a)      ((struct e512){ a, a })
#define _mm512_cvtph_ps(a)                                           \
	((struct e512){ _mm256_cvtph_ps(_mm256_castsi256_si128(a)),  \
			_mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)) })
#define _mm512_cvtepu16_epi32(a)                                            \
	((struct e512i){ _mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),  \
			 _mm256_cvtepu16_epi32(                             \
				 _mm256_extracti128_si256(a, 1)) })
#define _mm512_cvtepu8_epi32(a)                           \
	((struct e512i){ _mm256_cvtepu8_epi32(a),         \
			 _mm256_cvtepu8_epi32(_mm_srli_si128(a, 8)) })

#endif
