// SPDX-License-Identifier: Apache-2.0
/*
 * plan_advice.c - whether weights or the cache are the thing to shrink.
 *
 * Short prompts and few sequences: the weights; long context or many
 * sequences: the cache. Which it is, is counted at the wished load in f16.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "tools/kvctl/plan.h"

#define GIB (1024.0 * 1024 * 1024)

/* The larger of the sizes weights are commonly shrunk to, first. */
static const char *const smaller[] = { "fp8", "awq" };

#define NR_SMALLER (sizeof(smaller) / sizeof(smaller[0]))

struct text {
	char at[2048];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t,
                                                      const char *format, ...)
{
	size_t room = sizeof(t->at) - t->len;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(t->at + t->len, room, format, ap);
	va_end(ap);
	if (n > 0)
		t->len += (size_t)n < room ? (size_t)n : room - 1;
}

static uint64_t weights_as(const struct plan *p, const char *name)
{
	struct plan_precision w;

	plan_precision_find(&w, name);
	return plan_weights_bytes(&p->params, &w, p->args.pages.tp);
}

/* The first format in order with which the wish fits in @left bytes. */
static const struct plan_cache *first_fit(const struct plan *p, uint64_t left)
{
	uint32_t i;

	for (i = 0; i < p->nr_caches; i++)
		if (!p->caches[i].refused &&
		    plan_need(p, &p->caches[i]) <= left)
			return &p->caches[i];
	return NULL;
}

/* The format of which a sequence is smallest. */
static const struct plan_cache *smallest(const struct plan *p)
{
	const struct plan_cache *best = NULL;
	uint32_t i;

	for (i = 0; i < p->nr_caches; i++) {
		const struct plan_cache *c = &p->caches[i];

		if (!c->refused &&
		    (!best ||
		     plan_sequence_bytes(c, p->args.context) <
		             plan_sequence_bytes(best, p->args.context)))
			best = c;
	}
	return best;
}

/* Are there smaller weights than these? */
static bool can_shrink(const struct plan *p)
{
	return weights_as(p, smaller[NR_SMALLER - 1]) < p->weights;
}

static void say_format(struct text *t, const struct plan *p,
                       const struct plan_cache *c)
{
	say(t, "%s (%.2f bits, %.2fx f16, %.1f GiB for all%s)", c->name,
	    c->bits, p->f16.bits / c->bits, (double)plan_need(p, c) / GIB,
	    c->needs_profile ? ", needs a profile" : "");
}

/* Weights dominate: what smaller ones would give. */
static void say_weights(struct text *t, const struct plan *p)
{
	size_t i;

	for (i = 0; i < NR_SMALLER; i++) {
		uint64_t w = weights_as(p, smaller[i]);
		const struct plan_cache *c = first_fit(p, plan_left(p, w));

		if (w >= p->weights)
			continue;
		say(t, " %s weights take %.1f GiB instead of %.1f", smaller[i],
		    (double)w / GIB, (double)p->weights / GIB);
		if (!plan_left(p, w))
			say(t, ", which is still too much.");
		else if (c)
			say(t, "; then the cache fits in %s.", c->name);
		else
			say(t, "; the cache then fits in no format.");
	}
}

/* No format fits beside these weights: what would have to give. */
static void say_nothing_fits(struct text *t, const struct plan *p)
{
	const struct plan_cache *c = smallest(p);
	uint64_t left = plan_left(p, p->weights), each;
	size_t i;

	each = plan_sequence_bytes(c, p->args.context);
	say(t, " No format fits that. What would, with the smallest (%s):",
	    c->name);
	if (left >= each)
		say(t, " %llu sequences of %u tokens;",
		    (unsigned long long)(left / each), p->args.context);
	if (plan_context_fit(c, left, p->args.concurrency))
		say(t, " %u of at most %llu tokens;", p->args.concurrency,
		    (unsigned long long)plan_context_fit(c, left,
		                                         p->args.concurrency));
	for (i = 0; i < NR_SMALLER; i++) {
		uint64_t w = weights_as(p, smaller[i]);
		const struct plan_cache *fit = first_fit(p, plan_left(p, w));

		if (w < p->weights && fit) {
			say(t, " %s weights and a cache in %s;", smaller[i],
			    fit->name);
			break;
		}
	}
	say(t, " more memory, or more GPUs (--tp).");
}

