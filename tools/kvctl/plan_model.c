// SPDX-License-Identifier: Apache-2.0
/*
 * plan_model.c - the shape of a model, from a Hugging Face config.json.
 *
 * A table says what each known architecture has besides the standard fields.
 * Others are taken for a Llama, and marked as assumed.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "tools/kvctl/plan_model.h"

#define MAX_LAYERS 1024
#define MAX_HIDDEN (1 << 17)
#define MAX_HEADS  4096
#define MAX_DIM    1024
#define MAX_INTER  (1 << 20)
#define MAX_VOCAB  (1 << 24)
#define MAX_TOKENS (1 << 28)

/* Gemma 3 leaves these out where they are the default. */
struct defaults {
	uint32_t nr_heads, nr_kv_heads, head_dim, vocab;
};

static const struct family {
	const char *type;
	uint32_t traits;
	uint32_t pattern; /* every pattern-th layer sees all tokens */
	struct defaults defaults;
} families[] = {
	{ "llama", 0 },
	{ "smollm3", 0 },
	{ "granite", 0 },
	{ "mistral", PLAN_WINDOW_ALL },
	{ "mixtral", PLAN_WINDOW_ALL },
	{ "qwen2", PLAN_QKV_BIAS | PLAN_WINDOW_SOME },
	{ "qwen2_vl", PLAN_QKV_BIAS | PLAN_WINDOW_SOME },
	{ "qwen2_5_vl", PLAN_QKV_BIAS | PLAN_WINDOW_SOME },
	{ "qwen2_5_vl_text", PLAN_QKV_BIAS | PLAN_WINDOW_SOME },
	{ "qwen2_moe", PLAN_QKV_BIAS | PLAN_WINDOW_SOME },
	{ "qwen3", PLAN_QK_NORM | PLAN_WINDOW_SOME },
	{ "qwen3_vl_text", PLAN_QK_NORM | PLAN_WINDOW_SOME },
	{ "qwen3_moe", PLAN_QK_NORM | PLAN_WINDOW_SOME },
	{ "gemma", PLAN_TIED, 0, { .head_dim = 256 } },
	{ "gemma2", PLAN_TIED | PLAN_FOUR_NORMS, 2, { .head_dim = 256 } },
	{ "gemma3_text",
	  PLAN_TIED | PLAN_FOUR_NORMS | PLAN_QK_NORM,
	  6,
	  { 8, 4, 256, 262208 } },
	{ "phi", PLAN_PLAIN_MLP | PLAN_QKV_BIAS | PLAN_O_BIAS | PLAN_MLP_BIAS |
	                 PLAN_ONE_NORM | PLAN_NORM_BIAS | PLAN_HEAD_BIAS },
	{ "phi3", PLAN_WINDOW_ALL },
	{ "olmo2", PLAN_QK_NORM_WIDE },
	{ "gpt_oss", PLAN_QKV_BIAS | PLAN_O_BIAS | PLAN_MLP_BIAS | PLAN_SINKS },
	{ "starcoder2", PLAN_PLAIN_MLP | PLAN_QKV_BIAS | PLAN_O_BIAS |
	                        PLAN_MLP_BIAS | PLAN_NORM_BIAS | PLAN_TIED |
	                        PLAN_WINDOW_ALL },
};

