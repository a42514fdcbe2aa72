// SPDX-License-Identifier: Apache-2.0
/*
 * plan_weights.c - parameters of a model, and bytes of them.
 *
 * With the limits of plan_model.c no sum here exceeds 2^62.
 */
#include <errno.h>
#include <string.h>
#include "tools/kvctl/plan_weights.h"

/*
 * fp8 and int8: a 32-bit scale per output. awq and gptq: a 16-bit scale and a
 * 4-bit zero per group; int4 without the zero. mxfp4: an 8-bit exponent.
 */
static const struct plan_precision precisions[] = {
	{ "f16", 16, 0, 0, false },    { "bf16", 16, 0, 0, false },
	{ "fp8", 8, 0, 32, false },    { "int8", 8, 0, 32, false },
	{ "awq", 4, 128, 20, false },  { "gptq", 4, 128, 20, false },
	{ "int4", 4, 128, 16, false }, { "mxfp4", 4, 32, 8, true },
};

int plan_precision_find(struct plan_precision *p, const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(precisions) / sizeof(precisions[0]); i++) {
		if (strcmp(precisions[i].name, name))
			continue;
		*p = precisions[i];
		return 0;
	}
	return -EINVAL;
}

/* Two or three matrices between hidden and @inter. */
static uint64_t mlp_linear(const struct plan_model *m, uint64_t inter)
{
	return (m->traits & PLAN_PLAIN_MLP ? 2 : 3) * inter * m->hidden;
}

static uint64_t mlp_rows(const struct plan_model *m, uint64_t inter)
{
	return (m->traits & PLAN_PLAIN_MLP ? 1 : 2) * inter + m->hidden;
}

static uint64_t mlp_small(const struct plan_model *m, uint64_t inter)
{
	return m->traits & PLAN_MLP_BIAS ? mlp_rows(m, inter) : 0;
}

static void count_attention(struct plan_params *p, const struct plan_model *m)
{
	uint64_t q = (uint64_t)m->nr_heads * m->head_dim;
	uint64_t kv = (uint64_t)m->nr_kv_heads * m->head_dim;
	uint64_t small = 0;

	p->linear += m->nr_layers * (2 * q + 2 * kv) * m->hidden;
	p->linear_rows += m->nr_layers * (q + 2 * kv + m->hidden);
	if (m->traits & PLAN_QKV_BIAS)
		small += q + 2 * kv;
	if (m->traits & PLAN_O_BIAS)
		small += m->hidden;
	if (m->traits & PLAN_QK_NORM)
		small += 2 * m->head_dim;
	if (m->traits & PLAN_QK_NORM_WIDE)
		small += q + kv;
	if (m->traits & PLAN_SINKS)
		small += m->nr_heads;
	p->small += m->nr_layers * small;
}

static void count_mlp(struct plan_params *p, const struct plan_model *m)
{
	uint64_t plain = m->nr_layers - m->nr_expert_layers;
	uint64_t experts = (uint64_t)m->nr_expert_layers * m->nr_experts;
	uint64_t router = (uint64_t)m->nr_experts * m->hidden;

	p->linear += plain * mlp_linear(m, m->intermediate);
	p->linear_rows += plain * mlp_rows(m, m->intermediate);
	p->small += plain * mlp_small(m, m->intermediate);
	p->expert += experts * mlp_linear(m, m->expert_intermediate);
	p->expert_rows += experts * mlp_rows(m, m->expert_intermediate);
	p->small += experts * mlp_small(m, m->expert_intermediate);
	if (m->shared_gate)
		router += m->hidden;
	if (m->traits & PLAN_MLP_BIAS)
		router += m->nr_experts;
	p->small += m->nr_expert_layers * router;
	if (!m->shared_intermediate)
		return;
	p->linear +=
		m->nr_expert_layers * mlp_linear(m, m->shared_intermediate);
	p->linear_rows +=
		m->nr_expert_layers * mlp_rows(m, m->shared_intermediate);
}

static void count_norms(struct plan_params *p, const struct plan_model *m)
{
	uint64_t nr = 2;

	if (m->traits & PLAN_FOUR_NORMS)
		nr = 4;
	if (m->traits & PLAN_ONE_NORM)
		nr = 1;
	nr = nr * m->nr_layers + 1;
	p->small += nr * m->hidden * (m->traits & PLAN_NORM_BIAS ? 2 : 1);
}

void plan_params_count(struct plan_params *p, const struct plan_model *m)
{
	*p = (struct plan_params){ .embedding =
		                           (uint64_t)m->vocab * m->hidden };
	if (!(m->traits & PLAN_TIED))
		p->head = p->embedding;
	if (m->traits & PLAN_HEAD_BIAS)
		p->small += m->vocab;
	count_attention(p, m);
	count_mlp(p, m);
	count_norms(p, m);
	p->total = p->linear + p->expert + p->embedding + p->head + p->small;
}

/* Of @nr weights with @rows outputs. */
static uint64_t linear_bytes(const struct plan_precision *w, uint64_t nr,
                             uint64_t rows)
{
	uint64_t metas = w->group ? (nr + w->group - 1) / w->group : rows;

	return nr / 8 * w->bits + metas / 8 * w->meta_bits +
	       (nr % 8 * w->bits + metas % 8 * w->meta_bits + 7) / 8;
}

uint64_t plan_weights_bytes(const struct plan_params *p,
                            const struct plan_precision *precision, uint32_t tp)
{
	static const struct plan_precision whole = { "f16", 16, 0, 0, false };
	uint64_t split = 2 * (p->embedding + p->head);

	split += linear_bytes(precision->experts_only ? &whole : precision,
	                      p->linear, p->linear_rows);
	split += linear_bytes(precision, p->expert, p->expert_rows);
	return (split + tp - 1) / tp + 2 * p->small;
}
