// SPDX-License-Identifier: Apache-2.0
/*
 * plan_args.c - what kvctl plan is asked.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvctl/plan_args.h"
#include "tools/kvctl/plan_weights.h"

#define MAX_BYTES       ((double)(1ull << 50))
#define MAX_CONTEXT     (1u << 28)
#define MAX_CONCURRENCY (1u << 20)
#define MAX_TP          256
#define RESERVE_PERCENT 10

const char plan_help[] =
	"usage: kvctl plan CONFIG.json|MODEL_DIR --memory SIZE [OPTION]...\n"
	"\n"
	"Says where the memory of a GPU goes and which format of keys and "
	"values to take,\n"
	"from a model's config.json. No daemon is asked; cache sizes are "
	"those of kvd's pages.\n"
	"\n"
	"  --memory SIZE      of one GPU: 80G, 24564M, 1.5T (binary); 80GB is "
	"80e9 bytes\n"
	"  --reserve SIZE|N%  of it, for activations, graphs and the driver "
	"(10%)\n"
	"  --weights NAME     f16, bf16, fp8, int8, awq, gptq, int4, mxfp4 "
	"(as config.json\n"
	"                     says, else f16). Embedding, head, router and "
	"norms stay 16 bits;\n"
	"                     awq, gptq: groups of 128, 4.16 bits\n"
	"  --context N        tokens of a sequence, prompt and answer (32768, "
	"or the most\n"
	"                     that the model takes)\n"
	"  --concurrency N    sequences at a time (1)\n"
	"  --tp N             GPUs that share the model's heads; all figures "
	"are of one (1)\n"
	"  --format X         only this one, may be given again: int8, "
	"kvarn42, k=int8,v=int4\n"
	"  --page-tokens N    32, 64 or 128 (64)\n"
	"  --exact-pages N    first pages of a sequence that stay in 16 bits, "
	"0 to 16 (0)\n"
	"  --v-group N        channels of kivi's V that share a scale: 32, 64, "
	"128 (64)\n"
	"  --json             the same as one JSON object\n"
	"\n"
	"Columns: bits per element with metadata; bytes of a token in full "
	"pages, all layers;\n"
	"tokens and sequences of the context that fit beside the weights "
	"(sequences with their\n"
	"open pages, and the exact copy that 2 and 3 bits keep of the newest "
	"page); x: tokens\n"
	"per byte over f16. Layers with a window hold the window and a page.\n"
	"\n"
	"Exit status: 0; 1 the model cannot be sized; 2 bad usage.\n";

static bool unit_scale(const char *unit, double *ret)
{
	static const char letters[] = "KMGT";
	const char *at;
	double base = 1024;

	*ret = 1;
	if (!*unit)
		return true;
	at = strchr(letters, toupper((unsigned char)*unit));
	if (!at)
		return false;
	if (!strcmp(unit + 1, "B"))
		base = 1000;
	else if (unit[1] && strcmp(unit + 1, "iB"))
		return false;
	for (; at >= letters; at--)
		*ret *= base;
	return true;
}

/* A size, or with @whole not 0 a percentage of it. */
static int size_parse(const char *name, const char *text, uint64_t whole,
                      uint64_t *ret)
{
	char *end;
	double n, scale;

	if (!isdigit((unsigned char)*text) || text[1] == 'x')
		return plan_fail("%s: %s is no size (80G)", name, text);
	n = strtod(text, &end);
	if (whole && !strcmp(end, "%"))
		scale = (double)whole / 100;
	else if (!unit_scale(end, &scale))
		return plan_fail("%s: %s is no size (80G)", name, text);
	if (!(n * scale <= MAX_BYTES))
		return plan_fail("%s: %s is too much", name, text);
	*ret = (uint64_t)(n * scale);
	return 0;
}

static int count_parse(const char *name, const char *text, uint32_t low,
                       uint32_t high, uint32_t *ret)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || n < low ||
	    n > high)
		return plan_fail("%s: %s is not a number of %u to %u", name,
		                 text, low, high);
	*ret = (uint32_t)n;
	return 0;
}

