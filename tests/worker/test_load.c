/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_load.c - model directories, most of them broken: one clear line each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/worker/tinymodel.h"
#include "tools/kvworker/config.h"
#include "tools/kvworker/weights.h"

#define Q_PROJ "model.layers.0.self_attn.q_proj.weight"
#define UP_PROJ "model.layers.0.mlp.up_proj.weight"

static const struct {
	struct tinymodel model;
	const char *want;	/* in the sentence */
} broken[] = {
	/* config.json */
	{ { .no_config = 1 }, "/config.json: No such file" },
	{ { .in_config = 1, .find = "{", .replace = "{{" },
	  "/config.json: line 1: " },
	{ { .in_config = 1, .find = "{\"arch", .replace = "[],{\"arch" },
	  "/config.json: line 1: " },
	{ { .in_config = 1, .find = "LlamaFor", .replace = "MistralFor" },
	  "architecture MistralForCausalLM is not supported" },
	{ { .in_config = 1, .find = "\"architectures\"", .replace = "\"a\"" },
	  "architectures is missing" },
	{ { .in_config = 1, .find = "hidden_size", .replace = "hiddensize" },
	  "hidden_size is missing" },
	{ { .in_config = 1, .find = "intermediate_s", .replace = "s" },
	  "intermediate_size is missing" },
	{ { .in_config = 1, .find = "num_hidden_layers", .replace = "n" },
	  "num_hidden_layers is missing" },
	{ { .in_config = 1, .find = "num_attention_heads", .replace = "n" },
	  "num_attention_heads is missing" },
	{ { .in_config = 1, .find = "vocab_size", .replace = "v" },
	  "vocab_size is missing" },
	{ { .in_config = 1, .find = "_layers\": 1", .replace = "_layers\": 0" },
	  "num_hidden_layers is not an integer from 1 to 512" },
	{ { .in_config = 1, .find = "_layers\": 1",
	    .replace = "_layers\": -1" }, "num_hidden_layers is not an integer" },
	{ { .in_config = 1, .find = "_size\": 16", .replace = "_size\": 1e9" },
	  "hidden_size is not an integer" },
	{ { .in_config = 1, .find = "_size\": 16",
	    .replace = "_size\": 4294967312" }, "hidden_size is not" },
	{ { .in_config = 1, .find = "_heads\": 1", .replace = "_heads\": 3" },
	  "not a multiple of num_key_value_heads" },
	{ { .in_config = 1, .find = "_dim\": 8", .replace = "_dim\": 7" },
	  "head_dim is odd" },
	{ { .in_config = 1, .find = "eps\": 1e-05", .replace = "eps\": \"0\"" },
	  "rms_norm_eps is not a positive number" },
	{ { .in_config = 1, .find = "scaling\": null", .replace =
	    "scaling\": {\"type\": \"yarn\"}" }, "\"yarn\" is not supported" },
	{ { .in_config = 1, .find = "scaling\": null", .replace =
	    "scaling\": {\"rope_type\": \"llama3\"}" }, "factor is missing" },
	{ { .in_config = 1, .find = "n_bias\": false", .replace =
	    "n_bias\": true" }, "attention_bias true is not supported" },
	{ { .in_config = 1, .find = "p_bias\": false", .replace =
	    "p_bias\": true" }, "mlp_bias true is not supported" },
	{ { .in_config = 1, .find = "silu", .replace = "gelu" },
	  "hidden_act must be" },

	/* The file as a whole. */
	{ { .no_tensors = 1 }, "no *.safetensors file" },
	{ { .keep = 4 }, "too short for a header" },
	{ { .keep = 8 }, "(truncated?)" },
	{ { .keep = 500 }, "(truncated?)" },
	{ { .cut = 4 }, "lm_head.weight: ends 4 bytes beyond the end of the "
			"file (truncated?)" },
	{ { .cut = -4 }, "4 bytes after the last tensor" },
	{ { .header_len = UINT64_MAX }, "header of 18446744073709551615 bytes "
					"is larger than" },
	{ { .header_len = 1ull << 63 }, "is larger than" },
	{ { .header_len = 90 << 20 }, "(truncated?)" },
	{ { .header_len = 1 }, "header is not valid JSON" },
	{ { .header_len = 20 }, "header is not valid JSON" },

	/* The header. */
	{ { .find = "{\"__", .replace = "{__" }, "header is not valid JSON" },
	{ { .find = "{\"__", .replace = "[{\"__" },
	  "header is not valid JSON" },
	{ { .find = "\"" Q_PROJ, .replace = "\"" UP_PROJ },
	  "header is not valid JSON: duplicate" },
	{ { .find = Q_PROJ, .replace = "q" },
	  "tensor " Q_PROJ " is missing" },
	{ { .find = "lm_head", .replace = "head" },
	  "tensor lm_head.weight is missing" },
	{ { .find = Q_PROJ "\":{", .replace = Q_PROJ "\":[],\"x\":{" },
	  "tensor " Q_PROJ ": its entry is not an object" },
	{ { .find = Q_PROJ "\":{\"dtype\":\"F32\"", .replace =
	    Q_PROJ "\":{\"dtype\":\"F33\"" }, Q_PROJ ": unknown dtype F33" },
	{ { .find = Q_PROJ "\":{\"dtype\":\"F32\"", .replace =
	    Q_PROJ "\":{\"dtype\":\"I32\"" }, Q_PROJ ": dtype I32 is not" },
	{ { .find = Q_PROJ "\":{\"dtype\":\"F32\"", .replace =
	    Q_PROJ "\":{\"dtype\":\"F16\"" },
	  Q_PROJ ": shape and dtype need 512 bytes, data_offsets give 1024" },
	{ { .find = Q_PROJ "\":{\"dtype\":\"F32\",", .replace =
	    Q_PROJ "\":{" }, Q_PROJ ": no dtype" },
	{ { .find = "[8,16]", .replace = "\"8,16\"" }, ": no shape" },
	{ { .find = "[8,16]", .replace = "[8,-16]" }, ": bad shape" },
	{ { .find = "[8,16]", .replace = "[8,16.0]" }, ": bad shape" },
	{ { .find = "[8,16]", .replace =
	    "[4611686018427387904,4611686018427387904]" },
	  ": shape overflows" },
	{ { .find = "[8,16]", .replace = "[1,1,1,1,1,1,1,8,16]" },
	  ": too many dimensions" },
	{ { .find = "[8,16]", .replace = "[128]" },
	  ": shape differs from [8, 16]" },
	{ { .find = "[8,16]", .replace = "[16,8]" },
	  "shape differs from [8, 16] of config.json" },
	{ { .find = "[16],", .replace = "[1,16]," },
	  "shape differs from [16] of config.json" },
	{ { .find = "[0,16384]", .replace = "[0]" }, ": bad data_offsets" },
	{ { .find = "[0,16384]", .replace = "[16384,0]" },
	  ": bad data_offsets" },
	{ { .find = "[0,16384]", .replace = "[-16384,0]" },
	  ": bad data_offsets" },
	{ { .find = "[0,16384]", .replace =
	    "[9223372036854759423,9223372036854775807]" },
	  "beyond the end of the file" },
	{ { .find = "[0,16384]", .replace = "[64,16448]" },
	  "a hole lies before its data" },
	{ { .find = "[16384,16448]", .replace = "[16320,16384]" },
	  "its data overlaps another's" },
};

