/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.c - how often pages are used again, and when: learned, by kind.
 */
#include "daemon/mem/reuse.h"

#include <math.h>
#include <string.h>

#define FIRST_AGE 16.0 /* one such part of the pool */
#define FADING	  0.98 /* a call of reuse_learn() */
#define PRIOR_USE 0.5  /* of the waits that are taken for granted */
#define PRIOR_NEW 8    /* as many as at any other age are used at the first */

void reuse_init(struct reuse *r, uint64_t nr_pages)
{
	memset(r, 0, sizeof(*r));
	r->unit = (double)nr_pages / FIRST_AGE;
	if (r->unit < 1)
		r->unit = 1;
	reuse_learn(r);
}

uint32_t reuse_age(const struct reuse *r, uint64_t ticks)
{
	double octaves;

	if ((double)ticks < r->unit)
		return 0;
	octaves = log2((double)ticks / r->unit);
	return octaves < REUSE_OCTAVES ?
		       1 + (uint32_t)(octaves * REUSE_STEPS) :
		       REUSE_AGES;
}

/* In units. */
static double age_width(uint32_t age)
{
	double end = exp2((double)age / REUSE_STEPS);

	return age ? end - exp2((double)(age - 1) / REUSE_STEPS) : 1;
}

void reuse_wait(struct reuse *r, uint32_t kind)
{
	r->waits[kind]++;
}

void reuse_use(struct reuse *r, uint32_t kind, uint64_t ticks)
{
	uint32_t age;

	/* Pages released together are often used together. */
	if (ticks != r->last_ticks) {
		r->last_ticks = ticks;
		r->last_age = reuse_age(r, ticks);
	}
	age = r->last_age;
	if (age < REUSE_AGES)
		r->uses[kind][age]++;
}

/* The best ratio of uses to time from age @from on; @left[] wait still. */
static double kind_worth(const double uses[REUSE_AGES],
			 const double left[REUSE_AGES], uint32_t from)
{
	double sum = 0, time = 0, best = 0;

	for (uint32_t age = from; age < REUSE_AGES; age++) {
		sum += uses[age];
		time += left[age] * age_width(age);
		if (sum > best * time)
			best = sum / time;
	}
	return best;
}

/*
 * A step's pages are taken for granted, half of them used again, as likely at
 * any age as at its double: as long as little else is known, the page that has
 * waited longest is worth least.
 */
static void kind_learn(struct reuse *r, uint32_t kind)
{
	double uses[REUSE_AGES], left[REUSE_AGES];
	double n = r->waits[kind] + r->unit;
	double prior = r->unit * PRIOR_USE / (REUSE_AGES - 1 + PRIOR_NEW);

	for (uint32_t age = 0; age < REUSE_AGES; age++) {
		uses[age] = r->uses[kind][age] +
			    prior * (age ? 1 : PRIOR_NEW);
		left[age] = n;
		n -= uses[age];
		/* A wait may have ended that faded before it did. */
		n = n > 1 ? n : 1;
	}
	for (uint32_t age = 0; age < REUSE_AGES; age++)
		r->worth[kind][age] = kind_worth(uses, left, age);
}

void reuse_learn(struct reuse *r)
{
	for (uint32_t kind = 0; kind < REUSE_KINDS; kind++) {
		r->waits[kind] *= FADING;
		for (uint32_t age = 0; age < REUSE_AGES; age++)
			r->uses[kind][age] *= FADING;
		kind_learn(r, kind);
	}
}
