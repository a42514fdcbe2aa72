/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights.c - the matrices of a Llama model, in f32.
 *
 * f16 and bf16 convert to f32 without loss, so all arithmetic is in f32
 * whatever the file holds. q, k and v are stacked into one matrix, gate and
 * up into another: one multiplication each.
 *
 * The digest names the model to the daemon: two workers share pages only when
 * it is equal. Its halves are XXH3-128 of the config's numbers and of every
 * tensor used (name, dtype, bytes), in the model's order, so that it does not
 * depend on how the tensors are spread over files. It tells models apart; it
 * is no proof against forgery, which inside one tenant nobody needs.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "kernels/host/half.h"
#include "tools/kvworker/safetensors.h"
#include "tools/kvworker/weights.h"

struct loader {
	const struct safetensors *st;
	const char *dir;
	XXH3_state_t *hash;
	struct error *error;
};

static float element(const struct tensor *t, size_t i)
{
	uint16_t half;
	uint32_t word;

	if (t->dtype == TENSOR_F32) {
		memcpy(&word, t->data + 4 * i, sizeof(word));
		return f32_from_bits(le32toh(word));
	}
	memcpy(&half, t->data + 2 * i, sizeof(half));
	half = le16toh(half);
	return t->dtype == TENSOR_F16 ? f16_to_f32(half) : bf16_to_f32(half);
}

static void hash_tensor(struct loader *l, const struct tensor *t)
{
	XXH3_128bits_update(l->hash, t->name, strlen(t->name) + 1);
	XXH3_128bits_update(l->hash, t->dtype_name,
			    strlen(t->dtype_name) + 1);
	XXH3_128bits_update(l->hash, t->data, t->bytes);
}

/* Finds a tensor and checks it; @cols 0 means a vector of @rows. */
static int find_tensor(struct loader *l, const char *name, size_t rows,
		       size_t cols, const struct tensor **ret)
{
	const struct tensor *t = safetensors_find(l->st, name);

	if (!t)
		return error_set(l->error, -ENOENT, "%s: tensor %s is missing",
				 l->dir, name);
	if (t->dtype == TENSOR_OTHER)
		return error_set(l->error, -ENOTSUP,
				 "%s: tensor %s: dtype %s is not supported, "
				 "only F16, BF16 and F32 are", t->path, name,
				 t->dtype_name);
	if (t->nr_dims != (cols ? 2u : 1u) || t->dims[0] != rows ||
	    (cols && t->dims[1] != cols))
		return error_set(l->error, -EINVAL,
				 "%s: tensor %s: shape differs from "
				 "[%zu%s%.0zu] of config.json", t->path, name,
				 rows, cols ? ", " : "", cols);
	*ret = t;
	return 0;
}

/*
 * Stacks up to three tensors of @cols columns (0: one vector) in one array.
 * Names are "<prefix><name>.weight"; a name of NULL ends the list.
 */
static int stack(struct loader *l, float **ret, const char *prefix,
		 size_t cols, const char *const names[3], const size_t rows[3])
{
	size_t width = cols ? cols : 1, total = 0, done = 0;
	const struct tensor *t[3];
	char name[128];
	int err, nr;

	for (nr = 0; nr < 3 && names[nr]; nr++) {
		snprintf(name, sizeof(name), "%s%s.weight", prefix, names[nr]);
		err = find_tensor(l, name, rows[nr], cols, &t[nr]);
		if (err)
			return err;
		total += rows[nr] * width;
	}
	*ret = malloc(total * sizeof(float));
	if (!*ret)
		return error_set(l->error, -ENOMEM,
				 "out of memory for %zu MiB of weights",
				 total * sizeof(float) >> 20);
	for (int i = 0; i < nr; i++) {
		hash_tensor(l, t[i]);
		for (size_t k = 0; k < rows[i] * width; k++)
			(*ret)[done + k] = element(t[i], k);
		done += rows[i] * width;
	}
	return 0;
}

static int load_one(struct loader *l, float **ret, const char *prefix,
		    const char *name, size_t rows, size_t cols)
{
	return stack(l, ret, prefix, cols, (const char *[3]){ name },
		     (size_t[3]){ rows });
}

