/* SPDX-License-Identifier: Apache-2.0 */
/*
 * score.h - how far logits are from those that exact keys and values give.
 *
 * Tokens come in windows, which are independent of each other: the standard
 * error of the mean loss is over windows.
 */
#ifndef TESTS_MODEL_SCORE_H
#define TESTS_MODEL_SCORE_H

#include <stdint.h>

#define WINDOW 1024u
#define MAX_WINDOWS 140

struct score {
	uint32_t nr;			/* windows */
	uint64_t nr_tokens;
	double loss[MAX_WINDOWS];	/* over exact, nats/byte, of each */
	double nats;			/* sums over tokens */
	double kl;
	uint64_t same_top;
};

struct result {
	double loss, error;	/* mean over windows and its standard error */
	double perplexity, kl, agree;
};

/* One more window: @logits and @exact [nr][BYTE_VOCAB] of what predicts
 * @targets [nr]. */
void score_add(struct score *s, const float *logits, const float *exact,
	       const uint8_t *targets, uint32_t nr);

struct result score_result(const struct score *s);

/* A line of JSON for model_table: keys and values as @name says took @bytes a
 * token. */
void score_print(const struct score *s, const char *name, uint64_t bytes);

#endif
