/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the shape of a Llama model, from its config.json.
 */
#ifndef KVWORKER_CONFIG_H
#define KVWORKER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "tools/kvworker/error.h"

#define CONFIG_MAX_EOS 16

/* How the frequencies of the rotation are stretched (Llama 3.1). */
struct rope_scaling {
	bool on;
	double factor;
	double low_freq_factor;
	double high_freq_factor;
	double original_positions;
};

struct config {
	uint32_t hidden;
	uint32_t intermediate;
	uint32_t nr_layers;
	uint32_t nr_heads;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	uint32_t vocab;
	uint32_t max_positions;
	double rms_eps;
	double rope_theta;
	struct rope_scaling rope;
	bool tied;		/* the head is the embedding */
	uint32_t nr_eos;
	uint32_t eos[CONFIG_MAX_EOS]; /* ids that end a text */
};

/**
 * config_read() - read MODEL_DIR/config.json
 *
 * What this worker cannot compute (other architectures, biases, other
 * activations, other RoPE scalings) is refused.
 *
 * Return: 0, or -errno with @e naming the file and the field.
 */
int config_read(const char *dir, struct config *c, struct error *e);

#endif
