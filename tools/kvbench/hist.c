// SPDX-License-Identifier: Apache-2.0
/*
 * hist.c - how long things took, in bounded memory.
 */
#include "tools/kvbench/hist.h"

#define SUB_BITS 5
#define SUB      (1u << SUB_BITS)

/* Octave and part of it; small values have a bucket each. */
static unsigned bucket_of(uint64_t value)
{
	unsigned shift;

	if (value < SUB)
		return (unsigned)value;
	shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
	return (shift + 1) * SUB + (unsigned)((value >> shift) & (SUB - 1));
}

/* The middle of what falls into a bucket. */
static double bucket_value(unsigned bucket)
{
	unsigned octave = bucket / SUB;
	double width;

	if (octave == 0)
		return bucket;
	width = (double)(1ull << (octave - 1));
	return (SUB + bucket % SUB + 0.5) * width - 0.5;
}

void hist_add(struct hist *h, uint64_t value)
{
	h->nr++;
	h->sum += value;
	h->of[bucket_of(value)]++;
	if (value > h->max)
		h->max = value;
}

void hist_merge(struct hist *h, const struct hist *from)
{
	unsigned i;

	h->nr += from->nr;
	h->sum += from->sum;
	if (from->max > h->max)
		h->max = from->max;
	for (i = 0; i < HIST_BUCKETS; i++)
		h->of[i] += from->of[i];
}

double hist_percentile(const struct hist *h, double percent)
{
	double upto = (double)h->nr * percent / 100, value;
	uint64_t seen = 0;
	unsigned i;

	for (i = 0; i < HIST_BUCKETS; i++) {
		seen += h->of[i];
		if (seen > 0 && (double)seen >= upto)
			break;
	}
	if (i == HIST_BUCKETS)
		return 0;
	value = bucket_value(i);
	return value < (double)h->max ? value : (double)h->max;
}
