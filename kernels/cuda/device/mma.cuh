/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma.cuh - what tensor core kernels use besides device.cuh: the GPU.
 *
 * Instructions by name, nothing more; tests/fakecuda/device/mma.cuh has the
 * same for the double. Words hold two 16-bit values, the first in the lower
 * half. What says "warp" is for all 32 lanes at once. NaNs come out as 0x7fff.
 */
#ifndef KERNELS_CUDA_MMA_CUH
#define KERNELS_CUDA_MMA_CUH

#include <device.cuh>

/*
 * Warp: C += A B with A 16x16, B 16x8, C 16x8. Lane l, g = l / 4, t = l % 4:
 * a[0] = A[g][2t..], a[1] = A[g + 8][2t..], a[2] = A[g][2t + 8..],
 * a[3] = A[g + 8][2t + 8..]; b[0] = B[2t..][g], b[1] = B[2t + 8..][g];
 * c[0..1] = C[g][2t..], c[2..3] = C[g + 8][2t..].
 */
#define MMA(name, type)                                                        \
	DEVICE void name(float *c, const uint32_t *a, const uint32_t *b)       \
	{                                                                      \
		asm volatile(                                                  \
			"mma.sync.aligned.m16n8k16.row.col.f32." type "." type \
			".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "  \
			"{%0, %1, %2, %3};"                                    \
			: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])       \
			: "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),          \
			  "r"(b[0]), "r"(b[1]));                               \
	}
MMA(mma_f16, "f16")
MMA(mma_bf16, "bf16")
#undef MMA

/*
 * Warp: transposes an 8x8 matrix of 16-bit values, of which lane l has
 * [l / 4][2 * (l % 4)] and the next.
 */
DEVICE uint32_t transpose8(uint32_t x)
{
	uint32_t y;

	asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
		     : "=r"(y)
		     : "r"(x));
	return y;
}

/*
 * Byte i is byte (nibble i of @selector) % 8 of @a, then @b; with bit 3 of the
 * nibble set, that byte's sign eight times.
 */
DEVICE uint32_t permute(uint32_t a, uint32_t b, uint32_t selector)
{
	uint32_t x;

	asm("prmt.b32 %0, %1, %2, %3;"
	    : "=r"(x)
	    : "r"(a), "r"(b), "r"(selector));
	return x;
}

DEVICE uint32_t f16x2_pack(float lo, float hi)
{
	uint32_t x;

	asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
	return x;
}

DEVICE uint32_t bf16x2_pack(float lo, float hi)
{
	uint32_t x;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(hi), "f"(lo));
	return x;
}

DEVICE float f16x2_lo(uint32_t x)
{
	return f16_value(x & 0xffffu);
}

DEVICE float f16x2_hi(uint32_t x)
{
	return f16_value(x >> 16);
}

/* Rounded once, subnormals kept. */
#define F16X2(name, instruction)                                               \
	DEVICE uint32_t name(uint32_t a, uint32_t b)                           \
	{                                                                      \
		uint32_t x;                                                    \
                                                                               \
		asm(instruction " %0, %1, %2;" : "=r"(x) : "r"(a), "r"(b));    \
		return x;                                                      \
	}
F16X2(f16x2_mul, "mul.rn.f16x2")
F16X2(f16x2_add, "add.rn.f16x2")
F16X2(f16x2_sub, "sub.rn.f16x2")
#undef F16X2

/* a * b + c */
DEVICE uint32_t f16x2_fma(uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t x;

	asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(x) : "r"(a), "r"(b), "r"(c));
	return x;
}

#include "kernels/cuda/fp8.cuh"

/* Of the two codes in the lower half of @two. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define FROM_FP8(name, type)                                                   \
	DEVICE uint32_t name(uint32_t two)                                     \
	{                                                                      \
		uint32_t x;                                                    \
                                                                               \
		asm("cvt.rn.f16x2." type " %0, %1;"                            \
		    : "=r"(x)                                                  \
		    : "h"((uint16_t)two));                                     \
		return x;                                                      \
	}
#else
#define FROM_FP8(name, type)                                                   \
	DEVICE uint32_t name(uint32_t two)                                     \
	{                                                                      \
		return name##_bits(two);                                       \
	}
#endif
FROM_FP8(f16x2_from_e4m3, "e4m3x2")
FROM_FP8(f16x2_from_e5m2, "e5m2x2")
#undef FROM_FP8

/* To some units in the last place. */
DEVICE float divide_fast(float a, float b)
{
	float x;

	asm("div.approx.f32 %0, %1, %2;" : "=f"(x) : "f"(a), "f"(b));
	return x;
}