/* Loads what tinymodel_write() wrote into a fresh directory. */
static int load(const struct tinymodel *t, struct error *e)
{
	char dir[] = "/tmp/kvworker-load-XXXXXX";
	struct config c;
	struct weights w = { 0 };
	int err;

	assert_non_null(mkdtemp(dir));
	tinymodel_write(dir, t);
	err = config_read(dir, &c, e);
	if (!err)
		err = weights_load(&w, dir, &c, e);
	weights_free(&w);
	tinymodel_remove(dir);
	return err;
}

static void test_whole(void **state)
{
	struct tinymodel whole = { 0 };
	struct tinymodel tied = { .in_config = 1, .find = "ings\": false",
				  .replace = "ings\": true" };
	struct error e = { "" };

	assert_int_equal(load(&whole, &e), 0);
	assert_int_equal(load(&tied, &e), 0);
}

static void test_broken(void **state)
{
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct error e = { "" };
		int err = load(&broken[i].model, &e);

		if (err >= 0 || !strstr(e.text, broken[i].want) ||
		    strchr(e.text, '\n'))
			fail_msg("case %zu: wanted \"%s\", got %d \"%s\"", i,
				 broken[i].want, err, e.text);
	}
}

/* The header's length cut short at every byte, and the file too. */
static void test_every_cut(void **state)
{
	for (int i = 1; i < 2200; i += 7) {
		struct tinymodel header = { .header_len = (uint64_t)i };
		struct tinymodel file = { .keep = i };
		struct error e = { "" };

		assert_true(load(&header, &e) < 0);
		assert_true(load(&file, &e) < 0);
	}
}

/* The last weight of a model whose file ends with byte 0x3f. */
static float last_weight(const char *dtype)
{
	struct tinymodel t = { .dtype = dtype, .last_byte = 0x3f };
	char dir[] = "/tmp/kvworker-load-XXXXXX";
	struct weights w;
	struct config c;
	struct error e;
	float last;

	assert_non_null(mkdtemp(dir));
	tinymodel_write(dir, &t);
	assert_int_equal(config_read(dir, &c, &e), 0);
	assert_int_equal(weights_load(&w, dir, &c, &e), 0);
	last = w.head[(size_t)c.vocab * c.hidden - 1];
	weights_free(&w);
	tinymodel_remove(dir);
	return last;
}

static void test_dtypes(void **state)
{
	assert_true(last_weight(NULL) == 0.5f);
	assert_true(last_weight("BF16") == 0.5f);
	assert_true(last_weight("F16") == 1.75f);
}

static void digest_of(const struct tinymodel *t, uint8_t digest[DIGEST_BYTES])
{
	char dir[] = "/tmp/kvworker-load-XXXXXX";
	struct weights w;
	struct config c;
	struct error e;

	assert_non_null(mkdtemp(dir));
	tinymodel_write(dir, t);
	assert_int_equal(config_read(dir, &c, &e), 0);
	assert_int_equal(weights_load(&w, dir, &c, &e), 0);
	memcpy(digest, w.digest, DIGEST_BYTES);
	weights_free(&w);
	tinymodel_remove(dir);
}

/* Changes with the config and with the weights, with nothing else. */
static void test_digest(void **state)
{
	static const struct tinymodel same = { 0 };
	static const struct tinymodel theta = {
		.in_config = 1, .find = "10000", .replace = "10001"
	};
	static const struct tinymodel weight = { .last_byte = 1 };
	static const struct tinymodel metadata = {
		.find = "\"pt\"", .replace = "\"tp\""
	};
	uint8_t a[DIGEST_BYTES], b[DIGEST_BYTES];

	digest_of(&same, a);
	digest_of(&same, b);
	assert_memory_equal(a, b, DIGEST_BYTES);
	digest_of(&metadata, b);
	assert_memory_equal(a, b, DIGEST_BYTES);
	digest_of(&theta, b);
	assert_memory_not_equal(a, b, DIGEST_BYTES);
	digest_of(&weight, b);
	assert_memory_not_equal(a, b, DIGEST_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_dtypes),
		cmocka_unit_test(test_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
