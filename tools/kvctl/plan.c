// SPDX-License-Identifier: Apache-2.0
/*
 * plan.c - kvctl plan: where the memory goes, and which format to take.
 *
 * Needs no daemon. The answer becomes JSON first, the text is made from it.
 */
#include <stdio.h>
#include <string.h>
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/plan.h"

#define DEFAULT_CONTEXT 32768u

/* Weights that the table of both sizes has. */
static const char *const stack_weights[] = { "f16", "fp8", "awq" };

uint64_t plan_left(const struct plan *p, uint64_t weights)
{
	uint64_t room = p->args.memory - p->args.reserve;

	return weights < room ? room - weights : 0;
}

uint64_t plan_need(const struct plan *p, const struct plan_cache *c)
{
	uint64_t bytes = plan_sequence_bytes(c, p->args.context);

	if (bytes > (uint64_t)INT64_MAX / p->args.concurrency)
		return INT64_MAX;
	return bytes * p->args.concurrency;
}

static json_t *model_json(const struct plan *p)
{
	const struct plan_model *m = &p->model;
	const struct plan_params *n = &p->params;

	return json_pack(
		"{s:o, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, "
		"s:I, s:I, s:I, s:I}",
		"type", json_safe(m->type), "assumed", m->assumed,
		"other_parts", m->other_parts, "layers", (int)m->nr_layers,
		"window_layers", (int)m->nr_window_layers, "window",
		(int)m->window, "heads", (int)m->nr_heads, "kv_heads",
		(int)m->nr_kv_heads, "head_dim", (int)m->head_dim, "experts",
		(int)m->nr_experts, "max_tokens", (int)m->max_tokens,
		"parameters", (json_int_t)n->total, "linear",
		(json_int_t)n->linear, "expert_parameters",
		(json_int_t)n->expert, "embedding", (json_int_t)n->embedding,
		"head", (json_int_t)n->head);
}

static json_t *memory_json(const struct plan *p)
{
	return json_pack("{s:I, s:s, s:I, s:I, s:I, s:b}", "total",
	                 (json_int_t)p->args.memory, "precision",
	                 p->precision.name, "weights", (json_int_t)p->weights,
	                 "reserve", (json_int_t)p->args.reserve, "cache",
	                 (json_int_t)plan_left(p, p->weights), "weights_fit",
	                 plan_left(p, p->weights) > 0);
}

static json_t *wish_json(const struct plan *p)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "context",
	                 (int)p->args.context, "concurrency",
	                 (int)p->args.concurrency, "tp", (int)p->args.pages.tp,
	                 "page_tokens", (int)p->args.pages.page_tokens,
	                 "exact_pages", (int)p->args.pages.exact_pages,
	                 "v_group", (int)p->args.pages.v_group);
}

static json_t *cache_json(const struct plan *p, const struct plan_cache *c)
{
	uint64_t left = plan_left(p, p->weights);
	uint64_t sequence;

	if (c->refused)
		return json_pack("{s:s, s:b, s:s}", "format", c->name, "usable",
		                 0, "reason", c->refused);
	sequence = plan_sequence_bytes(c, p->args.context);
	return json_pack(
		"{s:s, s:b, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b, "
		"s:b, s:b, s:s}",
		"format", c->name, "usable", 1, "bits", c->bits, "token_bytes",
		(json_int_t)c->token_bytes, "growing_token_bytes",
		(json_int_t)c->grow_bytes, "open_bytes",
		(json_int_t)c->open_bytes, "sequence_bytes",
		(json_int_t)sequence, "wish_bytes", (json_int_t)plan_need(p, c),
		"tokens", (json_int_t)plan_tokens_fit(c, left, p->args.context),
		"sequences", (json_int_t)(left / sequence), "over_f16",
		p->f16.refused ? 0.0 : p->f16.bits / c->bits, "fits",
		plan_need(p, c) <= left, "lag", c->lag, "needs_profile",
		c->needs_profile, "note", c->note);
}

/* Sequences that fit, for weights and cache of each size: the two stack. */
static json_t *stack_json(const struct plan *p)
{
	json_t *all = json_array(), *row;
	size_t w, i;

	for (w = 0; w < sizeof(stack_weights) / sizeof(stack_weights[0]); w++) {
		struct plan_precision precision;
		uint64_t bytes, left;

		plan_precision_find(&precision, stack_weights[w]);
		bytes = plan_weights_bytes(&p->params, &precision,
		                           p->args.pages.tp);
		left = plan_left(p, bytes);
		row = json_object();
		for (i = 0; i < p->nr_caches; i++) {
			const struct plan_cache *c = &p->caches[i];

			if (c->refused)
				continue;
			json_object_set_new(
				row, c->name,
				json_integer((
					json_int_t)(left /
			                            plan_sequence_bytes(
							    c,
							    p->args.context))));
		}
		json_array_append_new(
			all, json_pack("{s:s, s:I, s:o}", "weights",
		                       stack_weights[w], "weights_bytes",
		                       (json_int_t)bytes, "sequences", row));
	}
	return all;
}

static json_t *to_json(const struct plan *p)
{
	json_t *formats = json_array();
	uint32_t i;

	for (i = 0; i < p->nr_caches; i++)
		json_array_append_new(formats, cache_json(p, &p->caches[i]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "model",
	                 model_json(p), "wish", wish_json(p), "memory",
	                 memory_json(p), "formats", formats, "stack",
	                 stack_json(p), "advice", plan_advice(p));
}

static void size_weights(struct plan *p)
{
	const char *name = p->args.weights;

	if (!name)
		name = p->model.quantized[0] ? p->model.quantized : "f16";
	plan_precision_find(&p->precision, name);
	if (!p->args.weights && p->model.quant_group)
		p->precision.group = p->model.quant_group;
	plan_params_count(&p->params, &p->model);
	p->weights =
		plan_weights_bytes(&p->params, &p->precision, p->args.pages.tp);
}

static void size_caches(struct plan *p)
{
	const char *const *names = p->args.formats[0] ? p->args.formats
	                                              : plan_ladder;

	plan_cache_init(&p->f16, &p->model, &p->args.pages, "f16");
	for (; names[p->nr_caches]; p->nr_caches++)
		plan_cache_init(&p->caches[p->nr_caches], &p->model,
		                &p->args.pages, names[p->nr_caches]);
}

static void choose_context(struct plan *p)
{
	uint32_t most = p->model.max_tokens;

	if (p->args.context)
		return;
	p->args.context = most && most < DEFAULT_CONTEXT ? most
	                                                 : DEFAULT_CONTEXT;
}

static int show(const struct plan *p)
{
	json_t *answer = to_json(p);

	if (!answer) {
		fprintf(stderr, "kvctl plan: out of memory\n");
		return FAILED;
	}
	if (p->args.json) {
		json_dumpf(answer, stdout, 0);
		putchar('\n');
	} else {
		plan_print(answer);
	}
	json_decref(answer);
	return 0;
}

static int run(int argc, char **argv)
{
	struct plan p = { 0 };

	if (plan_args_parse(&p.args, argc, argv))
		return USAGE;
	if (p.args.help) {
		fputs(plan_help, stdout);
		return 0;
	}
	if (plan_model_load(&p.model, p.args.path, p.args.weights))
		return FAILED;
	choose_context(&p);
	size_weights(&p);
	size_caches(&p);
	return show(&p);
}

const struct command command_plan = {
	.name = "plan",
	.summary = "where memory goes, from config.json (plan --help)",
	.run = run,
};
