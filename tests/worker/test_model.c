/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_model.c - the model's own arithmetic, K and V in plain arrays.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/worker/plainkv.h"
#include "tools/kvworker/model.h"
#include "tools/kvworker/text.h"

#define TOKENS 1024
#define VOCAB 256
#define PAGE 64

static struct config config;
static struct weights weights;
static struct kv kv;
static uint32_t tokens[TOKENS];

/* Reads a file of the test model, which must have this size. */
static void *read_sample(const char *name, size_t bytes)
{
	char path[300];
	struct error e;
	uint8_t *data;
	size_t nr;

	snprintf(path, sizeof(path), TEST_MODEL "/%s", name);
	assert_int_equal(text_read(path, SIZE_MAX, &data, &nr, &e), 0);
	assert_int_equal(nr, bytes);
	return data;
}

static int setup(void **state)
{
	struct kv_opts opts = { .page_tokens = PAGE };
	struct error e = { "" };
	uint8_t *ids;

	if (config_read(TEST_MODEL, &config, &e) ||
	    weights_load(&weights, TEST_MODEL, &config, &e) ||
	    kv_connect(&kv, NULL, &e) ||
	    kv_open(&kv, &config, weights.digest, &opts, &e)) {
		fprintf(stderr, "%s\n", e.text);
		return -1;
	}
	ids = read_sample("kv_sample_tokens.bin", TOKENS);
	for (size_t i = 0; i < TOKENS; i++)
		tokens[i] = ids[i];
	free(ids);
	return 0;
}

static int teardown(void **state)
{
	kv_close(&kv);
	weights_free(&weights);
	return 0;
}

/* Logits of tokens [done, nr) into @out, in chunks. */
static void prefill(struct kvd_seq *seq, size_t nr, uint32_t chunk,
		    float *out)
{
	struct model *m;
	struct error e;
	const float *logits;

	assert_int_equal(model_new(&config, &weights, &kv, chunk, &m, &e), 0);
	for (size_t done = kvd_seq_tokens(seq); done < nr; done += chunk) {
		uint32_t n = nr - done < chunk ? (uint32_t)(nr - done) : chunk;

		assert_int_equal(model_run(m, seq, tokens + done, n, n,
					   &logits, &e), 0);
		memcpy(out + done * VOCAB, logits,
		       (size_t)n * VOCAB * sizeof(float));
	}
	model_free(m);
}

static double max_diff(const float *a, const float *b, size_t nr)
{
	double max = 0;

	for (size_t i = 0; i < nr; i++)
		max = fmax(max, fabs((double)a[i] - b[i]));
	return max;
}

/* The reference logits were computed by another implementation. */
static void test_reference(void **state)
{
	size_t nr = (size_t)TOKENS * VOCAB;
	float *want = read_sample("kv_sample_logits.bin", nr * sizeof(float));
	float *got = calloc(nr, sizeof(float));
	struct kvd_seq *seq;

	assert_int_equal(kvd_seq_new(kv.space, NULL, &seq), 0);
	prefill(seq, TOKENS, TOKENS, got);
	print_message("largest difference from the reference: %g\n",
		      max_diff(got, want, nr));
	assert_true(max_diff(got, want, nr) < 1e-3);
	kvd_seq_free(seq);
	free(got);
	free(want);
}

/* Bit-identical logits for any chunk, and after a prefix of any length. */
static void test_chunks(void **state)
{
	static const uint32_t chunks[] = { 1, 37, 64, 100 };
	enum { NR = 200, PREFIX = 2 * PAGE };
	static float want[NR * VOCAB], got[NR * VOCAB];
	struct kvd_seq *seq;

	assert_int_equal(kvd_seq_new(kv.space, NULL, &seq), 0);
	prefill(seq, NR, NR, want);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		kvd_truncate(seq, 0, NULL);
		memset(got, 0, sizeof(got));
		prefill(seq, NR, chunks[i], got);
		assert_memory_equal(got, want, sizeof(got));
	}
	kvd_truncate(seq, PREFIX, NULL);
	memset(got + PREFIX * VOCAB, 0, sizeof(got) / 4);
	prefill(seq, NR, 50, got);
	assert_memory_equal(got, want, sizeof(got));
	kvd_seq_free(seq);
}

/* One token at a time, as decode does: the same bits. */
static void test_decode(void **state)
{
	enum { NR = 100 };
	static float want[NR * VOCAB];
	struct kvd_seq *seq;
	const float *logits;
	struct model *m;
	struct error e;

	assert_int_equal(kvd_seq_new(kv.space, NULL, &seq), 0);
	prefill(seq, NR, NR, want);
	kvd_truncate(seq, 0, NULL);
	assert_int_equal(model_new(&config, &weights, &kv, 1, &m, &e), 0);
	for (size_t i = 0; i < NR; i++) {
		assert_int_equal(model_run(m, seq, tokens + i, 1, 1, &logits,
					   &e), 0);
		assert_memory_equal(logits, want + i * VOCAB,
				    VOCAB * sizeof(float));
	}
	model_free(m);
	kvd_seq_free(seq);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_decode),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
