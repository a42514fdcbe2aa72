/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codebook.c - codebooks of kvquant from normalised elements.
 *
 * Millions of samples go into bins first. What a bin's samples cost beside
 * their own mean is lost on the solver, which is 2^-30 of a unit at most.
 * Pure; any thread.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "kernels/profile.h"
#include "tools/calibrate/codebook.h"
#include "tools/calibrate/kmeans.h"

#define NR_BINS 32768u

/* Samples, as points that the solver can take. */
struct bins {
	size_t nr;		/* points */
	double x[NR_BINS];	/* weighted means */
	double w[NR_BINS];
};

static uint32_t bin_of(float x)
{
	float at = (x + 1) * (NR_BINS / 2);

	return at <= 0 ? 0 : at >= NR_BINS - 1 ? NR_BINS - 1 : (uint32_t)at;
}

static void fill_bins(struct bins *b, const struct samples *s)
{
	for (size_t i = 0; i < s->nr; i++) {
		uint32_t at = bin_of(s->x[i]);

		b->w[at] += s->w[i];
		b->x[at] += (double)s->w[i] * s->x[i];
	}
	for (uint32_t i = 0; i < NR_BINS; i++) {
		if (!(b->w[i] > 0))
			continue;
		b->x[b->nr] = b->x[i] / b->w[i];
		b->w[b->nr++] = b->w[i];
	}
}

/* Nearest entry, the lower of two that are equally near. */
static uint32_t nearest(const float *lut, uint32_t codes, float x)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < codes; i++)
		if (fabsf(lut[i] - x) < fabsf(lut[best] - x))
			best = i;
	return best;
}

/* Counts, sums and squares of samples and of what codes stand for. */
struct moments {
	double x, xx, y, yy;
};

static void move_book(struct codebook *b, uint32_t codes,
		      const struct moments *m, double nr)
{
	double m1 = m->x / nr, m2 = m->y / nr;
	double s1 = sqrt(fmax(m->xx / nr - m1 * m1, 0));
	double s2 = sqrt(fmax(m->yy / nr - m2 * m2, 0));

	if (!(s2 > 0))
		return;
	for (uint32_t i = 0; i < codes; i++)
		b->out[i] = (float)(b->lut[i] * (s1 / s2) + m1 -
				    m2 * (s1 / s2));
}

static void measure(const struct samples *s, struct codebook *b,
		    uint32_t codes)
{
	double cost = 0, out_cost = 0, power = 0;

	for (size_t i = 0; i < s->nr; i++) {
		uint32_t c = nearest(b->lut, codes, s->x[i]);
		double e = s->x[i] - (double)b->lut[c];
		double o = s->x[i] - (double)b->out[c];

		cost += s->w[i] * e * e;
		out_cost += s->w[i] * o * o;
		power += (double)s->w[i] * s->x[i] * s->x[i];
	}
	b->mse = power > 0 ? cost / power : 0;
	b->out_mse = power > 0 ? out_cost / power : 0;
}

static void finish_book(const struct samples *s, struct codebook *b,
			uint32_t bits)
{
	uint32_t codes = 1u << bits;
	struct moments m = { 0 };

	for (uint32_t i = 0; i < codes; i++)
		b->out[i] = b->lut[i];
	for (size_t i = 0; bits == 2 && i < s->nr; i++) {
		double x = s->x[i];
		double y = b->lut[nearest(b->lut, codes, s->x[i])];

		m.x += x;
		m.xx += x * x;
		m.y += y;
		m.yy += y * y;
	}
	if (bits == 2 && s->nr)
		move_book(b, codes, &m, (double)s->nr);
	measure(s, b, codes);
}

static void set_uniform(float *lut, uint32_t codes)
{
	for (uint32_t i = 0; i < codes; i++)
		lut[i] = (float)(2 * i + 1) / (float)codes - 1;
}

static int solve(const struct bins *b, const struct samples *s,
		 struct codebook *books)
{
	double centroids[TABLES_CODES];
	struct kmeans *km = NULL;
	int err;

	err = kmeans_new(b->x, b->w, b->nr, 1u << PROFILE_MAX_BITS, &km);
	if (err && err != -EINVAL)
		return err;
	for (uint32_t bits = PROFILE_MAX_BITS; bits >= PROFILE_MIN_BITS;
	     bits--, books++) {
		*books = (struct codebook){ .mse = 0 };
		if (km)
			kmeans_centroids(km, 1u << bits, centroids);
		for (uint32_t i = 0; km && i < 1u << bits; i++)
			books->lut[i] = (float)centroids[i];
		if (!km)
			set_uniform(books->lut, 1u << bits);
		finish_book(s, books, bits);
	}
	kmeans_free(km);
	return 0;
}

int codebook_make(const struct samples *s, struct codebook *books)
{
	struct bins *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	fill_bins(b, s);
	err = solve(b, s, books);
	free(b);
	return err;
}
