/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outlier.c - the same function with outlier channels in its keys.
 *
 *	outlier BASE_DIR SCALED_PAIRS.JSON NEW_DIR
 *
 * Writes a copy of a model in which, for each entry { layer, kv_head, pairs,
 * scale }, the channels of these RoPE pairs (i and i + head_dim / 2) are
 * multiplied by scale in the rows of k_proj, and divided by it in those of
 * q_proj whose heads read that kv head. Scales are powers of two, so products
 * q k stay what they were, but for subnormal weights, which round.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "kernels/host/half.h"
#include "tools/kvworker/config.h"
#include "tools/kvworker/safetensors.h"
#include "tools/kvworker/text.h"

struct job {
	struct config config;
	struct safetensors *tensors;
	uint8_t *file;		/* model.safetensors, being changed */
	size_t bytes;
	size_t data;		/* where its tensors begin */
};

static void die(const char *what)
{
	fprintf(stderr, "outlier: %s\n", what);
	exit(1);
}

/* The bytes of a tensor in the copy of the file. */
static uint8_t *tensor_at(const struct job *j, unsigned layer,
			  const char *name)
{
	const struct tensor *first, *t;
	char full[128];

	snprintf(full, sizeof(full), "model.layers.%u.self_attn.%s.weight",
		 layer, name);
	first = safetensors_find(j->tensors, "model.embed_tokens.weight");
	t = safetensors_find(j->tensors, full);
	if (!t || t->dtype != TENSOR_F16)
		die("an f16 tensor is missing");
	return j->file + j->data + (t->data - first->data);
}

/* Multiplies row @channel of head @head. */
static void scale_row(const struct job *j, uint8_t *tensor, unsigned head,
		      unsigned channel, float scale)
{
	size_t n = j->config.hidden;
	uint8_t *row = tensor + (head * j->config.head_dim + channel) * n * 2;
	uint16_t half;

	for (size_t i = 0; i < n; i++) {
		memcpy(&half, row + 2 * i, 2);
		half = f16_from_f32(f16_to_f32(half) * scale);
		memcpy(row + 2 * i, &half, 2);
	}
}

static void scale_pair(const struct job *j, unsigned layer, unsigned kv_head,
		       unsigned pair, float scale)
{
	unsigned share = j->config.nr_heads / j->config.nr_kv_heads;
	unsigned half = j->config.head_dim / 2;
	uint8_t *k = tensor_at(j, layer, "k_proj");
	uint8_t *q = tensor_at(j, layer, "q_proj");

	for (unsigned c = pair; c < 2 * half; c += half) {
		scale_row(j, k, kv_head, c, scale);
		for (unsigned h = 0; h < share; h++)
			scale_row(j, q, kv_head * share + h, c, 1 / scale);
	}
}

static void scale_entry(const struct job *j, const json_t *entry)
{
	const json_t *pairs = json_object_get(entry, "pairs");
	json_int_t layer = json_integer_value(json_object_get(entry, "layer"));
	json_int_t head = json_integer_value(json_object_get(entry,
							     "kv_head"));
	double scale = json_number_value(json_object_get(entry, "scale"));

	for (size_t i = 0; i < json_array_size(pairs); i++)
		scale_pair(j, (unsigned)layer, (unsigned)head,
			   (unsigned)json_integer_value(
				   json_array_get(pairs, i)),
			   (float)scale);
}

static void write_copy(const char *dir, const char *name, const void *data,
		       size_t bytes)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f))
		die(path);
}

static void load(struct job *j, const char *dir)
{
	char path[4096];
	struct error e;
	uint64_t header;

	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	if (config_read(dir, &j->config, &e) ||
	    safetensors_open(dir, &j->tensors, &e) ||
	    text_read(path, SIZE_MAX, &j->file, &j->bytes, &e))
		die(e.text);
	memcpy(&header, j->file, sizeof(header));
	j->data = sizeof(header) + (size_t)header;
}

int main(int argc, char **argv)
{
	struct job j = { .file = NULL };
	char path[4096];
	uint8_t *config;
	struct error e;
	json_t *list;
	size_t nr;

	if (argc != 4)
		die("usage: outlier BASE_DIR SCALED_PAIRS.JSON NEW_DIR");
	load(&j, argv[1]);
	list = json_load_file(argv[2], 0, NULL);
	if (!json_is_array(list))
		die("cannot read the pairs");
	for (size_t i = 0; i < json_array_size(list); i++)
		scale_entry(&j, json_array_get(list, i));
	snprintf(path, sizeof(path), "%s/config.json", argv[1]);
	if (text_read(path, SIZE_MAX, &config, &nr, &e))
		die(e.text);
	if (mkdir(argv[3], 0777) && errno != EEXIST)
		die(argv[3]);
	write_copy(argv[3], "config.json", config, nr);
	write_copy(argv[3], "model.safetensors", j.file, j.bytes);
	free(config);
	free(j.file);
	json_decref(list);
	safetensors_close(j.tensors);
	return 0;
}
