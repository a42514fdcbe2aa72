// SPDX-License-Identifier: Apache-2.0
/*
 * plan_layers.c - which layers have a window, which have experts.
 */
#include <errno.h>
#include <string.h>
#include "tools/kvctl/plan_model.h"

#define MAX_WINDOW  (1 << 28)
#define MAX_EXPERTS 2048
#define MAX_INTER   (1 << 20)

/* layer_types, as newer configs have it. */
static int types_read(struct plan_model *m, const json_t *types)
{
	const char *type;
	size_t i;

	if (json_array_size(types) != m->nr_layers)
		return plan_fail("layer_types has %zu layers, not %u",
		                 json_array_size(types), m->nr_layers);
	for (i = 0; i < m->nr_layers; i++) {
		type = json_string_value(json_array_get(types, i));
		if (!type)
			return plan_fail("layer_types must be texts");
		if (!strcmp(type, "sliding_attention"))
			m->nr_window_layers++;
		else if (strcmp(type, "full_attention"))
			return plan_fail("layer_types has %.40s: only layers "
			                 "of full_attention and "
			                 "sliding_attention are sized",
			                 type);
	}
	return 0;
}

/* Layers from max_window_layers on have it, if it is used at all. */
static int some_read(struct plan_model *m, const json_t *c)
{
	const json_t *from = json_object_get(c, "max_window_layers");
	bool used;

	if (plan_bool_read(c, "use_sliding_window", false, &used))
		return -EINVAL;
	if (!used)
		return 0;
	if (!json_is_integer(from) || json_integer_value(from) < 0)
		return plan_fail("use_sliding_window needs a "
		                 "max_window_layers of 0 or more");
	if (json_integer_value(from) < m->nr_layers)
		m->nr_window_layers = m->nr_layers - json_integer_value(from);
	return 0;
}

/* Every @pattern-th layer sees all tokens, the others a window. */
static int pattern_read(struct plan_model *m, const json_t *c, uint32_t pattern)
{
	const struct plan_field f = { { "sliding_window_pattern",
		                        "_sliding_window_pattern" },
		                      1 << 16,
		                      pattern };

	if (plan_field_read(c, &f, &pattern))
		return -EINVAL;
	m->nr_window_layers = m->nr_layers - m->nr_layers / pattern;
	return 0;
}

/* Without a word on which layers, the window counts only where it is known. */
static int count_read(struct plan_model *m, const json_t *c, uint32_t pattern)
{
	const json_t *types = json_object_get(c, "layer_types");

	if (!plan_absent(c, "layer_types"))
		return json_is_array(types)
		               ? types_read(m, types)
		               : plan_fail("layer_types must be an array");
	if (pattern || !plan_absent(c, "sliding_window_pattern"))
		return pattern_read(m, c, pattern);
	if (m->traits & PLAN_WINDOW_SOME)
		return some_read(m, c);
	if (m->traits & PLAN_WINDOW_ALL && !plan_absent(c, "sliding_window"))
		m->nr_window_layers = m->nr_layers;
	return 0;
}

int plan_model_windows(struct plan_model *m, const json_t *c, uint32_t pattern)
{
	const struct plan_field f = { { "sliding_window" }, MAX_WINDOW };

	if (count_read(m, c, pattern))
		return -EINVAL;
	return m->nr_window_layers ? plan_field_read(c, &f, &m->window) : 0;
}

/* Layers named in mlp_only_layers that would have experts otherwise. */
static bool is_plain(const json_t *plain, uint32_t layer)
{
	size_t i;

	for (i = 0; i < json_array_size(plain); i++)
		if (json_integer_value(json_array_get(plain, i)) == layer)
			return true;
	return false;
}

/* @step and @first as Qwen and DeepSeek count their layers. */
static void count_expert_layers(struct plan_model *m, const json_t *c,
                                uint32_t step)
{
	const json_t *plain = json_object_get(c, "mlp_only_layers");
	json_int_t first =
		json_integer_value(json_object_get(c, "first_k_dense_replace"));
	uint32_t i;

	for (i = 0; i < m->nr_layers; i++)
		if ((i + 1) % step == 0 && i >= first && !is_plain(plain, i))
			m->nr_expert_layers++;
}

/* The expert that every token takes: a size, or a count of ordinary ones. */
static int shared_read(struct plan_model *m, const json_t *c)
{
	const struct plan_field size = { { "shared_expert_intermediate_size" },
		                         MAX_INTER };
	const struct plan_field count = { { "n_shared_experts" }, 16 };
	uint32_t nr;

	if (!plan_absent(c, size.names[0])) {
		m->shared_gate = 1;
		return plan_field_read(c, &size, &m->shared_intermediate);
	}
	if (plan_absent(c, count.names[0]))
		return 0;
	if (plan_field_read(c, &count, &nr))
		return -EINVAL;
	m->shared_intermediate = nr * m->expert_intermediate;
	return 0;
}

int plan_model_experts(struct plan_model *m, const json_t *c)
{
	static const char *const names[] = { "num_local_experts", "num_experts",
		                             "n_routed_experts" };
	const struct plan_field nr = { { names[0], names[1], names[2] },
		                       MAX_EXPERTS };
	const struct plan_field step = { { "decoder_sparse_step" },
		                         1 << 16,
		                         1 };
	const struct plan_field inter = { { "moe_intermediate_size" },
		                          MAX_INTER,
		                          m->intermediate };
	uint32_t every;

	if (plan_absent(c, names[0]) && plan_absent(c, names[1]) &&
	    plan_absent(c, names[2]))
		return 0;
	if (plan_field_read(c, &nr, &m->nr_experts) ||
	    plan_field_read(c, &inter, &m->expert_intermediate) ||
	    plan_field_read(c, &step, &every))
		return -EINVAL;
	count_expert_layers(m, c, every);
	return shared_read(m, c);
}
