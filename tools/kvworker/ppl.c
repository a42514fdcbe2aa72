/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ppl.c - loss of a text under a byte model, in nats a byte.
 *
 * Window i predicts bytes [1024 i, 1024 (i + 1)) from BOS and those bytes
 * without the last; all of them count, and windows know nothing of each
 * other (a last window may be shorter). Every token's logits are needed, so
 * no prefix is taken from the pool: hit_tokens is 0. Pages are published as
 * any prompt's are; where a page of the same prefix is there already, commit
 * goes on with that one.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "tools/kvworker/text.h"
#include "tools/kvworker/worker.h"

#define WINDOW 1024

struct score {
	struct worker *w;
	uint8_t *text;
	size_t nr_bytes;
	size_t done;		/* bytes scored */
	double nats;		/* of these */
	double ms;
};

/* -log softmax(logits)[target] */
static double surprise(const float *logits, uint32_t nr, uint32_t target)
{
	float max = logits[0];
	double sum = 0;

	for (uint32_t i = 1; i < nr; i++)
		max = fmaxf(max, logits[i]);
	for (uint32_t i = 0; i < nr; i++)
		sum += expf(logits[i] - max);
	return log(sum) + max - logits[target];
}

/* Prefills a window and adds up what each token predicts. */
static int score_tokens(struct score *s, struct kvd_seq *seq,
			const uint32_t *tokens, const uint8_t *targets,
			size_t nr, struct error *e)
{
	uint32_t vocab = s->w->config.vocab, chunk = s->w->options.chunk;
	const float *logits;
	int err;

	for (size_t done = 0; done < nr; done += chunk) {
		size_t left = nr - done;
		uint32_t n = left < chunk ? (uint32_t)left : chunk;

		err = model_run(s->w->model, seq, tokens + done, n, n,
				&logits, e);
		if (err)
			return err;
		for (uint32_t i = 0; i < n; i++)
			s->nats += surprise(logits + (size_t)i * vocab, vocab,
					    targets[done + i]);
	}
	return 0;
}

static int score_window(struct score *s, const uint8_t *targets, size_t nr,
			struct error *e)
{
	struct kvd_seq_opts opts = {
		.size = sizeof(opts),
		.no_publish = s->w->options.no_publish,
	};
	uint32_t tokens[WINDOW] = { BYTE_BOS };
	struct kvd_seq *seq;
	int err;

	for (size_t i = 1; i < nr; i++)
		tokens[i] = targets[i - 1];
	err = kvd_seq_new(s->w->kv.space, &opts, &seq);
	if (err)
		return kv_error(&s->w->kv, err, "cannot start a sequence", e);
	err = score_tokens(s, seq, tokens, targets, nr, e);
	kvd_seq_free(seq);
	return err;
}

static void show_progress(const struct score *s)
{
	if (!s->w->options.progress)
		return;
	fprintf(stderr, "\r%zu of %zu bytes, %.4f nats a byte%s", s->done,
		s->nr_bytes, s->nats / (double)s->done,
		s->done == s->nr_bytes ? "\n" : "");
}

static int score_text(struct score *s, struct error *e)
{
	double start = worker_now_ms();
	int err;

	while (s->done < s->nr_bytes) {
		size_t left = s->nr_bytes - s->done;
		size_t nr = left < WINDOW ? left : WINDOW;

		err = score_window(s, s->text + s->done, nr, e);
		if (err)
			return err;
		s->done += nr;
		show_progress(s);
	}
	s->ms = worker_now_ms() - start;
	return 0;
}

static int print_json(const struct score *s, uint64_t bytes_per_token)
{
	const struct worker *w = s->w;
	json_t *o;
	int err;

	o = json_pack("{ss, ss, ss, sI, sf, sI, si, sf}",
		      "device", kvd_device(w->kv.conn),
		      "matrices", worker_matrices(w),
		      "format", w->kv.formats,
		      "bytes", (json_int_t)s->nr_bytes,
		      "nats_per_byte", s->nats / (double)s->nr_bytes,
		      "kv_bytes_per_token", (json_int_t)bytes_per_token,
		      "hit_tokens", 0,
		      "tokens_per_s", (double)s->nr_bytes / s->ms * 1e3);
	err = json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
	json_decref(o);
	putchar('\n');
	return err;
}

static void print_human(const struct score *s, uint64_t bytes_per_token)
{
	printf("%.5f nats a byte over %zu bytes in %s; %" PRIu64
	       " bytes of KV a token; %.0f tokens/s; matrices "
	       "on the %s\n",
	       s->nats / (double)s->nr_bytes, s->nr_bytes,
	       s->w->kv.formats, bytes_per_token,
	       (double)s->nr_bytes / s->ms * 1e3, worker_matrices(s->w));
}

static int report(const struct score *s, struct error *e)
{
	uint64_t bytes;
	int err;

	err = worker_bytes_per_token(s->w, &bytes, e);
	if (err)
		return err;
	if (s->w->options.json)
		err = print_json(s, bytes);
	else
		print_human(s, bytes);
	if (err || fflush(stdout))
		return error_set(e, -EIO, "cannot write the result");
	worker_hold(s->w);
	return 0;
}

int ppl_run(struct worker *w, struct error *e)
{
	const char *path = w->options.ppl;
	struct score s = { .w = w };
	int err;

	if (w->config.vocab != BYTE_VOCAB)
		return error_set(e, -EINVAL, "--ppl needs a model with one "
				 "token for each byte, this one has %u",
				 w->config.vocab);
	if (w->config.max_positions < WINDOW)
		return error_set(e, -EINVAL, "--ppl needs %d positions, the "
				 "model has %u", WINDOW,
				 w->config.max_positions);
	err = text_read(path, w->options.max_bytes, &s.text, &s.nr_bytes, e);
	if (err)
		return err;
	if (s.nr_bytes == 0)
		err = error_set(e, -EINVAL, "%s: empty", path);
	else
		err = score_text(&s, e);
	if (!err)
		err = report(&s, e);
	free(s.text);
	return err;
}
