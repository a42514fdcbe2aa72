// SPDX-License-Identifier: Apache-2.0
/*
 * demoted.c - what follows a prefix that was found in fewer bits costs a model.
 *
 *	model_demoted MODEL_DIR TEXT NR_WINDOWS FORMAT [DEMOTED]
 *
 * The first half of each window of TEXT is published in FORMAT, then others'
 * text, until all of that half is found demoted; without DEMOTED it is found
 * as it is. The second half goes on with what was found, and is compared with
 * f16 throughout. KVD_SOCKET names a kvd whose pool is too small for all that
 * in FORMAT, and large enough for it in DEMOTED. Prints one JSON object.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/model/score.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tools/kvworker/model.h"
#include "tools/kvworker/text.h"

#define HALF (WINDOW / 2)
#define FIRST 24		/* other prompts: their pages may go, for the first
			 * that are demoted take a place of some size */
#define OTHERS 200	/* and after ours, at most */

struct run {
	struct kv kv;
	struct model *model;
};

static struct config config;
static struct weights weights;
static const uint8_t *text;

static void open_run(struct run *r, const char *formats, const char *demoted)
{
	struct kv_opts o = { .page_tokens = 64, .nr_threads = 1 };
	struct error err;

	CHECK(!kvd_formats_parse(formats, &o.k_format, &o.v_format), "%s",
	      formats);
	CHECK(!demoted || !kvd_formats_parse(demoted, &o.demote_k, &o.demote_v),
	      "%s", demoted);
	o.exact_pages = KV_EXACT_AUTO;
	CHECK(!kv_connect(&r->kv, NULL, &err), "%s", err.text);
	CHECK(!kv_open(&r->kv, &config, weights.digest, &o, &err), "%s: %s",
	      formats, err.text);
	CHECK(!model_new(&config, &weights, &r->kv, WINDOW, &r->model, &err),
	      "%s", err.text);
}

static void close_run(struct run *r)
{
	model_free(r->model);
	kv_close(&r->kv);
}

static void tokens_of(uint32_t window, uint32_t *tokens)
{
	const uint8_t *bytes = text + (size_t)window * WINDOW;

	tokens[0] = BYTE_BOS;
	for (uint32_t i = 1; i < WINDOW; i++)
		tokens[i] = bytes[i - 1];
}

/* Logits of @nr more tokens. */
static const float *go_on(struct run *r, struct kvd_seq *seq,
			  const uint32_t *tokens, uint32_t nr)
{
	const float *logits;
	struct error err;

	CHECK(!model_run(r->model, seq, tokens, nr, nr, &logits, &err), "%s",
	      err.text);
	return logits;
}

static struct kvd_seq *sequence(struct run *r, bool no_publish)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = no_publish };
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(r->kv.space, &o, &seq), "%s",
	      kvd_error(r->kv.conn));
	return seq;
}

static void publish(struct run *r, const uint32_t *tokens)
{
	struct kvd_seq *seq = sequence(r, false);

	go_on(r, seq, tokens, HALF);
	kvd_seq_free(seq);
}

/* A sequence with the first half of @tokens, and what it is in. */
static struct kvd_seq *find(struct run *r, const uint32_t *tokens,
			    struct kvd_seq_info *info)
{
	struct kvd_seq *seq = sequence(r, true);
	size_t hit;

	*info = (struct kvd_seq_info){ .size = sizeof(*info) };
	CHECK(!kvd_seq_match(seq, tokens, HALF, &hit), "%s",
	      kvd_error(r->kv.conn));
	CHECK(hit == HALF, "%zu of %u tokens are found: the pool is too small",
	      hit, HALF);
	CHECK(!kvd_seq_info(seq, info), "info");
	return seq;
}

/* A prompt that nobody asks for again. */
static void other(struct run *r)
{
	static uint32_t nr;
	uint32_t tokens[WINDOW];

	tokens_of(0, tokens);
	tokens[1] = nr;	/* from the first page on another */
	tokens[2] = 255 - nr++;
	publish(r, tokens);
}

/* Others, until what was there before is demoted: it is colder, as nothing of
 * it is looked at meanwhile. Half as much again, for what a slab in use held
 * back. */
static void crowd(struct run *r)
{
	const char *socket = getenv("KVD_SOCKET");
	struct daemon_stat st;
	uint64_t enough;

	daemon_stat(socket, &st);
	enough = (st.cached + st.demoted) * 3 / 2;
	for (uint32_t i = 0; i < OTHERS && st.demoted + st.evicted < enough;
	     i++) {
		other(r);
		daemon_stat(socket, &st);
	}
	CHECK(st.demoted, "nothing is demoted: the pool is too large");
}

/* Return: bytes a token that was found, demoted but for exact pages. */
static uint64_t score(struct run *exact, struct run *r, uint32_t nr,
		      bool demoted, struct score *s)
{
	struct kvd_seq_info info;
	uint32_t tokens[WINDOW];
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < nr; i++) {
		struct kvd_seq *seq = sequence(exact, true);
		const float *want, *have;

		tokens_of(i, tokens);
		want = go_on(exact, seq, tokens, WINDOW) +
		       (size_t)HALF * BYTE_VOCAB;
		kvd_seq_free(seq);
		seq = find(r, tokens, &info);
		CHECK(!demoted ||
		      info.demoted_tokens + r->kv.page_tokens >= HALF,
		      "%llu of %u tokens are demoted: the pool is too large",
		      (unsigned long long)info.demoted_tokens, HALF);
		bytes += info.sealed_bytes + info.open_bytes;
		have = go_on(r, seq, tokens + HALF, HALF);
		kvd_seq_free(seq);
		score_add(s, have, want, text + (size_t)i * WINDOW + HALF,
			  HALF);
	}
	return bytes / nr / HALF;
}

int main(int argc, char **argv)
{
	struct run exact = { .model = NULL }, r = exact, first = exact;
	static struct score s;
	uint32_t tokens[WINDOW], nr;
	struct error err;
	uint8_t *bytes;
	uint64_t bytes_per_token;
	size_t size;
	char name[80];

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: model_demoted MODEL_DIR TEXT "
			"NR_WINDOWS FORMAT [DEMOTED]\n");
		return 2;
	}
	nr = (uint32_t)atoi(argv[3]);
	CHECK(nr >= 1 && nr <= MAX_WINDOWS, "%s windows", argv[3]);
	CHECK(!config_read(argv[1], &config, &err), "%s", err.text);
	CHECK(!weights_load(&weights, argv[1], &config, &err), "%s", err.text);
	CHECK(!text_read(argv[2], (uint64_t)nr * WINDOW, &bytes, &size, &err),
	      "%s", err.text);
	CHECK(size == (size_t)nr * WINDOW, "%s is too short", argv[2]);
	text = bytes;
	open_run(&exact, "f16", NULL);
	open_run(&r, argv[4], argv[5]);
	open_run(&first, argv[4], argv[5]); /* with a stock of its own */
	for (uint32_t i = 0; argv[5] && i < FIRST; i++)
		other(&first);
	for (uint32_t i = 0; i < nr; i++) {
		tokens_of(i, tokens);
		publish(&r, tokens);
	}
	if (argv[5])
		crowd(&r);
	bytes_per_token = score(&exact, &r, nr, argv[5], &s);
	snprintf(name, sizeof(name), "%s%s%s", argv[4],
		 argv[5] ? ", found in " : "", argv[5] ? argv[5] : "");
	score_print(&s, name, bytes_per_token);
	close_run(&first);
	close_run(&r);
	close_run(&exact);
	weights_free(&weights);
	free(bytes);
	return 0;
}
