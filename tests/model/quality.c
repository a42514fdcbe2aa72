/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quality.c - what each format costs a real model.
 *
 *	model_quality [--check] MODEL_DIR TEXT NR_WINDOWS PROFILE
 *
 * Window i predicts bytes [1024 i, 1024 (i + 1)) of TEXT from BOS and those
 * bytes without the last, windows independent of each other. Each window is
 * run once in f16 and once in every format, through the real forward pass
 * and pages of the daemon that KVD_SOCKET names; everything is compared with
 * f16 in the same window. Prints one JSON object a format.
 *
 * Beside the formats stand naive choices, which no space can be opened in:
 * rows of K, V or both are quantized and turned back before they are stored in
 * f16, per token and head, asymmetric, the newest tokens too.
 *
 * --check: of the model with outlier channels; fails where a format costs
 * more than it may (limits below), the standard error allowed for.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/model/score.h"
#include "tests/support/check.h"
#include "tools/kvworker/model.h"
#include "tools/kvworker/text.h"

/* What is run. naive: bits of rows that are fake-quantized, in f16. */
static const struct entry {
	const char *name;
	const char *formats;
	uint32_t exact_pages;
	bool calibrated;	/* give it the profile */
	uint32_t naive_k, naive_v;
	double limit;		/* loss over f16, nats/byte; 0: none */
} entries[] = {
	{ "bf16", "bf16", 0, false, 0, 0, 0 },
	{ "int8", "int8", 0, false, 0, 0, .003 },
	{ "fp8_e4m3, scale 1", "fp8_e4m3", 0, false, 0, 0, .003 },
	{ "fp8_e4m3, calibrated", "fp8_e4m3", 0, true, 0, 0, .003 },
	{ "fp8_e5m2, scale 1", "fp8_e5m2", 0, false, 0, 0, 0 },
	{ "int4", "int4", 0, false, 0, 0, 0 },
	{ "int4h", "int4h", 0, false, 0, 0, 0 },
	{ "k=int8,v=int4", "k=int8,v=int4", 0, false, 0, 0, 0 },
	{ "kivi4", "kivi4", 0, false, 0, 0, .003 },
	{ "kvquant4", "kvquant4", KV_EXACT_AUTO, true, 0, 0, 0 },
	{ "kvarn44", "kvarn44", KV_EXACT_AUTO, false, 0, 0, .01 },
	{ "kvarn42", "kvarn42", KV_EXACT_AUTO, false, 0, 0, 0 },
	{ "kvquant3", "kvquant3", KV_EXACT_AUTO, true, 0, 0, .012 },
	{ "kvarn33", "kvarn33", KV_EXACT_AUTO, false, 0, 0, 0 },
	{ "kivi2", "kivi2", KV_EXACT_AUTO, false, 0, 0, .02 },
	{ "kivi2, no exact first page", "kivi2", 0, false, 0, 0, 0 },
	{ "kvquant2", "kvquant2", KV_EXACT_AUTO, true, 0, 0, 0 },
	{ "kvarn22", "kvarn22", KV_EXACT_AUTO, false, 0, 0, 0 },
	{ "oscar2", "oscar2", KV_EXACT_AUTO, true, 0, 0, 0 },
	{ "naive: K and V 4 bits a token", "f16", 0, false, 4, 4, 0 },
	{ "naive: K and V 3 bits a token", "f16", 0, false, 3, 3, 0 },
	{ "naive: K and V 2 bits a token", "f16", 0, false, 2, 2, 0 },
	{ "naive: K alone 2 bits a token", "f16", 0, false, 2, 0, 0 },
	{ "naive: V alone 2 bits a token", "f16", 0, false, 0, 2, 0 },
};

#define NR_ENTRIES (sizeof(entries) / sizeof(entries[0]))

struct run {
	const struct entry *e;
	struct kv kv;
	struct model *model;
	struct score score;
	uint64_t bytes_per_token;
};

static struct config config;
static struct weights weights;
static struct run reference, runs[NR_ENTRIES];

/* x -> min + s * round((x - min) / s) of one row */
static void fake_quantize(float *x, uint32_t n, uint32_t bits)
{
	float min = x[0], max = x[0], s;

	for (uint32_t i = 1; i < n; i++) {
		min = fminf(min, x[i]);
		max = fmaxf(max, x[i]);
	}
	s = (max - min) / (float)((1u << bits) - 1);
	for (uint32_t i = 0; s > 0 && i < n; i++)
		x[i] = min + s * nearbyintf((x[i] - min) / s);
}

/* On their way into pages. */
static void spoil(void *arg, const struct model_rows *rows)
{
	const struct run *r = arg;
	uint32_t q = r->kv.q_width, kv = r->kv.kv_width, dim = config.head_dim;

	for (size_t i = 0; rows->rotated && i < rows->nr; i++) {
		float *k = rows->qkv + i * (q + 2 * (size_t)kv) + q;

		for (uint32_t h = 0; h < kv; h += dim) {
			if (r->e->naive_k)
				fake_quantize(k + h, dim, r->e->naive_k);
			if (r->e->naive_v)
				fake_quantize(k + kv + h, dim, r->e->naive_v);
		}
	}
}

