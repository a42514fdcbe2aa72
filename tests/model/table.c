/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - what model_quality printed for two models, as a Markdown table.
 *
 *	model_table BASE.json OUTLIER.json
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/check.h"

#define MAX_LINE 1024

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	CHECK(json_is_number(v), "%s is missing", key);
	return json_number_value(v);
}

/* The next line of a file of JSON objects; NULL at its end. */
static json_t *next(FILE *f)
{
	char line[MAX_LINE];
	json_t *o;

	if (!fgets(line, sizeof(line), f))
		return NULL;
	o = json_loads(line, 0, NULL);
	CHECK(o, "not JSON: %s", line);
	return o;
}

static FILE *open_file(const char *path)
{
	FILE *f = fopen(path, "re");

	CHECK(f, "cannot read %s", path);
	return f;
}

static void print_model(const json_t *o)
{
	printf(" %+.4f ± %.4f | %.3f | %.5f | %.1f %% |", number(o, "loss"),
	       number(o, "standard_error"), number(o, "perplexity"),
	       number(o, "kl"), 100 * number(o, "top1"));
}

int main(int argc, char **argv)
{
	FILE *base, *outlier;
	json_t *b, *o;

	CHECK(argc == 3, "usage: model_table BASE.json OUTLIER.json");
	base = open_file(argv[1]);
	outlier = open_file(argv[2]);
	puts("| format | bytes a token | base: loss | ppl | KL | same top | "
	     "outlier: loss | ppl | KL | same top |");
	puts("|---|---|---|---|---|---|---|---|---|---|");
	while ((b = next(base))) {
		const char *name = json_string_value(
			json_object_get(b, "format"));

		o = next(outlier);
		CHECK(o && !strcmp(name, json_string_value(json_object_get(
						 o, "format"))),
		      "%s is not in both", name);
		printf("| %s |", name);
		if (strncmp(name, "naive", 5))
			printf(" %.0f |", number(b, "kv_bytes_per_token"));
		else
			printf(" |");
		print_model(b);
		print_model(o);
		putchar('\n');
		json_decref(b);
		json_decref(o);
	}
	fclose(base);
	fclose(outlier);
	return 0;
}
