/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate.c - continue a prompt.
 *
 * match, prefill, then one token at a time, always the likeliest one. What a
 * user waits for is the first token: ttft runs from before the match to when
 * the first token is known. --cold-too measures the same without the pool's
 * help, in a sequence that neither takes a prefix nor leaves one.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "tools/kvworker/text.h"
#include "tools/kvworker/worker.h"

struct generation {
	struct worker *w;
	const uint32_t *prompt;
	size_t nr_prompt;
	uint32_t *out;		/* generated */
	size_t nr_out;
	FILE *logits;		/* NULL: not wanted */
	uint64_t digest;	/* of the logits that tokens were chosen by */
	size_t hit;
	struct kvd_seq_info info; /* when all tokens are there */
	double ttft_ms;
	double ttft_cold_ms;	/* 0: not measured */
	double decode_ms;	/* of all but the first token */
};

/* The likeliest token by one row of logits. */
static uint32_t choose(struct generation *g, const float *logits)
{
	uint32_t nr = g->w->config.vocab, best = 0;

	g->digest = XXH3_64bits_withSeed(logits, nr * sizeof(*logits),
					 g->digest);
	for (uint32_t i = 1; i < nr; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static int new_sequence(struct worker *w, bool no_publish,
			struct kvd_seq **ret, struct error *e)
{
	struct kvd_seq_opts opts = {
		.size = sizeof(opts),
		.no_publish = no_publish,
	};
	int err = kvd_seq_new(w->kv.space, &opts, ret);

	return err ? kv_error(&w->kv, err, "cannot start a sequence", e) : 0;
}

static int write_logits(struct generation *g, const float *logits, size_t nr,
			struct error *e)
{
	size_t n = nr * g->w->config.vocab;

	if (fwrite(logits, sizeof(float), n, g->logits) == n)
		return 0;
	return error_set(e, -EIO, "%s: %s", g->w->options.logits,
			 strerror(errno));
}

/* Computes the prompt from @done on; @all: write the logits of each token. */
static int prefill(struct generation *g, struct kvd_seq *seq, size_t done,
		   bool all, uint32_t *ret_next, struct error *e)
{
	const struct worker *w = g->w;
	const float *logits;
	int err;

	while (done < g->nr_prompt) {
		size_t left = g->nr_prompt - done;
		uint32_t nr = left < w->options.chunk ? (uint32_t)left :
							w->options.chunk;
		uint32_t want = all ? nr : nr == left ? 1 : 0;

		err = model_run(w->model, seq, g->prompt + done, nr, want,
				&logits, e);
		if (!err && all)
			err = write_logits(g, logits, nr, e);
		if (err)
			return err;
		if (nr == left)
			*ret_next = choose(g, logits + (want - 1) *
						       (size_t)w->config.vocab);
		done += nr;
	}
	return 0;
}

static int measure_cold(struct generation *g, struct error *e)
{
	struct kvd_seq *seq;
	double start;
	uint32_t next;
	int err;

	err = new_sequence(g->w, true, &seq, e);
	if (err)
		return err;
	start = worker_now_ms();
	err = prefill(g, seq, 0, false, &next, e);
	g->ttft_cold_ms = worker_now_ms() - start;
	g->digest = 0;
	kvd_seq_free(seq);
	return err;
}

static bool ends_text(const struct config *c, uint32_t token)
{
	for (uint32_t i = 0; i < c->nr_eos; i++)
		if (c->eos[i] == token)
			return true;
	return false;
}

/* Generates tokens, @next first, until there are enough or the text ends. */
static int decode(struct generation *g, struct kvd_seq *seq, uint32_t next,
		  struct error *e)
{
	const struct worker *w = g->w;
	double start = worker_now_ms();
	const float *logits;
	int err;

	while (g->nr_out < w->options.generate &&
	       !ends_text(&w->config, next)) {
		g->out[g->nr_out++] = next;
		if (g->nr_out == w->options.generate)
			break;
		err = model_run(w->model, seq, &next, 1, 1, &logits, e);
		if (err)
			return err;
		next = choose(g, logits);
	}
	g->decode_ms = worker_now_ms() - start;
	return 0;
}

/* What the sequence holds, and how it began. */
static int look(struct generation *g, const struct kvd_seq *seq,
		struct error *e)
{
	int err;

	g->info.size = sizeof(g->info);
	err = kvd_seq_info(seq, &g->info);
	return err ? kv_error(&g->w->kv, err, "cannot read the sequence", e) :
		     0;
}

/* Match, prefill, decode. */
static int run_sequence(struct generation *g, struct kvd_seq *seq,
			struct error *e)
{
	struct worker *w = g->w;
	double start = worker_now_ms();
	uint32_t next;
	int err;

	if (!w->options.no_match) {
		err = kvd_seq_match_wait(seq, g->prompt, g->nr_prompt - 1,
					 w->options.wait_ms, &g->hit);
		if (err)
			return kv_error(&w->kv, err, "cannot match", e);
	}
	err = prefill(g, seq, g->hit, g->logits, &next, e);
	if (err)
		return err;
	g->ttft_ms = worker_now_ms() - start;
	err = decode(g, seq, next, e);
	return err ? err : look(g, seq, e);
}

/* Decoded tokens a second; the first one came from prefill. */
static double decode_rate(const struct generation *g)
{
	if (g->nr_out < 2 || g->decode_ms <= 0)
		return 0;
	return (double)(g->nr_out - 1) / g->decode_ms * 1e3;
}

static int print_json(const struct generation *g, uint64_t bytes_per_token,
		      const char *text)
{
	const struct worker *w = g->w;
	char digest[17];
	json_t *o;
	int err;

	o = json_pack("{si, ss, ss, sI, sI, sI, sf, sI, sf, ss}",
		      "pid", (int)getpid(), "device", kvd_device(w->kv.conn),
		      "format", w->kv.formats,
		      "page_tokens", (json_int_t)w->kv.page_tokens,
		      "prompt_tokens", (json_int_t)g->nr_prompt,
		      "hit_tokens", (json_int_t)g->hit,
		      "ttft_ms", g->ttft_ms,
		      "kv_bytes_per_token", (json_int_t)bytes_per_token,
		      "tokens_per_s", decode_rate(g), "text", text);
	json_object_set_new(o, "matrices", json_string(worker_matrices(w)));
	json_object_set_new(o, "open_bytes",
			    json_integer((json_int_t)g->info.open_bytes));
	json_object_set_new(o, "sealed_bytes",
			    json_integer((json_int_t)g->info.sealed_bytes));
	json_object_set_new(o, "demoted_tokens",
			    json_integer((json_int_t)g->info.demoted_tokens));
	json_object_set_new(o, "inexact_lag",
			    json_boolean(g->info.inexact_lag));
	json_object_set_new(o, "publish_due",
			    json_boolean(w->kv.publish_due));
	snprintf(digest, sizeof(digest), "%016" PRIx64, g->digest);
	json_object_set_new(o, "logits_digest", json_string(digest));
	if (g->ttft_cold_ms > 0)
		json_object_set_new(o, "ttft_cold_ms",
				    json_real(g->ttft_cold_ms));
	err = json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	json_decref(o);
	putchar('\n');
	return err;
}

static void print_human(const struct generation *g, uint64_t bytes_per_token,
			const char *text)
{
	printf("%s\n", text);
	fprintf(stderr,
		"prompt %zu tokens, %zu of them from the pool%s%s; first token "
		"after %.1f ms", g->nr_prompt, g->hit,
		g->info.demoted_tokens ? " (some in fewer bits)" : "",
		g->info.inexact_lag ? " (the newest page not exact)" : "",
		g->ttft_ms);
	if (g->ttft_cold_ms > 0)
		fprintf(stderr, " (%.1f ms alone)", g->ttft_cold_ms);
	fprintf(stderr, "; then %.0f tokens/s; %" PRIu64
		" bytes of KV a token in %s; matrices on the %s\n",
		decode_rate(g), bytes_per_token, g->w->kv.formats,
		worker_matrices(g->w));
}

static int report(struct generation *g, struct error *e)
{
	struct worker *w = g->w;
	uint64_t bytes;
	char *text;
	int err;

	err = worker_bytes_per_token(w, &bytes, e);
	if (err)
		return err;
	text = text_show(&w->config, g->out, g->nr_out);
	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	if (w->options.json)
		err = print_json(g, bytes, text);
	else
		print_human(g, bytes, text);
	free(text);
	if (err || fflush(stdout))
		return error_set(e, -EIO, "cannot write the result");
	return 0;
}

static int check_length(const struct generation *g, struct error *e)
{
	const struct worker *w = g->w;

	if (g->nr_prompt + w->options.generate <= w->config.max_positions)
		return 0;
	return error_set(e, -E2BIG,
			 "%zu tokens of prompt and %u to generate are more "
			 "than the model's %u positions", g->nr_prompt,
			 w->options.generate, w->config.max_positions);
}

static int run(struct generation *g, struct error *e)
{
	struct worker *w = g->w;
	struct kvd_seq *seq;
	int err;

	err = check_length(g, e);
	if (!err && w->options.cold_too)
		err = measure_cold(g, e);
	if (!err)
		err = new_sequence(w, w->options.no_publish, &seq, e);
	if (err)
		return err;
	err = run_sequence(g, seq, e);
	if (!err)
		err = report(g, e);
	if (!err)
		worker_hold(w);
	kvd_seq_free(seq);
	return err;
}

static int open_logits(struct generation *g, struct error *e)
{
	const char *path = g->w->options.logits;

	if (!path)
		return 0;
	g->logits = fopen(path, "wbe");
	if (!g->logits)
		return error_set(e, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

static int close_logits(struct generation *g, int err, struct error *e)
{
	if (!g->logits || !fclose(g->logits) || err)
		return err;
	return error_set(e, -EIO, "%s: %s", g->w->options.logits,
			 strerror(errno));
}

int generate_tokens(struct worker *w, const uint32_t *prompt, size_t nr,
		    struct error *e)
{
	struct generation g = { .w = w, .prompt = prompt, .nr_prompt = nr };
	int err;

	g.out = calloc((size_t)w->options.generate + 1, sizeof(*g.out));
	if (!g.out)
		return error_set(e, -ENOMEM, "out of memory");
	err = open_logits(&g, e);
	if (!err)
		err = close_logits(&g, run(&g, e), e);
	free(g.out);
	return err;
}

int generate_run(struct worker *w, struct error *e)
{
	const struct options *o = &w->options;
	uint32_t *prompt;
	size_t nr;
	int err;

	err = o->prompt_file ?
		      text_read_bytes(o->prompt_file, &w->config, &prompt, &nr,
				      e) :
		      text_read_ids(o->prompt_ids, &w->config, &prompt, &nr, e);
	if (err)
		return err;
	err = generate_tokens(w, prompt, nr, e);
	free(prompt);
	return err;
}
