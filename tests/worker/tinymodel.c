/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinymodel.c - a Llama model of a few hundred weights, whole or broken.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/worker/tinymodel.h"

static const char config[] =
"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 16,\n"
" \"num_hidden_layers\": 1, \"num_attention_heads\": 2,\n"
" \"num_key_value_heads\": 1, \"head_dim\": 8, \"intermediate_size\": 24,\n"
" \"vocab_size\": 256, \"max_position_embeddings\": 1024,\n"
" \"rope_theta\": 10000.0, \"rope_scaling\": null,\n"
" \"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\",\n"
" \"attention_bias\": false, \"mlp_bias\": false,\n"
" \"tie_word_embeddings\": false, \"eos_token_id\": 0}\n";

static const struct {
	const char *name;
	unsigned rows;
	unsigned cols;		/* 0: a vector */
} tensors[] = {
	{ "model.embed_tokens", 256, 16 },
	{ "model.layers.0.input_layernorm", 16, 0 },
	{ "model.layers.0.self_attn.q_proj", 16, 16 },
	{ "model.layers.0.self_attn.k_proj", 8, 16 },
	{ "model.layers.0.self_attn.v_proj", 8, 16 },
	{ "model.layers.0.self_attn.o_proj", 16, 16 },
	{ "model.layers.0.post_attention_layernorm", 16, 0 },
	{ "model.layers.0.mlp.gate_proj", 24, 16 },
	{ "model.layers.0.mlp.up_proj", 24, 16 },
	{ "model.layers.0.mlp.down_proj", 16, 24 },
	{ "model.norm", 16, 0 },
	{ "lm_head", 256, 16 },
};

#define NR_TENSORS (sizeof(tensors) / sizeof(tensors[0]))
#define MAX_TEXT 16384

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Prints the header; returns the bytes of all tensors. */
static size_t make_header(char *text, const char *dtype)
{
	size_t at = 0, end, size = dtype ? 2 : 4;
	int n = sprintf(text, "{\"__metadata__\":{\"format\":\"pt\"}");

	for (size_t i = 0; i < NR_TENSORS; i++) {
		unsigned cols = tensors[i].cols;

		end = at + size * tensors[i].rows * (cols ? cols : 1);
		n += sprintf(text + n, ",\"%s.weight\":{\"dtype\":\"%s\","
			     "\"shape\":[%u", tensors[i].name,
			     dtype ? dtype : "F32", tensors[i].rows);
		if (cols)
			n += sprintf(text + n, ",%u", cols);
		n += sprintf(text + n, "],\"data_offsets\":[%zu,%zu]}", at,
			     end);
		at = end;
	}
	strcpy(text + n, "}");
	return at;
}

/* Replaces the first @find in @text. */
static void edit(char *text, const char *find, const char *replace)
{
	char tail[MAX_TEXT];
	char *at = strstr(text, find);

	if (!at) {
		fprintf(stderr, "tinymodel: no \"%s\"\n", find);
		exit(1);
	}
	strcpy(tail, at + strlen(find));
	strcpy(at, replace);
	strcat(at, tail);
}

static void write_file(const char *dir, const char *name, const void *data,
		       size_t bytes)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f))
		die(path);
}

static void write_config(const char *dir, const struct tinymodel *t)
{
	char text[MAX_TEXT];

	strcpy(text, config);
	if (t->find && t->in_config)
		edit(text, t->find, t->replace);
	write_file(dir, "config.json", text, strlen(text));
}

static void write_tensors(const char *dir, const struct tinymodel *t)
{
	char text[MAX_TEXT];
	size_t data = make_header(text, t->dtype), bytes;
	uint64_t len;
	char *file;

	if (t->find && !t->in_config)
		edit(text, t->find, t->replace);
	bytes = 8 + strlen(text) + data;
	file = calloc(1, bytes + 64);
	if (!file)
		die("calloc");
	len = htole64(t->header_len ? t->header_len : strlen(text));
	memcpy(file, &len, 8);
	strcpy(file + 8, text);
	file[bytes - 1] = (char)t->last_byte;
	bytes -= (size_t)t->cut;
	write_file(dir, "model.safetensors", file,
		   t->keep ? (size_t)t->keep : bytes);
	free(file);
}

void tinymodel_write(const char *dir, const struct tinymodel *t)
{
	if (mkdir(dir, 0777) && errno != EEXIST)
		die(dir);
	if (!t->no_config)
		write_config(dir, t);
	if (!t->no_tensors)
		write_tensors(dir, t);
}

void tinymodel_remove(const char *dir)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/config.json", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	unlink(path);
	rmdir(dir);
}