static int weights_parse(struct plan_args *a, const char *text)
{
	struct plan_precision p;

	if (plan_precision_find(&p, text))
		return plan_fail("--weights: %s is none of f16, bf16, fp8, "
		                 "int8, awq, gptq, int4, mxfp4",
		                 text);
	a->weights = text;
	return 0;
}

static int format_parse(struct plan_args *a, const char *text)
{
	uint32_t k, v;
	size_t i = 0;

	if (kvd_formats_parse(text, &k, &v))
		return plan_fail("--format: %s is no format (int8, kvarn42, "
		                 "k=int8,v=int4)",
		                 text);
	while (a->formats[i])
		i++;
	if (i == PLAN_MAX_FORMATS)
		return plan_fail("--format: at most %d", PLAN_MAX_FORMATS);
	a->formats[i] = text;
	return 0;
}

struct texts {
	const char *memory, *reserve;
};

/* Counts, each with its limits. */
static int number(struct plan_args *a, const char *name, const char *value)
{
	const struct {
		const char *name;
		uint32_t low, high, *to;
	} all[] = {
		{ "--context", 1, MAX_CONTEXT, &a->context },
		{ "--concurrency", 1, MAX_CONCURRENCY, &a->concurrency },
		{ "--tp", 1, MAX_TP, &a->pages.tp },
		{ "--page-tokens", 32, 128, &a->pages.page_tokens },
		{ "--exact-pages", 0, 16, &a->pages.exact_pages },
		{ "--v-group", 32, 128, &a->pages.v_group },
	};
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(all[i].name, name))
			return count_parse(name, value, all[i].low, all[i].high,
			                   all[i].to);
	return plan_fail("what is %s? (kvctl plan --help)", name);
}

static int option(struct plan_args *a, struct texts *t, const char *name,
                  const char *value)
{
	if (!value)
		return plan_fail("%s: needs a value (kvctl plan --help)", name);
	if (!strcmp(name, "--memory"))
		t->memory = value;
	else if (!strcmp(name, "--reserve"))
		t->reserve = value;
	else if (!strcmp(name, "--weights"))
		return weights_parse(a, value);
	else if (!strcmp(name, "--format"))
		return format_parse(a, value);
	else
		return number(a, name, value);
	return 0;
}

/* What depends on more than one option. */
static int settle(struct plan_args *a, const struct texts *t)
{
	if (!a->path)
		return plan_fail("no config.json given (kvctl plan --help)");
	if (!t->memory)
		return plan_fail(
			"--memory is needed: what one GPU has, as 80G");
	if (size_parse("--memory", t->memory, 0, &a->memory))
		return -EINVAL;
	if (a->memory < 1 << 20)
		return plan_fail("--memory: %s is less than 1M", t->memory);
	a->reserve = a->memory * RESERVE_PERCENT / 100;
	if (t->reserve &&
	    size_parse("--reserve", t->reserve, a->memory, &a->reserve))
		return -EINVAL;
	if (a->reserve >= a->memory)
		return plan_fail("--reserve leaves nothing of the memory");
	return 0;
}

int plan_args_parse(struct plan_args *a, int argc, char **argv)
{
	struct texts t = { 0 };
	int i;

	*a = (struct plan_args){
		.concurrency = 1,
		.pages = { .page_tokens = 64, .v_group = 64, .tp = 1 }
	};
	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--help")) {
			a->help = true;
			return 0;
		}
		if (!strcmp(argv[i], "--json")) {
			a->json = true;
		} else if (*argv[i] == '-') {
			if (option(a, &t, argv[i],
			           i + 1 < argc ? argv[i + 1] : NULL))
				return -EINVAL;
			i++;
		} else if (a->path) {
			return plan_fail("what is %s? (kvctl plan --help)",
			                 argv[i]);
		} else {
			a->path = argv[i];
		}
	}
	return settle(a, &t);
}
