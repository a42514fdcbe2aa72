/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma.cuh - what tensor core kernels use besides device.cuh: the double.
 *
 * kernels/cuda/device/mma.cuh says what each does. Products are summed in
 * order of k, each sum rounded, where a tensor core keeps to itself how.
 */
#ifndef TESTS_FAKECUDA_MMA_CUH
#define TESTS_FAKECUDA_MMA_CUH

#include <device.cuh>
#include "kernels/host/fp8.h"
#include "tests/fakecuda/copy.h"

/* ---- two 16-bit values in a word; NaN is 0x7fff ---- */

DEVICE uint32_t permute(uint32_t a, uint32_t b, uint32_t selector)
{
	const uint64_t all = (uint64_t)b << 32 | a;
	uint32_t x = 0;

	for (unsigned i = 0; i < 4; i++) {
		const unsigned pick = selector >> 4 * i & 0xf;
		uint32_t byte = all >> 8 * (pick & 7) & 0xff;

		if (pick & 8)
			byte = byte & 0x80 ? 0xff : 0;
		x |= byte << 8 * i;
	}
	return x;
}

DEVICE uint32_t f16_number(float x)
{
	return x != x ? 0x7fffu : f16_from_f32(x);
}

DEVICE uint32_t f16x2_pack(float lo, float hi)
{
	return f16_number(lo) | f16_number(hi) << 16;
}

DEVICE uint32_t bf16_number(float x)
{
	return x != x ? 0x7fffu : bf16_from_f32(x);
}

DEVICE uint32_t bf16x2_pack(float lo, float hi)
{
	return bf16_number(lo) | bf16_number(hi) << 16;
}

DEVICE float f16x2_lo(uint32_t x)
{
	return f16_to_f32((uint16_t)x);
}

DEVICE float f16x2_hi(uint32_t x)
{
	return f16_to_f32((uint16_t)(x >> 16));
}

/* An f32 has more than twice the bits: rounding twice is rounding once. */
DEVICE uint32_t f16x2_mul(uint32_t a, uint32_t b)
{
	return f16x2_pack(f16x2_lo(a) * f16x2_lo(b), f16x2_hi(a) * f16x2_hi(b));
}

DEVICE uint32_t f16x2_add(uint32_t a, uint32_t b)
{
	return f16x2_pack(f16x2_lo(a) + f16x2_lo(b), f16x2_hi(a) + f16x2_hi(b));
}

DEVICE uint32_t f16x2_sub(uint32_t a, uint32_t b)
{
	return f16x2_pack(f16x2_lo(a) - f16x2_lo(b), f16x2_hi(a) - f16x2_hi(b));
}

/*
 * A double has the sum exactly, or so nearly that an f16 of it is the same. Cut
 * to an f32 whose last bit says whether anything is missing: rounding that to
 * an f16 is rounding the sum once.
 */
DEVICE float fma_sticky(float a, float b, float c)
{
	const uint64_t rest = 0x1fffffff;
	const double sum = (double)a * (double)b + (double)c;
	uint64_t u;
	double cut;

	memcpy(&u, &sum, 8);
	if (u & rest && sum == sum)
		u = (u & ~rest) | (rest + 1);
	memcpy(&cut, &u, 8);
	return (float)cut;
}

DEVICE uint32_t f16x2_fma(uint32_t a, uint32_t b, uint32_t c)
{
	return f16x2_pack(fma_sticky(f16x2_lo(a), f16x2_lo(b), f16x2_lo(c)),
			  fma_sticky(f16x2_hi(a), f16x2_hi(b), f16x2_hi(c)));
}

#include "kernels/cuda/fp8.cuh"

/* As an sm_80 computes them, and as the format is defined. */
DEVICE uint32_t f16x2_from_e4m3(uint32_t two)
{
	if (simt_sm() < 89)
		return f16x2_from_e4m3_bits(two);
	return f16x2_pack(e4m3_to_f32((uint8_t)two),
			  e4m3_to_f32((uint8_t)(two >> 8)));
}

DEVICE uint32_t f16x2_from_e5m2(uint32_t two)
{
	if (simt_sm() < 89)
		return f16x2_from_e5m2_bits(two);
	return f16x2_pack(e5m2_to_f32((uint8_t)two),
			  e5m2_to_f32((uint8_t)(two >> 8)));
}

DEVICE float divide_fast(float a, float b)
{
	return a / b;
}

DEVICE float exp2_fast(float x)
{
	const float y = exp2f(x);

	return y < 0x1p-126f ? 0.0f : y;
}

/* ---- warps ---- */

