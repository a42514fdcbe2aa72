/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - the shape of a Llama model, from its config.json.
 *
 * Fields have the names and the defaults of Hugging Face's LlamaConfig. The
 * limits keep every product of two dimensions far inside 64 bits; that
 * config and weights agree is checked where the weights are loaded.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <kvd/geometry.h>
#include "tools/kvworker/config.h"

#define MAX_WIDTH (1u << 24)
#define MAX_POSITIONS (1u << 30)

/* A config.json being read: every complaint starts with its path. */
struct reader {
	const json_t *root;
	const char *path;
	struct error *error;
};

static int complain(struct reader *r, const char *field, const char *what)
{
	return error_set(r->error, -EINVAL, "%s: %s %s", r->path, field, what);
}

/* The field's value, or NULL when it is not there or is null. */
static const json_t *find(const json_t *object, const char *field)
{
	const json_t *v = json_object_get(object, field);

	return json_is_null(v) ? NULL : v;
}

/* An integer in [1, max]; @fallback 0 means that it must be there. */
static int read_count(struct reader *r, const char *field, uint32_t max,
		      uint32_t fallback, uint32_t *ret)
{
	const json_t *v = find(r->root, field);
	json_int_t n;

	if (!v) {
		if (!fallback)
			return complain(r, field, "is missing");
		*ret = fallback;
		return 0;
	}
	n = json_integer_value(v);
	if (!json_is_integer(v) || n < 1 || n > max)
		return error_set(r->error, -EINVAL,
				 "%s: %s is not an integer from 1 to %u",
				 r->path, field, max);
	*ret = (uint32_t)n;
	return 0;
}

/* A positive number; @fallback 0 means that it must be there. */
static int read_number(struct reader *r, const json_t *object,
		       const char *field, double fallback, double *ret)
{
	const json_t *v = find(object, field);
	double x = v ? json_number_value(v) : fallback;

	if (!v && fallback == 0)
		return complain(r, field, "is missing");
	if (!(x > 0) || isinf(x))
		return complain(r, field, "is not a positive number");
	*ret = x;
	return 0;
}

static int read_bool(struct reader *r, const char *field, bool *ret)
{
	const json_t *v = find(r->root, field);

	if (v && !json_is_boolean(v))
		return complain(r, field, "is neither true nor false");
	*ret = json_is_true(v);
	return 0;
}

static int check_architecture(struct reader *r)
{
	const json_t *list = find(r->root, "architectures");
	const char *name = json_string_value(json_array_get(list, 0));

	if (!name)
		return complain(r, "architectures", "is missing");
	if (strcmp(name, "LlamaForCausalLM"))
		return error_set(r->error, -ENOTSUP,
				 "%s: architecture %s is not supported, only "
				 "LlamaForCausalLM is", r->path, name);
	return 0;
}

/* Variants of the architecture that the forward pass does not compute. */
static int check_variants(struct reader *r)
{
	static const char *const biases[] = { "attention_bias", "mlp_bias" };
	const json_t *act = find(r->root, "hidden_act");
	const json_t *partial = find(r->root, "partial_rotary_factor");
	bool on;
	int err;

	for (size_t i = 0; i < 2; i++) {
		err = read_bool(r, biases[i], &on);
		if (err)
			return err;
		if (on)
			return complain(r, biases[i],
					"true is not supported");
	}
	if (act && (!json_is_string(act) ||
		    strcmp(json_string_value(act), "silu")))
		return complain(r, "hidden_act", "must be \"silu\"");
	if (partial && json_number_value(partial) != 1)
		return complain(r, "partial_rotary_factor",
				"other than 1 is not supported");
	return 0;
}

static int read_llama3(struct reader *r, const json_t *rope,
		       struct rope_scaling *s)
{
	int err;

	err = read_number(r, rope, "factor", 0, &s->factor);
	if (!err)
		err = read_number(r, rope, "low_freq_factor", 0,
				  &s->low_freq_factor);
	if (!err)
		err = read_number(r, rope, "high_freq_factor", 0,
				  &s->high_freq_factor);
	if (!err)
		err = read_number(r, rope, "original_max_position_embeddings",
				  0, &s->original_positions);
	if (!err && s->high_freq_factor <= s->low_freq_factor)
		err = complain(r, "high_freq_factor",
			       "is not above low_freq_factor");
	s->on = true;
	return err;
}

