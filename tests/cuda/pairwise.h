/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pairwise.h - few cases in which any two factors meet in all their values.
 *
 * Each case is begun with a pair of values that no case had, and is the best
 * of some that chance makes of the rest.
 */
#ifndef TESTS_CUDA_PAIRWISE_H
#define TESTS_CUDA_PAIRWISE_H

#include <assert.h>
#include <string.h>
#include "tests/kernels/random.h"

#define PAIRWISE_FACTORS 16u
#define PAIRWISE_VALUES	 16u
#define PAIRWISE_TRIES	 30u

struct pairwise {
	const uint32_t *nr_values; /* [nr] */
	uint32_t nr;
	int (*allowed)(const uint32_t *x);
	uint8_t *had; /* [i][j][value of i][value of j], i < j */
};

static inline uint8_t *pairwise_had(const struct pairwise *p, const uint32_t *x,
				    uint32_t i, uint32_t j)
{
	return &p->had[((i * PAIRWISE_FACTORS + j) * PAIRWISE_VALUES + x[i]) *
			       PAIRWISE_VALUES +
		       x[j]];
}

static inline void pairwise_init(struct pairwise *p, const uint32_t *nr_values,
				 uint32_t nr, int (*allowed)(const uint32_t *x))
{
	*p = (struct pairwise){ nr_values, nr, allowed, NULL };
	p->had = calloc(PAIRWISE_FACTORS * PAIRWISE_FACTORS,
			PAIRWISE_VALUES * PAIRWISE_VALUES);
	assert(p->had && nr <= PAIRWISE_FACTORS);
}

static inline void pairwise_fini(struct pairwise *p)
{
	free(p->had);
}

/* Pairs of @x that no case had. */
static inline uint32_t pairwise_new(const struct pairwise *p, const uint32_t *x)
{
	uint32_t n = 0, i, j;

	for (i = 0; i < p->nr; i++)
		for (j = i + 1; j < p->nr; j++)
			n += !*pairwise_had(p, x, i, j);
	return n;
}

/* The best allowed case with factors @i and @j as they are. 0: there is none. */
static inline uint32_t pairwise_best(const struct pairwise *p, uint32_t i,
				     uint32_t j, uint32_t *x)
{
	uint32_t y[PAIRWISE_FACTORS], best = 0, n, f, try;

	memcpy(y, x, p->nr * sizeof(*y));
	for (try = 0; try < PAIRWISE_TRIES; try++) {
		for (f = 0; f < p->nr; f++)
			if (f != i && f != j)
				y[f] = random_below(p->nr_values[f]);
		n = p->allowed(y) ? pairwise_new(p, y) : 0;
		if (n > best) {
			best = n;
			memcpy(x, y, p->nr * sizeof(*y));
		}
	}
	return best;
}

/* A case begun with the pair (@i, @j) as @x has it, if that is new. */
static inline int pairwise_try(struct pairwise *p, uint32_t *x, uint32_t i,
			       uint32_t j)
{
	uint32_t a, b;

	if (*pairwise_had(p, x, i, j))
		return 0;
	if (!pairwise_best(p, i, j, x)) {
		*pairwise_had(p, x, i, j) = 1; /* never allowed */
		return 0;
	}
	for (a = 0; a < p->nr; a++)
		for (b = a + 1; b < p->nr; b++)
			*pairwise_had(p, x, a, b) = 1;
	return 1;
}

/* The next case. 0: all pairs have met. */
static inline int pairwise_next(struct pairwise *p, uint32_t *x)
{
	uint32_t i, j;

	for (i = 0; i < p->nr; i++)
		for (j = i + 1; j < p->nr; j++)
			for (x[i] = 0; x[i] < p->nr_values[i]; x[i]++)
				for (x[j] = 0; x[j] < p->nr_values[j]; x[j]++)
					if (pairwise_try(p, x, i, j))
						return 1;
	return 0;
}

#endif