static int load_layer(struct loader *l, struct layer_weights *w, uint32_t nr,
		      const struct config *c)
{
	static const char *const qkv[3] = { "self_attn.q_proj",
					    "self_attn.k_proj",
					    "self_attn.v_proj" };
	static const char *const gate_up[3] = { "mlp.gate_proj",
						"mlp.up_proj" };
	size_t q = (size_t)c->nr_heads * c->head_dim;
	size_t kv = (size_t)c->nr_kv_heads * c->head_dim;
	size_t mlp = c->intermediate;
	char at[40];
	int err;

	snprintf(at, sizeof(at), "model.layers.%u.", nr);
	err = load_one(l, &w->attn_norm, at, "input_layernorm", c->hidden, 0);
	if (!err)
		err = stack(l, &w->qkv, at, c->hidden, qkv,
			    (size_t[3]){ q, kv, kv });
	if (!err)
		err = load_one(l, &w->out, at, "self_attn.o_proj", c->hidden,
			       q);
	if (!err)
		err = load_one(l, &w->mlp_norm, at, "post_attention_layernorm",
			       c->hidden, 0);
	if (!err)
		err = stack(l, &w->gate_up, at, c->hidden, gate_up,
			    (size_t[3]){ mlp, mlp });
	if (!err)
		err = load_one(l, &w->down, at, "mlp.down_proj", c->hidden,
			       mlp);
	return err;
}

static int load_all(struct loader *l, struct weights *w,
		    const struct config *c)
{
	int err;

	err = load_one(l, &w->embed, "model.", "embed_tokens", c->vocab,
		       c->hidden);
	if (err)
		return err;
	w->layers = calloc(c->nr_layers, sizeof(*w->layers));
	if (!w->layers)
		return error_set(l->error, -ENOMEM, "out of memory");
	w->nr_layers = c->nr_layers;
	for (uint32_t i = 0; i < c->nr_layers && !err; i++)
		err = load_layer(l, &w->layers[i], i, c);
	if (!err)
		err = load_one(l, &w->norm, "model.", "norm", c->hidden, 0);
	if (err)
		return err;
	if (c->tied) {
		w->head = w->embed;
		return 0;
	}
	return load_one(l, &w->head, "", "lm_head", c->vocab, c->hidden);
}

/* The numbers of the config that K and V depend on beside the weights. */
static void hash_config(const struct config *c, uint8_t digest[16])
{
	XXH128_canonical_t canonical;
	char text[400];
	int n = snprintf(text, sizeof(text),
			 "llama %u %u %u %u %u %u %u %a %a %d %a %a %a %a",
			 c->hidden, c->intermediate, c->nr_layers, c->nr_heads,
			 c->nr_kv_heads, c->head_dim, c->vocab, c->rms_eps,
			 c->rope_theta, c->rope.on, c->rope.factor,
			 c->rope.low_freq_factor, c->rope.high_freq_factor,
			 c->rope.original_positions);

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(text, (size_t)n));
	memcpy(digest, canonical.digest, sizeof(canonical.digest));
}

static int load(struct weights *w, struct loader *l, const struct config *c)
{
	XXH128_canonical_t canonical;
	int err;

	l->hash = XXH3_createState();
	if (!l->hash)
		return error_set(l->error, -ENOMEM, "out of memory");
	XXH3_128bits_reset(l->hash);
	err = load_all(l, w, c);
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(l->hash));
	XXH3_freeState(l->hash);
	hash_config(c, w->digest);
	memcpy(w->digest + 16, canonical.digest, sizeof(canonical.digest));
	return err;
}

int weights_load(struct weights *w, const char *dir, const struct config *c,
		 struct error *e)
{
	struct loader l = { .dir = dir, .error = e };
	struct safetensors *st;
	int err;

	err = safetensors_open(dir, &st, e);
	if (err)
		return err;
	l.st = st;
	*w = (struct weights){ 0 };
	err = load(w, &l, c);
	safetensors_close(st);
	if (err)
		weights_free(w);
	return err;
}

void weights_free(struct weights *w)
{
	for (uint32_t i = 0; i < w->nr_layers; i++) {
		free(w->layers[i].attn_norm);
		free(w->layers[i].qkv);
		free(w->layers[i].out);
		free(w->layers[i].mlp_norm);
		free(w->layers[i].gate_up);
		free(w->layers[i].down);
	}
	free(w->layers);
	if (w->head != w->embed)
		free(w->head);
	free(w->embed);
	free(w->norm);
	*w = (struct weights){ 0 };
}
