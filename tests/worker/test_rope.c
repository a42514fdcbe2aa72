/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rope.c - frequencies of Llama 3.1, and what a rotation must do.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "tools/kvworker/rope.h"

#define DIM 128
#define PAIRS (DIM / 2)

static void check_near(double got, double want, const char *what)
{
	if (fabs(got - want) <= 1e-6 * fabs(want) + 1e-6)
		return;
	fprintf(stderr, "%s: %.9g instead of %.9g\n", what, got, want);
	exit(1);
}

/* High frequencies stay, low ones are divided, those between lie between. */
static void test_llama3(void)
{
	struct config c = {
		.head_dim = DIM,
		.rope_theta = 500000,
		.rope = { true, 8, 1, 4, 8192 },
	};
	double freq[PAIRS], plain;
	int between = 0;

	rope_frequencies(&c, freq);
	for (int i = 0; i < PAIRS; i++) {
		double turns;

		plain = pow(500000, -2.0 * i / DIM);
		turns = 8192 * plain / (2 * M_PI);
		if (turns > 4)
			check_near(freq[i], plain, "high frequency");
		else if (turns < 1)
			check_near(freq[i] * 8, plain, "low frequency");
		else
			between += freq[i] < plain && freq[i] > plain / 8;
	}
	check_near(between, 6, "frequencies between");
}

/* The score of q at one position and k at another is of their distance. */
static void test_distance(void)
{
	struct config c = { .head_dim = DIM, .rope_theta = 10000 };
	double freq[PAIRS], score[2] = { 0 };
	float angles[DIM], q[DIM], k[DIM];

	rope_frequencies(&c, freq);
	for (int n = 0; n < 2; n++) {
		for (int i = 0; i < DIM; i++) {
			q[i] = sinf((float)i);
			k[i] = cosf((float)(3 * i));
		}
		rope_angles(freq, PAIRS, 500 * (unsigned)n + 17, angles);
		rope_apply(q, 1, PAIRS, angles);
		rope_angles(freq, PAIRS, 500 * (unsigned)n + 4, angles);
		rope_apply(k, 1, PAIRS, angles);
		for (int i = 0; i < DIM; i++)
			score[n] += (double)q[i] * k[i];
	}
	if (fabs(score[0] - score[1]) > 1e-4)
		check_near(score[1], score[0], "score");
}

/* Half-split: element i turns towards element i + DIM / 2. */
static void test_halves(void)
{
	const double freq[1] = { 1 };
	float x[2] = { 1, 0 }, angles[2];

	rope_angles(freq, 1, 1, angles);
	rope_apply(x, 1, 1, angles);
	check_near(x[0], cos(1), "x");
	check_near(x[1], sin(1), "y");
}

int main(void)
{
	test_llama3();
	test_distance();
	test_halves();
	return 0;
}
