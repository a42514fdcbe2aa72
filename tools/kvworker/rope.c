/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rope.c - rotary position embedding, half-split as Hugging Face has it.
 *
 * Angles are computed in double: at position 100,000 a float has no more than
 * two digits left behind the point.
 */
#include <math.h>
#include "tools/kvworker/rope.h"

static double stretch(const struct rope_scaling *s, double freq)
{
	double wavelength = 2 * M_PI / freq;
	double turns = s->original_positions / wavelength;
	double smooth;

	if (turns < s->low_freq_factor)
		return freq / s->factor;
	if (turns > s->high_freq_factor)
		return freq;
	smooth = (turns - s->low_freq_factor) /
		 (s->high_freq_factor - s->low_freq_factor);
	return (1 - smooth) * freq / s->factor + smooth * freq;
}

void rope_frequencies(const struct config *c, double *freq)
{
	for (uint32_t i = 0; i < c->head_dim / 2; i++) {
		freq[i] = pow(c->rope_theta, -2.0 * i / c->head_dim);
		if (c->rope.on)
			freq[i] = stretch(&c->rope, freq[i]);
	}
}

void rope_angles(const double *freq, uint32_t nr_pairs, uint64_t pos,
		 float *cos_sin)
{
	for (uint32_t i = 0; i < nr_pairs; i++) {
		cos_sin[i] = (float)cos((double)pos * freq[i]);
		cos_sin[nr_pairs + i] = (float)sin((double)pos * freq[i]);
	}
}

void rope_apply(float *x, uint32_t nr_heads, uint32_t nr_pairs,
		const float *cos_sin)
{
	const float *sin_of = cos_sin + nr_pairs;

	for (uint32_t h = 0; h < nr_heads; h++, x += 2 * nr_pairs) {
		for (uint32_t i = 0; i < nr_pairs; i++) {
			float a = x[i], b = x[i + nr_pairs];

			x[i] = a * cos_sin[i] - b * sin_of[i];
			x[i + nr_pairs] = b * cos_sin[i] + a * sin_of[i];
		}
	}
}
