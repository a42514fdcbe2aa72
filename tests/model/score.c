// SPDX-License-Identifier: Apache-2.0
/* score.c - how far logits are from those that exact keys and values give. */
#include "tests/model/score.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include "tools/kvworker/text.h"

#define VOCAB BYTE_VOCAB

/* log softmax(logits): [VOCAB] */
static void log_softmax(const float *logits, double *out)
{
	double max = logits[0], sum = 0;

	for (uint32_t i = 1; i < VOCAB; i++)
		max = fmax(max, logits[i]);
	for (uint32_t i = 0; i < VOCAB; i++)
		sum += exp(logits[i] - max);
	for (uint32_t i = 0; i < VOCAB; i++)
		out[i] = logits[i] - max - log(sum);
}

static uint32_t top(const double *p)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < VOCAB; i++)
		if (p[i] > p[best])
			best = i;
	return best;
}

void score_add(struct score *s, const float *logits, const float *exact,
	       const uint8_t *targets, uint32_t nr)
{
	double p[VOCAB], q[VOCAB], loss = 0;

	for (uint32_t t = 0; t < nr; t++) {
		log_softmax(exact + t * VOCAB, p);
		log_softmax(logits + t * VOCAB, q);
		loss += p[targets[t]] - q[targets[t]];
		s->nats -= q[targets[t]];
		for (uint32_t i = 0; i < VOCAB; i++)
			s->kl += exp(p[i]) * (p[i] - q[i]);
		s->same_top += top(p) == top(q);
	}
	s->nr_tokens += nr;
	s->loss[s->nr++] = loss / nr;
}

struct result score_result(const struct score *s)
{
	double sum = 0, squares = 0;
	struct result x;

	for (uint32_t i = 0; i < s->nr; i++)
		sum += s->loss[i];
	x.loss = sum / s->nr;
	for (uint32_t i = 0; i < s->nr; i++)
		squares += (s->loss[i] - x.loss) * (s->loss[i] - x.loss);
	x.error = s->nr > 1 ? sqrt(squares / (s->nr - 1) / s->nr) : 0;
	x.perplexity = exp(s->nats / (double)s->nr_tokens);
	x.kl = s->kl / (double)s->nr_tokens;
	x.agree = (double)s->same_top / (double)s->nr_tokens;
	return x;
}

void score_print(const struct score *s, const char *name, uint64_t bytes)
{
	struct result x = score_result(s);
	json_t *o = json_pack("{ss, sI, sf, sf, sf, sf, sf, si}", "format",
			      name, "kv_bytes_per_token", (json_int_t)bytes,
			      "loss", x.loss, "standard_error", x.error,
			      "perplexity", x.perplexity, "kl", x.kl, "top1",
			      x.agree, "windows", (int)s->nr);

	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(o);
}
