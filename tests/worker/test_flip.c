/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flip.c - tokens attend over the sealed bytes themselves.
 *
 * Changes one code of one sealed page behind the library's back: the logits of
 * later tokens must change with it, and come back when it does.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kvd/kvd.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"
#include "tools/kvworker/model.h"

#define PAGE 64
#define PREFIX (2 * PAGE)
#define NR (PREFIX + 40)
#define VOCAB 256
#define LOGITS ((NR - PREFIX) * VOCAB)

static struct config config;
static struct weights weights;
static struct kv kv;
static struct model *model;
static struct error e;
static uint32_t tokens[NR];

static void check(int err)
{
	if (err)
		run_fail("%d: %s", err, e.text);
}

static void load_tokens(void)
{
	size_t bytes;
	uint8_t *ids = run_file(TEST_MODEL "/kv_sample_tokens.bin", &bytes);

	for (size_t i = 0; i < NR; i++)
		tokens[i] = ids[i];
	free(ids);
}

/* Address of a byte of the sequence's sealed page number @nr. */
static uint8_t *sealed_byte(struct kvd_seq *seq, size_t nr, size_t offset)
{
	struct kvd_bases bases = { .size = sizeof(bases) };
	struct kvd_page pages[NR / PAGE + 1];
	size_t nr_pages;

	check(kvd_seq_pages(seq, 0, pages, NR / PAGE + 1, &nr_pages));
	check(kvd_space_bases(kv.space, &bases));
	if (nr >= nr_pages)
		run_fail("%zu pages", nr_pages);
	return (uint8_t *)bases.writable[pages[nr].segment] +
	       pages[nr].offset + offset;
}

/* Logits of the tokens after the prefix. */
static void compute(struct kvd_seq *seq, float *out)
{
	const float *logits;

	check(kvd_truncate(seq, PREFIX, NULL));
	check(model_run(model, seq, tokens + PREFIX, NR - PREFIX,
			NR - PREFIX, &logits, &e));
	memcpy(out, logits, LOGITS * sizeof(float));
}

/* Changes byte @offset of page @nr and puts it back. */
static void flip(struct kvd_seq *seq, size_t nr, size_t offset)
{
	static float before[LOGITS], flipped[LOGITS], after[LOGITS];
	uint8_t *byte = sealed_byte(seq, nr, offset);

	compute(seq, before);
	*byte ^= 0x40;
	compute(seq, flipped);
	*byte ^= 0x40;
	compute(seq, after);
	if (!memcmp(before, flipped, sizeof(before)))
		run_fail("page %zu, byte %zu: nobody reads it", nr, offset);
	if (memcmp(before, after, sizeof(before)))
		run_fail("page %zu, byte %zu: logits have not come back", nr,
			 offset);
}

static void test_format(uint32_t format)
{
	struct kv_opts opts = { .k_format = format, .v_format = format,
				.page_tokens = PAGE,
				.nr_threads = 1 };
	struct kvd_seq_opts so = { .size = sizeof(so), .no_publish = 1 };
	struct kvd_record record = { .size = sizeof(record) };
	struct kvd_page page;
	struct kvd_seq *seq;
	size_t nr;

	check(kv_connect(&kv, NULL, &e));
	check(kv_open(&kv, &config, weights.digest, &opts, &e));
	check(model_new(&config, &weights, &kv, NR, &model, &e));
	check(kvd_seq_new(kv.space, &so, &seq));
	check(model_run(model, seq, tokens, NR, 0, NULL, &e));
	check(kvd_seq_pages(seq, 0, &page, 1, &nr));
	check(kvd_space_record(kv.space, page.page_class, &record));
	/* High byte of an f16, or a code of int8: both in even-odd pairs. */
	flip(seq, 0, 2 * config.head_dim + 1);
	flip(seq, 1, record.v_codes + 1);
	flip(seq, 1, record.record_bytes * 3 + 1);
	kvd_seq_free(seq);
	model_free(model);
	kv_close(&kv);
}

int main(void)
{
	struct daemon d;

	check(config_read(TEST_MODEL, &config, &e));
	check(weights_load(&weights, TEST_MODEL, &config, &e));
	load_tokens();
	daemon_start(&d, NULL);
	setenv("KVD_SOCKET", d.socket, 1);
	test_format(KVD_F16);
	test_format(KVD_BF16);
	test_format(KVD_INT8);
	weights_free(&weights);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
