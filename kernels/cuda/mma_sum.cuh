/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_sum.cuh - positions a row sees, and sums over some of them.
 */
#ifndef KERNELS_CUDA_MMA_SUM_CUH
#define KERNELS_CUDA_MMA_SUM_CUH

#include <mma.cuh>
#include "kernels/cuda/mma.h"
#include "kernels/cuda/page.cuh"

#define LOG2_E 1.44269504088896341f
#define LN_2 0.693147180559945309f

/* Row @row of a sequence sees positions [row_begin(), row_end()). */
DEVICE uint32_t row_end(const struct kv_seq *s, uint32_t row)
{
	return s->pos + row + 1;
}

DEVICE uint32_t row_begin(const struct kv_attend_args *a, uint32_t end)
{
	return a->window && end > a->window ? end - a->window : 0;
}

DEVICE uint32_t div_up(uint32_t a, uint32_t b)
{
	return (a + b - 1) / b;
}

/* Quads that rows of sequence @i see, but for its bundle's: [first, last). */
DEVICE void seq_quads(const struct mma_params &p, uint32_t i, uint32_t &first,
		      uint32_t &last)
{
	const struct kv_seq *s = &p.args.seqs[i];

	first = row_begin(&p.args, row_end(s, 0)) / MMA_QUAD;
	last = div_up(row_end(s, s->nr_rows - 1), MMA_QUAD);
	if (p.plan.first_shared)
		first = p.plan.shared[i];
}

/* A sum that is relative to a maximum, and one element beside it. */
struct softsum {
	float max, sum, x;
};

DEVICE struct softsum softsum_none(void)
{
	struct softsum a;

	a.max = -INFINITY;
	a.sum = 0.0f;
	a.x = 0.0f;
	return a;
}

DEVICE void softsum_add(struct softsum &to, const struct softsum &from)
{
	const float max = larger(to.max, from.max);

	if (from.max == -INFINITY)
		return;
	const float old = exp2_fast(to.max - max);
	const float added = exp2_fast(from.max - max);

	to.max = max;
	to.sum = mad(from.sum, added, to.sum * old);
	to.x = mad(from.x, added, to.x * old);
}

#endif
