/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - a plan: a model, what it is to serve, and what that takes.
 *
 * plan.c fills it, plan_advice.c draws conclusions, plan_print.c shows the
 * JSON that both make.
 */
#ifndef TOOLS_KVCTL_PLAN_H
#define TOOLS_KVCTL_PLAN_H

#include <jansson.h>
#include "tools/kvctl/plan_args.h"
#include "tools/kvctl/plan_cache.h"
#include "tools/kvctl/plan_model.h"
#include "tools/kvctl/plan_weights.h"

struct plan {
	struct plan_args args;
	struct plan_model model;
	struct plan_params params;
	struct plan_precision precision;
	uint64_t weights; /* bytes of one GPU */
	struct plan_cache f16;
	struct plan_cache caches[PLAN_MAX_FORMATS];
	uint32_t nr_caches;
};

/* Bytes left for pages with weights of that size; 0 when none are. */
uint64_t plan_left(const struct plan *p, uint64_t weights);

/* Bytes of the wished sequences, saturating at INT64_MAX. */
uint64_t plan_need(const struct plan *p, const struct plan_cache *c);

/**
 * plan_advice() - whether weights or the cache are the thing to shrink
 *
 * Return: an object of figures and "text", NULL when out of memory.
 */
json_t *plan_advice(const struct plan *p);

/* The text form of the whole answer. */
void plan_print(const json_t *answer);

#endif