/* A lane's two rows of A and two columns of B side by side, for one k. */
struct mma_board {
	f4 a[8][16]; /* [g][k]: A[g][k] twice, A[g + 8][k] twice */
	f4 b[4][16]; /* [t][k]: B[k][2t], B[k][2t + 1], and again */
};
static_assert(sizeof(struct mma_board) <= SIMT_WIDE_BYTES, "board");

/* Words to values, two each. */
DEVICE void mma_values(float *to, const uint32_t *w, bool bf16)
{
	const f4 x = bf16 ? f4_from_bf16(w) : f4_from_f16(w);

	memcpy(to, &x, sizeof(x));
}

DEVICE void mma_deposit(struct mma_board *board, const uint32_t *a,
			const uint32_t *b, bool bf16)
{
	const unsigned g = simt_thread->lane / 4, t = simt_thread->lane % 4;
	alignas(16) uint32_t words[6] = { a[0], a[1], a[2], a[3], b[0], b[1] };
	float x[12];

	for (unsigned i = 0; i < 6; i += 2)
		mma_values(&x[2 * i], &words[i], bf16);
	for (unsigned i = 0; i < 4; i++) {
		const unsigned k = 2 * t + i % 2 + i / 2 * 8;
		const unsigned at = i % 2 + i / 2 * 4;
		float *col = (float *)&board->b[g / 2][k] + g % 2;

		board->a[g][k] = (f4){ x[at], x[at], x[at + 2], x[at + 2] };
		col[0] = col[2] = x[8 + i];
	}
}

DEVICE void mma_any(float *c, const uint32_t *a, const uint32_t *b, bool bf16)
{
	struct mma_board *board = (struct mma_board *)simt_wide();
	const f4 *rows = board->a[simt_thread->lane / 4];
	const f4 *cols = board->b[simt_thread->lane % 4];
	f4 sum;

	mma_deposit(board, a, b, bf16);
	simt_sync_warp();
	memcpy(&sum, c, sizeof(sum));
	for (unsigned k = 0; k < 16; k++)
		sum = f4_mad(rows[k], cols[k], sum);
	memcpy(c, &sum, sizeof(sum));
}

DEVICE void mma_f16(float *c, const uint32_t *a, const uint32_t *b)
{
	mma_any(c, a, b, false);
}

DEVICE void mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
	mma_any(c, a, b, true);
}

DEVICE uint32_t transpose8(uint32_t x)
{
	uint32_t *words = (uint32_t *)simt_wide();
	const unsigned lane = simt_thread->lane;
	const unsigned from = lane % 4 * 8 + lane / 8;
	const unsigned shift = lane / 4 % 2 * 16;

	words[lane] = x;
	simt_sync_warp();
	return (words[from] >> shift & 0xffffu) |
	       (words[from + 4] >> shift & 0xffffu) << 16;
}

/* ---- loads and stores ---- */

DEVICE void load_words(uint32_t *w, const void *p, size_t bytes)
{
	if ((uintptr_t)p % bytes)
		simt_die("load of %zu bytes at %p: misaligned", bytes, p);
	memcpy(w, p, bytes);
}

DEVICE void load16(uint32_t *w, const void *p)
{
	load_words(w, p, 16);
}

DEVICE void load8(uint32_t *w, const void *p)
{
	load_words(w, p, 8);
}

DEVICE void load4(uint32_t *w, const void *p)
{
	load_words(w, p, 4);
}

DEVICE void store_words(void *p, const uint32_t *w, size_t bytes)
{
	if ((uintptr_t)p % bytes)
		simt_die("store of %zu bytes at %p: misaligned", bytes, p);
	memcpy(p, w, bytes);
}

DEVICE void store16(void *p, const uint32_t *w)
{
	store_words(p, w, 16);
}

DEVICE void store8(void *p, const uint32_t *w)
{
	store_words(p, w, 8);
}

/* ---- copies ---- */

DEVICE void copy16(void *shared, const void *global)
{
	simt_copy16(shared, global);
}

DEVICE void copy16_commit(void)
{
	simt_copy16_commit();
}

template <unsigned N> DEVICE void copy16_wait(void)
{
	simt_copy16_wait(N);
}

DEVICE bool device_bulk(void)
{
	return simt_sm() >= 90;
}

DEVICE void mbar_init(uint64_t *bar, unsigned arrivals)
{
	simt_mbar_init(bar, arrivals);
}

DEVICE void mbar_fence_init(void)
{
	simt_mbar_fence_init();
}

DEVICE void mbar_expect(uint64_t *bar, uint32_t bytes)
{
	simt_mbar_expect(bar, bytes);
}

DEVICE void bulk_copy(void *shared, const void *global, uint32_t bytes,
		      uint64_t *bar)
{
	simt_bulk_copy(shared, global, bytes, bar);
}

DEVICE void mbar_wait(uint64_t *bar, unsigned parity)
{
	simt_mbar_wait(bar, parity);
}

#endif
