// SPDX-License-Identifier: Apache-2.0
/*
 * plan_quant.c - how config.json says that the weights are stored.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "tools/kvctl/plan_model.h"

#define DEFAULT_GROUP 128
#define MAX_GROUP     (1 << 16)

static int set(struct plan_model *m, const char *precision, uint32_t group)
{
	snprintf(m->quantized, sizeof(m->quantized), "%s", precision);
	m->quant_group = group;
	return 0;
}

/* awq and gptq: a width and a group; a group of -1 is a whole row. */
static int grouped(struct plan_model *m, const json_t *q, const char *method)
{
	const struct plan_field group_field = { { "group_size" },
		                                MAX_GROUP,
		                                DEFAULT_GROUP };
	const struct plan_field bits_field = { { "bits", "w_bit" }, 8, 4 };
	uint32_t bits, group = 0;

	if (plan_field_read(q, &bits_field, &bits))
		return -EINVAL;
	if (json_integer_value(json_object_get(q, "group_size")) != -1 &&
	    plan_field_read(q, &group_field, &group))
		return -EINVAL;
	if (bits == 8)
		return set(m, "int8", 0);
	if (bits != 4)
		return plan_fail("quantization_config: %s with %u bits is not "
		                 "sized: say --weights",
		                 method, bits);
	return set(m, method, group);
}

/* compressed-tensors: what the first group of layers says of its weights. */
static int compressed(struct plan_model *m, const json_t *q)
{
	json_t *groups = json_object_get(q, "config_groups");
	const json_t *w = json_object_get(
		json_object_iter_value(json_object_iter(groups)), "weights");
	json_int_t bits = json_integer_value(json_object_get(w, "num_bits"));
	const char *type = json_string_value(json_object_get(w, "type"));
	const struct plan_field group = { { "group_size" },
		                          MAX_GROUP,
		                          DEFAULT_GROUP };

	if (bits == 8)
		return set(m, type && !strcmp(type, "float") ? "fp8" : "int8",
		           0);
	if (bits != 4 || (type && strcmp(type, "int")))
		return plan_fail("quantization_config: these "
		                 "compressed-tensors are not sized: say "
		                 "--weights");
	set(m, "int4", DEFAULT_GROUP);
	return plan_field_read(w, &group, &m->quant_group);
}

static int bitsandbytes(struct plan_model *m, const json_t *q)
{
	if (json_is_true(json_object_get(q, "load_in_4bit")))
		return set(m, "int4", 64);
	return set(m, "int8", 0);
}

int plan_model_quant(struct plan_model *m, const json_t *q)
{
	const char *method;

	if (!q || json_is_null(q))
		return 0;
	method = json_string_value(json_object_get(q, "quant_method"));
	if (!method)
		return plan_fail("quantization_config has no quant_method: "
		                 "say --weights");
	if (!strcmp(method, "awq") || !strcmp(method, "gptq"))
		return grouped(m, q, method);
	if (!strcmp(method, "fp8") || !strcmp(method, "fbgemm_fp8"))
		return set(m, "fp8", 0);
	if (!strcmp(method, "mxfp4"))
		return set(m, "mxfp4", 32);
	if (!strcmp(method, "compressed-tensors"))
		return compressed(m, q);
	if (!strcmp(method, "bitsandbytes"))
		return bitsandbytes(m, q);
	return plan_fail("quantization_config: %.40s is not known: say "
	                 "--weights",
	                 method);
}