static const struct family *family_find(const char *type)
{
	size_t i;

	for (i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (!strcmp(families[i].type, type))
			return &families[i];
	return NULL;
}

/* Return: the traits' own bits, set or cleared as @c says. */
static int flag_read(struct plan_model *m, const json_t *c, const char *name,
                     uint32_t traits)
{
	bool on;

	if (plan_absent(c, name))
		return 0;
	if (plan_bool_read(c, name, false, &on))
		return -EINVAL;
	m->traits = on ? m->traits | traits : m->traits & ~traits;
	return 0;
}

/* The root's counts only where a nested config does not say. */
static int flags_read(struct plan_model *m, const json_t *root, const json_t *c)
{
	if (flag_read(m, root, "tie_word_embeddings", PLAN_TIED) ||
	    flag_read(m, c, "tie_word_embeddings", PLAN_TIED) ||
	    flag_read(m, c, "attention_bias", PLAN_QKV_BIAS | PLAN_O_BIAS) ||
	    flag_read(m, c, "mlp_bias", PLAN_MLP_BIAS))
		return -EINVAL;
	return 0;
}

static int heads_read(struct plan_model *m, const json_t *c,
                      const struct defaults *d)
{
	const struct plan_field heads = { { "num_attention_heads", "n_head" },
		                          MAX_HEADS,
		                          d->nr_heads };
	struct plan_field kv = { { "num_key_value_heads" }, MAX_HEADS };
	struct plan_field dim = { { "head_dim" }, MAX_DIM, d->head_dim };

	if (plan_field_read(c, &heads, &m->nr_heads))
		return -EINVAL;
	kv.fallback = d->nr_kv_heads ? d->nr_kv_heads : m->nr_heads;
	if (!dim.fallback)
		dim.fallback = m->hidden / m->nr_heads;
	if (!dim.fallback || (plan_absent(c, "head_dim") && !d->head_dim &&
	                      m->hidden % m->nr_heads))
		return plan_fail("config.json has no head_dim, and "
		                 "hidden_size %u is no multiple of %u heads",
		                 m->hidden, m->nr_heads);
	if (dim.fallback > MAX_DIM && plan_absent(c, "head_dim"))
		return plan_fail("hidden_size %u / %u heads is a head_dim of "
		                 "%u; it must be at most %u",
		                 m->hidden, m->nr_heads, dim.fallback, MAX_DIM);
	if (plan_field_read(c, &kv, &m->nr_kv_heads) ||
	    plan_field_read(c, &dim, &m->head_dim))
		return -EINVAL;
	if (m->nr_heads % m->nr_kv_heads)
		return plan_fail("num_attention_heads %u is no multiple of "
		                 "num_key_value_heads %u",
		                 m->nr_heads, m->nr_kv_heads);
	return 0;
}

static int sizes_read(struct plan_model *m, const json_t *c,
                      const struct defaults *d)
{
	const struct plan_field hidden = { { "hidden_size", "n_embd" },
		                           MAX_HIDDEN };
	const struct plan_field layers = { { "num_hidden_layers", "n_layer" },
		                           MAX_LAYERS };
	const struct plan_field inter = { { "intermediate_size", "n_inner" },
		                          MAX_INTER };
	const struct plan_field vocab = { { "vocab_size" },
		                          MAX_VOCAB,
		                          d->vocab };
	const struct plan_field tokens = { { "max_position_embeddings" },
		                           MAX_TOKENS };

	if (plan_field_read(c, &hidden, &m->hidden) ||
	    plan_field_read(c, &layers, &m->nr_layers) ||
	    plan_field_read(c, &inter, &m->intermediate) ||
	    plan_field_read(c, &vocab, &m->vocab) || heads_read(m, c, d))
		return -EINVAL;
	if (plan_absent(c, "max_position_embeddings"))
		return 0;
	return plan_field_read(c, &tokens, &m->max_tokens);
}

/*
 * Multi-head latent attention keeps one compressed row of a token. A page
 * can hold it (v_dim 0); its weights have another shape than is computed here.
 */
static int refuse_mla(const json_t *c)
{
	json_int_t rank =
		json_integer_value(json_object_get(c, "kv_lora_rank"));
	json_int_t rope =
		json_integer_value(json_object_get(c, "qk_rope_head_dim"));

	return plan_fail(
		"kv_lora_rank: this model has multi-head latent attention "
		"(MLA), which plan does not size. Its cache is one row of "
		"kv_lora_rank + qk_rope_head_dim = %lld + %lld elements a "
		"token and layer, the same on every GPU: a layer group with 1 "
		"kv head, k_dim of that sum, v_dim 0. Needed: that group, and "
		"the low-rank projections in the weights",
		(long long)rank, (long long)rope);
}

static int refuse_others(const json_t *c)
{
	bool both = false;

	if (!plan_absent(c, "kv_lora_rank"))
		return refuse_mla(c);
	if (plan_bool_read(c, "is_encoder_decoder", false, &both))
		return -EINVAL;
	if (both)
		return plan_fail("is_encoder_decoder: plan sizes models that "
		                 "are decoders only");
	return 0;
}

/* Pictures and sound have a part of their own, and weights in it. */
static bool has_other_parts(const json_t *root)
{
	return !plan_absent(root, "vision_config") ||
	       !plan_absent(root, "audio_config");
}

/* The type in a nested config; else gemma3 means its text. */
static void type_read(struct plan_model *m, const json_t *root, const json_t *c)
{
	const char *type = json_string_value(json_object_get(c, "model_type"));

	if (!type)
		type = json_string_value(json_object_get(root, "model_type"));
	if (!type)
		type = "";
	if (!strcmp(type, "gemma3"))
		type = "gemma3_text";
	snprintf(m->type, sizeof(m->type), "%s", type);
}

static int model_read(struct plan_model *m, const json_t *root,
                      const char *path, bool weights_given)
{
	const json_t *c = json_object_get(root, "text_config");
	const json_t *quant = json_object_get(root, "quantization_config");
	const struct family *f;
	static const struct family none;

	if (!json_is_object(root))
		return plan_fail("%s: not a JSON object", path);
	if (!json_is_object(c))
		c = root;
	if (!quant)
		quant = json_object_get(c, "quantization_config");
	*m = (struct plan_model){ .other_parts = has_other_parts(root) };
	type_read(m, root, c);
	f = family_find(m->type);
	m->assumed = !f;
	if (!f)
		f = &none;
	m->traits = f->traits;
	if (refuse_others(c) || flags_read(m, root, c) ||
	    sizes_read(m, c, &f->defaults) || plan_model_experts(m, c) ||
	    plan_model_windows(m, c, f->pattern))
		return -EINVAL;
	return weights_given ? 0 : plan_model_quant(m, quant);
}

int plan_model_load(struct plan_model *m, const char *path, bool weights_given)
{
	char file[PATH_MAX];
	struct stat st;
	json_error_t error;
	json_t *root;
	int n, err;

	if (stat(path, &st))
		return plan_fail("%s: %s", path, strerror(errno));
	n = snprintf(file, sizeof(file), "%s%s", path,
	             S_ISDIR(st.st_mode) ? "/config.json" : "");
	if (n >= (int)sizeof(file))
		return plan_fail("%s: %s", path, strerror(ENAMETOOLONG));
	root = json_load_file(file, 0, &error);
	if (!root)
		return error.line > 0 ? plan_fail("%s:%d: %s", file, error.line,
		                                  error.text)
		                      : plan_fail("%s", error.text);
	err = model_read(m, root, file, weights_given);
	json_decref(root);
	return err;
}