/* 2^x, good to about 22 bits; subnormal results are 0, 2^-INFINITY is 0. */
DEVICE float exp2_fast(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* ---- loads and stores, of any memory, aligned as they are wide ---- */

DEVICE void store16(void *p, const uint32_t *w)
{
	*(uint4 *)p = make_uint4(w[0], w[1], w[2], w[3]);
}

DEVICE void store8(void *p, const uint32_t *w)
{
	*(uint2 *)p = make_uint2(w[0], w[1]);
}

DEVICE void load16(uint32_t *w, const void *p)
{
	const uint4 x = *(const uint4 *)p;

	w[0] = x.x;
	w[1] = x.y;
	w[2] = x.z;
	w[3] = x.w;
}

DEVICE void load8(uint32_t *w, const void *p)
{
	const uint2 x = *(const uint2 *)p;

	w[0] = x.x;
	w[1] = x.y;
}

DEVICE void load4(uint32_t *w, const void *p)
{
	w[0] = *(const uint32_t *)p;
}

/* ---- copies beside the threads: each thread's own, 16 bytes a call ---- */

DEVICE uint32_t shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Both addresses are multiples of 16; nobody touches @shared until a wait. */
DEVICE void copy16(void *shared, const void *global)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
			     shared_address(shared)),
		     "l"(__cvta_generic_to_global(global))
		     : "memory");
}

/* Ends a group: this thread's copies since the last. */
DEVICE void copy16_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/*
 * All groups of this thread but the last N have arrived, for this thread:
 * others see them after a barrier.
 */
template <unsigned N> DEVICE void copy16_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/*
 * ---- bulk copies: any multiple of 16 bytes, counted by an mbarrier ----
 *
 * One thread makes mbarriers, fences, and a __syncthreads() shows them to all.
 * Each phase of one ends when as many mbar_expect() as it was made for are in,
 * and all bytes these told of. Phases have parity 0, 1, 0, 1...
 */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
/* Whether there are bulk copies; without, those below are never reached. */
DEVICE bool device_bulk(void)
{
	return true;
}

DEVICE void mbar_init(uint64_t *bar, unsigned arrivals)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(
			     shared_address(bar)),
		     "r"(arrivals)
		     : "memory");
}

DEVICE void mbar_fence_init(void)
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Arrives, and tells of @bytes that bulk copies will bring in this phase. */
DEVICE void mbar_expect(uint64_t *bar, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::
			     "r"(shared_address(bar)),
		     "r"(bytes)
		     : "memory");
}

/* Addresses are multiples of 16; the L2 is told to forget the source first. */
DEVICE void bulk_copy(void *shared, const void *global, uint32_t bytes,
		      uint64_t *bar)
{
	uint64_t policy;

	asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;"
	    : "=l"(policy));
	asm volatile(
		"cp.async.bulk.shared::cluster.global"
		".mbarrier::complete_tx::bytes.L2::cache_hint "
		"[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(shared)),
		"l"(__cvta_generic_to_global(global)), "r"(bytes),
		"r"(shared_address(bar)), "l"(policy)
		: "memory");
}

/* Until the phase of that parity is over. */
DEVICE void mbar_wait(uint64_t *bar, unsigned parity)
{
	uint32_t over;

	do {
		asm volatile("{\n\t.reg .pred p;\n\t"
			     "mbarrier.try_wait.parity.shared::cta.b64 "
			     "p, [%1], %2;\n\t"
			     "selp.u32 %0, 1, 0, p;\n\t}"
			     : "=r"(over)
			     : "r"(shared_address(bar)), "r"(parity)
			     : "memory");
	} while (!over);
}
#else
DEVICE bool device_bulk(void)
{
	return false;
}

DEVICE void mbar_init(uint64_t *, unsigned)
{
	__trap();
}

DEVICE void mbar_fence_init(void)
{
	__trap();
}

DEVICE void mbar_expect(uint64_t *, uint32_t)
{
	__trap();
}

DEVICE void bulk_copy(void *, const void *, uint32_t, uint64_t *)
{
	__trap();
}

DEVICE void mbar_wait(uint64_t *, unsigned)
{
	__trap();
}
#endif

#endif