static void open_run(struct run *r, const struct entry *e, const char *profile)
{
	struct kv_opts o = {
		.page_tokens = 64,
		.exact_pages = e->exact_pages,
		.nr_threads = 1,
		.profile = e->calibrated ? profile : NULL,
	};
	struct kvd_space_info info = { .size = sizeof(info) };
	struct model_tap tap = { spoil, r };
	struct error err;

	r->e = e;
	CHECK(!kvd_formats_parse(e->formats, &o.k_format, &o.v_format), "%s",
	      e->formats);
	CHECK(!kv_connect(&r->kv, NULL, &err), "%s", err.text);
	CHECK(!kv_open(&r->kv, &config, weights.digest, &o, &err), "%s: %s",
	      e->name, err.text);
	CHECK(!model_new(&config, &weights, &r->kv, WINDOW, &r->model, &err),
	      "%s", err.text);
	if (e->naive_k || e->naive_v)
		model_set_tap(r->model, &tap);
	CHECK(!kvd_space_info(r->kv.space, &info), "info");
	r->bytes_per_token = info.bytes_per_token;
}

static void close_run(struct run *r)
{
	model_free(r->model);
	kv_close(&r->kv);
}

/* Logits of all tokens of a window. */
static const float *run_window(struct run *r, const uint32_t *tokens)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	const float *logits;
	struct kvd_seq *seq;
	struct error err;

	CHECK(!kvd_seq_new(r->kv.space, &o, &seq), "%s",
	      kvd_error(r->kv.conn));
	CHECK(!model_run(r->model, seq, tokens, WINDOW, WINDOW, &logits, &err),
	      "%s: %s", r->e->name, err.text);
	kvd_seq_free(seq);
	return logits;
}

static void score_window(const uint8_t *targets)
{
	uint32_t tokens[WINDOW] = { BYTE_BOS };
	const float *exact;

	for (uint32_t i = 1; i < WINDOW; i++)
		tokens[i] = targets[i - 1];
	exact = run_window(&reference, tokens);
	score_add(&reference.score, exact, exact, targets, WINDOW);
	for (size_t i = 0; i < NR_ENTRIES; i++)
		score_add(&runs[i].score, run_window(&runs[i], tokens), exact,
			  targets, WINDOW);
}

static const struct run *find(const char *name)
{
	for (size_t i = 0; i < NR_ENTRIES; i++)
		if (!strcmp(entries[i].name, name))
			return &runs[i];
	CHECK(0, "no entry %s", name);
	return NULL;
}

/* Is @name's loss at most @limit, two standard errors allowed? */
static bool at_most(const char *name, double limit)
{
	struct result x = score_result(&find(name)->score);

	if (x.loss <= limit + 2 * x.error)
		return true;
	fprintf(stderr, "%s costs %.5f nats/byte (standard error %.5f), more "
		"than %.5f\n", name, x.loss, x.error, limit);
	return false;
}

static bool check(void)
{
	double int4 = score_result(&find("int4")->score).loss;
	double naive = score_result(&find("naive: K and V 2 bits a token")
					     ->score).loss;
	bool ok = true;

	for (size_t i = 0; i < NR_ENTRIES; i++)
		if (entries[i].limit > 0)
			ok &= at_most(entries[i].name, entries[i].limit);
	ok &= at_most("int4h", int4 / 2);
	if (naive < 1) {
		fprintf(stderr, "naive 2 bits cost %.3f: this model has no "
			"outlier channels\n", naive);
		ok = false;
	}
	return ok;
}

static void open_all(const char *profile)
{
	static const struct entry exact = { "f16", "f16", 0, false, 0, 0, 0 };

	open_run(&reference, &exact, profile);
	for (size_t i = 0; i < NR_ENTRIES; i++)
		open_run(&runs[i], &entries[i], profile);
}

int main(int argc, char **argv)
{
	bool checks = argc > 1 && !strcmp(argv[1], "--check");
	char **arg = argv + checks;
	struct error err;
	uint8_t *text;
	size_t bytes;
	uint32_t nr;

	if (argc - checks != 5) {
		fprintf(stderr, "usage: model_quality [--check] MODEL_DIR TEXT "
			"NR_WINDOWS PROFILE\n");
		return 2;
	}
	nr = (uint32_t)atoi(arg[3]);
	CHECK(nr >= 1 && nr <= MAX_WINDOWS, "%s windows", arg[3]);
	CHECK(!config_read(arg[1], &config, &err), "%s", err.text);
	CHECK(!weights_load(&weights, arg[1], &config, &err), "%s", err.text);
	CHECK(!text_read(arg[2], (uint64_t)nr * WINDOW, &text, &bytes, &err),
	      "%s", err.text);
	CHECK(bytes == (size_t)nr * WINDOW, "%s is too short", arg[2]);
	open_all(arg[4]);
	for (uint32_t i = 0; i < nr; i++) {
		score_window(text + (size_t)i * WINDOW);
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r%u of %u windows%s", i + 1, nr,
				i + 1 == nr ? "\n" : "");
	}
	score_print(&reference.score, reference.e->name,
		    reference.bytes_per_token);
	for (size_t i = 0; i < NR_ENTRIES; i++)
		score_print(&runs[i].score, runs[i].e->name,
			    runs[i].bytes_per_token);
	checks = checks && !check();
	for (size_t i = 0; i < NR_ENTRIES; i++)
		close_run(&runs[i]);
	close_run(&reference);
	weights_free(&weights);
	free(text);
	return checks ? 1 : 0;
}
