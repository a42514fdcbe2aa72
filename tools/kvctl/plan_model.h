/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_model.h - the shape of a model, from a Hugging Face config.json.
 *
 * Only what decides bytes: of the weights, and of keys and values. All
 * numbers are within the limits of plan_model.c, so that products of them
 * stay below 2^62 (plan_weights.c).
 */
#ifndef TOOLS_KVCTL_PLAN_MODEL_H
#define TOOLS_KVCTL_PLAN_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What an architecture has besides the standard fields. */
enum plan_trait {
	PLAN_PLAIN_MLP = 1 << 0,   /* two matrices instead of three */
	PLAN_QKV_BIAS = 1 << 1,
	PLAN_O_BIAS = 1 << 2,
	PLAN_MLP_BIAS = 1 << 3,	   /* of experts too */
	PLAN_QK_NORM = 1 << 4,	   /* a weight per element of a head */
	PLAN_QK_NORM_WIDE = 1 << 5, /* a weight per element of all heads */
	PLAN_FOUR_NORMS = 1 << 6,  /* of a layer, instead of two */
	PLAN_ONE_NORM = 1 << 7,
	PLAN_NORM_BIAS = 1 << 8,
	PLAN_HEAD_BIAS = 1 << 9,
	PLAN_TIED = 1 << 10,	   /* unless config.json says otherwise */
	PLAN_WINDOW_ALL = 1 << 11, /* sliding_window is of every layer */
	PLAN_WINDOW_SOME = 1 << 12, /* use_sliding_window, max_window_layers */
	PLAN_SINKS = 1 << 13,	   /* a logit per head */
};

struct plan_model {
	char type[64];		   /* model_type; "" when it is not given */
	bool assumed;		   /* unknown type: taken for a Llama */
	bool other_parts;	   /* vision and so on, which are not sized */
	uint32_t traits;	   /* enum plan_trait */
	uint32_t nr_layers;
	uint32_t nr_window_layers; /* of them, those with a window */
	uint32_t window;	   /* tokens, 0: no layer has one */
	uint32_t hidden;
	uint32_t nr_heads;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	uint32_t intermediate;	   /* of layers without experts */
	uint32_t vocab;
	uint32_t max_tokens;	   /* max_position_embeddings, 0: not said */
	uint32_t nr_expert_layers;
	uint32_t nr_experts;
	uint32_t expert_intermediate;
	uint32_t shared_intermediate; /* of the expert all tokens take, or 0 */
	uint32_t shared_gate;	   /* 1: that one has a gate */
	char quantized[32];	   /* weights are stored so; "" is 16 bits */
	uint32_t quant_group;	   /* weights that share a scale, 0: a row */
};

/**
 * plan_fail() - one line on stderr, "kvctl plan: ..."
 *
 * Return: -EINVAL.
 */
int plan_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * plan_model_load() - read config.json
 * @path:	the file, or the directory it is in
 * @weights_given: do not ask how the weights are stored
 *
 * Return: 0; or after a line on stderr -EINVAL, where the model cannot be
 * sized: @m is then not to be used.
 */
int plan_model_load(struct plan_model *m, const char *path,
		    bool weights_given);

/* plan_layers.c: windows and experts, once the rest of @m is there. */
int plan_model_windows(struct plan_model *m, const json_t *c,
		       uint32_t pattern);
int plan_model_experts(struct plan_model *m, const json_t *c);

/* plan_quant.c: quantization_config, when there is one. */
int plan_model_quant(struct plan_model *m, const json_t *quant);

/* A whole number of config.json, and how it is looked for. */
struct plan_field {
	const char *names[4];	/* the first that is there counts */
	uint32_t max;		/* at least 1, at most this */
	uint32_t fallback;	/* when none is there; 0: it must be */
};

/* Return: 0 or -EINVAL, after a line that names the field. */
int plan_field_read(const json_t *c, const struct plan_field *f,
		    uint32_t *ret);

/* Not there, or null. */
bool plan_absent(const json_t *c, const char *name);

/* True or false, @fallback where absent; -EINVAL after a line. */
int plan_bool_read(const json_t *c, const char *name, bool fallback,
		   bool *ret);

#endif