/* rope_theta and rope_scaling, or both in rope_parameters (newer files). */
static int read_rope(struct reader *r, struct config *c)
{
	const json_t *rope = find(r->root, "rope_parameters");
	const json_t *type;
	int err;

	if (!rope)
		rope = find(r->root, "rope_scaling");
	err = read_number(r, find(rope, "rope_theta") ? rope : r->root,
			  "rope_theta", 10000, &c->rope_theta);
	if (err || !rope)
		return err;
	if (!json_is_object(rope))
		return complain(r, "rope_scaling", "is not an object");
	type = find(rope, "rope_type");
	if (!type)
		type = find(rope, "type");
	if (!json_is_string(type))
		return complain(r, "rope_scaling", "has no rope_type");
	if (!strcmp(json_string_value(type), "default"))
		return 0;
	if (!strcmp(json_string_value(type), "llama3"))
		return read_llama3(r, rope, &c->rope);
	return error_set(r->error, -ENOTSUP,
			 "%s: rope_scaling \"%s\" is not supported, only "
			 "\"llama3\" is", r->path, json_string_value(type));
}

static int add_eos(struct reader *r, const json_t *id, struct config *c)
{
	json_int_t n = json_integer_value(id);

	if (!json_is_integer(id) || n < 0 || n > UINT32_MAX)
		return complain(r, "eos_token_id", "is not a token id");
	if (c->nr_eos == CONFIG_MAX_EOS)
		return complain(r, "eos_token_id", "has too many ids");
	c->eos[c->nr_eos++] = (uint32_t)n;
	return 0;
}

static int read_eos(struct reader *r, struct config *c)
{
	const json_t *v = find(r->root, "eos_token_id");
	int err = 0;

	if (!v)
		return 0;
	if (!json_is_array(v))
		return add_eos(r, v, c);
	for (size_t i = 0; i < json_array_size(v) && !err; i++)
		err = add_eos(r, json_array_get(v, i), c);
	return err;
}

static int read_heads(struct reader *r, struct config *c)
{
	int err;

	err = read_count(r, "num_attention_heads", MAX_WIDTH, 0, &c->nr_heads);
	if (err)
		return err;
	err = read_count(r, "num_key_value_heads", KVD_MAX_HEADS,
			 c->nr_heads, &c->nr_kv_heads);
	if (err)
		return err;
	if (c->nr_kv_heads > KVD_MAX_HEADS || c->nr_heads % c->nr_kv_heads)
		return complain(r, "num_attention_heads",
				"is not a multiple of num_key_value_heads");
	if (!find(r->root, "head_dim") && c->hidden % c->nr_heads)
		return complain(r, "hidden_size", "is not a multiple of "
				"num_attention_heads, and head_dim is missing");
	err = read_count(r, "head_dim", KVD_MAX_DIM, c->hidden / c->nr_heads,
			 &c->head_dim);
	if (err)
		return err;
	if (c->head_dim > KVD_MAX_DIM || c->head_dim % 2 ||
	    (uint64_t)c->nr_heads * c->head_dim > MAX_WIDTH)
		return complain(r, "head_dim", "is odd or too large");
	return 0;
}

static int read_fields(struct reader *r, struct config *c)
{
	int err;

	err = check_architecture(r);
	if (!err)
		err = check_variants(r);
	if (!err)
		err = read_count(r, "hidden_size", MAX_WIDTH, 0, &c->hidden);
	if (!err)
		err = read_count(r, "intermediate_size", MAX_WIDTH, 0,
				 &c->intermediate);
	if (!err)
		err = read_count(r, "num_hidden_layers", KVD_MAX_LAYERS, 0,
				 &c->nr_layers);
	if (!err)
		err = read_heads(r, c);
	if (!err)
		err = read_count(r, "vocab_size", MAX_WIDTH, 0, &c->vocab);
	if (!err)
		err = read_count(r, "max_position_embeddings", MAX_POSITIONS,
				 2048, &c->max_positions);
	if (!err)
		err = read_number(r, r->root, "rms_norm_eps", 1e-6,
				  &c->rms_eps);
	if (!err)
		err = read_rope(r, c);
	if (!err)
		err = read_bool(r, "tie_word_embeddings", &c->tied);
	if (!err)
		err = read_eos(r, c);
	return err;
}

int config_read(const char *dir, struct config *c, struct error *e)
{
	char path[PATH_MAX];
	struct reader r = { .path = path, .error = e };
	struct config new = { 0 };
	json_error_t why;
	json_t *root;
	int err;

	if (snprintf(path, sizeof(path), "%s/config.json", dir) >=
	    (int)sizeof(path))
		return error_set(e, -ENAMETOOLONG, "model path is too long");
	root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
	if (!root && json_error_code(&why) == json_error_cannot_open_file)
		return error_set(e, -ENOENT, "%s: %s", path, strerror(errno));
	if (!root)
		return error_set(e, -EINVAL, "%s: line %d: %s", path, why.line,
				 why.text);
	r.root = root;
	err = json_is_object(root) ? read_fields(&r, &new) :
				     complain(&r, "it", "is not an object");
	json_decref(root);
	if (!err)
		*c = new;
	return err;
}