/* Weights that are small already are not. */
static const char *what_to_shrink(const struct plan *p)
{
	return plan_need(p, &p->f16) > p->weights || !can_shrink(p) ? "cache"
	                                                            : "weights";
}

static void say_share(struct text *t, const struct plan *p)
{
	double need = (double)plan_need(p, &p->f16);

	say(t,
	    "%u x %u tokens are %.1f GiB of f16 cache beside %.1f GiB of %s "
	    "weights: the cache is %.0f %% of the two.",
	    p->args.concurrency, p->args.context, need / GIB,
	    (double)p->weights / GIB, p->precision.name,
	    100 * need / (need + (double)p->weights));
}

static void say_fits(struct text *t, const struct plan *p)
{
	say(t,
	    " That fits in f16: nothing has to shrink. To have more room, "
	    "quantize the %s first.",
	    what_to_shrink(p));
	if (!strcmp(what_to_shrink(p), "weights"))
		say_weights(t, p);
}

/* It does not fit in f16. */
static void say_short(struct text *t, const struct plan *p,
                      const struct plan_cache *fit)
{
	if (!strcmp(what_to_shrink(p), "weights")) {
		say(t, " That does not fit in f16, and the weights are the "
		       "larger part: quantize weights first.");
		say_weights(t, p);
		if (fit) {
			say(t, " With the weights as they are, the cache fits "
			       "in ");
			say_format(t, p, fit);
			say(t, ".");
		}
	} else {
		say(t,
		    " That does not fit in f16, and %s: quantize the "
		    "cache.",
		    plan_need(p, &p->f16) > p->weights
		            ? "the cache is the larger part"
		            : "the weights are small already");
		if (fit) {
			say(t, " The first format that fits is ");
			say_format(t, p, fit);
			say(t, ".");
		}
	}
	if (!fit)
		say_nothing_fits(t, p);
}

static void conclude(struct text *t, const struct plan *p,
                     const struct plan_cache *fit)
{
	if (p->f16.refused) {
		say(t,
		    "kvd cannot hold this geometry: %s. Try --tp, or "
		    "--page-tokens 32.",
		    p->f16.refused);
		return;
	}
	say_share(t, p);
	if (!smallest(p))
		say(t, " No format asked for can be used.");
	else if (!plan_left(p, p->weights)) {
		say(t, " The weights alone do not fit: %s.",
		    can_shrink(p) ? "quantize them first, or split them "
		                    "(--tp)"
		                  : "split them (--tp)");
		say_weights(t, p);
	} else if (plan_need(p, &p->f16) <= plan_left(p, p->weights))
		say_fits(t, p);
	else
		say_short(t, p, fit);
}

json_t *plan_advice(const struct plan *p)
{
	const struct plan_cache *fit = first_fit(p, plan_left(p, p->weights));
	uint64_t need = p->f16.refused ? 0 : plan_need(p, &p->f16);
	struct text t = { .len = 0 };

	conclude(&t, p, fit);
	return json_pack("{s:I, s:f, s:s, s:s, s:b, s:s?, s:s}",
	                 "f16_cache_bytes", (json_int_t)need, "cache_share",
	                 (double)need / ((double)need + (double)p->weights),
	                 "larger", need > p->weights ? "cache" : "weights",
	                 "shrink", p->f16.refused ? "" : what_to_shrink(p),
	                 "fits_f16", need && need <= plan_left(p, p->weights),
	                 "format", fit ? fit->name : NULL, "text", t.at);
}
