// SPDX-License-Identifier: Apache-2.0
/*
 * safetensors.c - any bytes as a model directory: config.json, two shards.
 *
 * Pieces of the input are divided by lines of "%%": config.json, the JSON of
 * the first shard's header, its data, and the same of a second. The length
 * that a shard begins with is made right unless the JSON begins with '!';
 * then the piece is the file as it is. All data of what was opened is read.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"
#include "tools/kvworker/config.h"
#include "tools/kvworker/safetensors.h"

static struct fuzz_file config_file, shards[2];
static const char *dir;

static void shard_put(struct fuzz_file *f, const uint8_t *json, size_t nr_json,
		      const uint8_t *data, size_t nr)
{
	uint64_t len = htole64(nr_json);
	uint8_t *buf = malloc(sizeof(len) + nr_json + nr);

	CHECK(buf, "out of memory");
	if (nr_json && json[0] == '!') {
		fuzz_file_put(f, json + 1, nr_json - 1);
	} else {
		memcpy(buf, &len, sizeof(len));
		if (nr_json)
			memcpy(buf + sizeof(len), json, nr_json);
		if (nr)
			memcpy(buf + sizeof(len) + nr_json, data, nr);
		fuzz_file_put(f, buf, sizeof(len) + nr_json + nr);
	}
	free(buf);
}

static void put_all(const uint8_t *data, size_t size)
{
	const uint8_t *piece[5];
	size_t nr[5];

	for (int i = 0; i < 5; i++) {
		piece[i] = data;
		nr[i] = fuzz_cut(&data, &size);
	}
	fuzz_file_put(&config_file, piece[0], nr[0]);
	shard_put(&shards[0], piece[1], nr[1], piece[2], nr[2]);
	/* Mostly there is one: the second is empty then, and stands for it. */
	if (nr[3])
		shard_put(&shards[1], piece[3], nr[3], piece[4], nr[4]);
	else
		shard_put(&shards[1], (const uint8_t *)"{}", 2, NULL, 0);
}

static void init(void)
{
	dir = fuzz_dir();
	put_all((const uint8_t *)"", 0);
	fuzz_file_link(&config_file, dir, "config.json");
	fuzz_file_link(&shards[0], dir, "a.safetensors");
	fuzz_file_link(&shards[1], dir, "b.safetensors");
}

static void read_tensor(const struct safetensors *st, const char *name)
{
	const struct tensor *t = safetensors_find(st, name);
	volatile uint8_t sum = 0;

	for (size_t i = 0; t && i < t->bytes; i++)
		sum = (uint8_t)(sum + t->data[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "a", "b", "c", "weight", "" };
	struct safetensors *st;
	struct config c;
	struct error e = { "" };

	if (!dir)
		init();
	put_all(data, size);
	if (config_read(dir, &c, &e) == 0)
		CHECK(c.nr_heads % c.nr_kv_heads == 0 && c.head_dim &&
		      c.nr_eos <= CONFIG_MAX_EOS, "a shape that cannot be");
	else
		CHECK(e.text[0], "refused without a word");
	e.text[0] = '\0';
	if (safetensors_open(dir, &st, &e) < 0) {
		CHECK(e.text[0], "refused without a word");
		return 0;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		read_tensor(st, names[i]);
	safetensors_close(st);
	return 0;
}
