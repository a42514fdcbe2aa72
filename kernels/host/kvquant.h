/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvquant.h - the parts of sealing a side in kvquant.
 *
 * kvquant_store() in ref_kvquant.c is the format; how the codes of a row are
 * found and packed is given to it, in scalar or in vectors.
 */
#ifndef KERNELS_HOST_KVQUANT_H
#define KERNELS_HOST_KVQUANT_H

#include "kernels/host/tile.h"

/* One token of a side on its way to codes. */
struct kvquant_row {
	const float *x;
	const float *lut;   /* the codebook, normalised; ascends */
	uint32_t nr_codes;
	uint32_t dim;
	const float *range; /* [dim]; of each element */
	const float *zero;
	uint8_t codes[KVD_MAX_DIM]; /* nearest, the lower of equals */
};

#define KVQUANT_TOP (KVD_MAX_DIM / 200 + 2)

/* The largest so far of a row, in order; @n of them are asked for. */
struct kvquant_top {
	float x[KVQUANT_TOP];
	uint32_t nr;
	uint32_t n;
};

static inline void kvquant_top_add(struct kvquant_top *top, float x)
{
	uint32_t i;

	if (top->nr == top->n && !(x > top->x[top->n - 1]))
		return;
	i = top->nr < top->n ? top->nr++ : top->n - 1;
	for (; i && top->x[i - 1] < x; i--)
		top->x[i] = top->x[i - 1];
	top->x[i] = x;
}

struct kvquant_ops {
	/* The @n-th largest of sign * x; @n is below KVQUANT_TOP. */
	float (*nth_largest)(const float *x, uint32_t dim, float sign,
			     uint32_t n);
	void (*nearest)(struct kvquant_row *r);
	void (*pack)(const struct side *s, uint32_t t, const uint8_t *codes);
};

/* Outliers kept so far, as a heap: the least of them first. */
struct kvquant_heap {
	uint64_t *keys; /* [cap] */
	uint32_t cap;
	uint32_t nr;
};

/*
 * Seals @s with at most @heap->cap outliers; the list in its metadata has
 * room for as many. Return: 1 when @x holds NaN or Inf or more than 65504
 * (all of V reads as NaN, of K one element), or a residual is past f16 (it
 * is 65504 then), else 0.
 */
int kvquant_store(const struct side *s, const float *x,
		  const struct kv_tables *tables,
		  const struct kvquant_ops *ops, struct kvquant_heap *heap);

#endif
