// SPDX-License-Identifier: Apache-2.0
/*
 * plan_print.c - the text form of a plan, from its JSON.
 */
#include <stdio.h>
#include <string.h>
#include "tools/kvctl/json.h"
#include "tools/kvctl/plan.h"
#include "tools/kvctl/table.h"

#define TEXT_WIDTH 80

static const char *yes(const json_t *o, const char *key, const char *text)
{
	return json_is_true(json_object_get(o, key)) ? text : "";
}

static void print_model(const json_t *m)
{
	const char *type = json_text(m, "type");

	printf("model    %s%s, %.2f G parameters; %lld layers, %lld kv heads "
	       "of %lld\n",
	       *type ? type : "of no type",
	       yes(m, "assumed", " (unknown: sized as a Llama)"),
	       (double)json_count(m, "parameters") / 1e9,
	       (long long)json_count(m, "layers"),
	       (long long)json_count(m, "kv_heads"),
	       (long long)json_count(m, "head_dim"));
	if (json_count(m, "window_layers"))
		printf("         %lld of the layers see %lld tokens only\n",
		       (long long)json_count(m, "window_layers"),
		       (long long)json_count(m, "window"));
	if (json_is_true(json_object_get(m, "other_parts")))
		printf("         its parts for pictures or sound are not "
		       "counted\n");
}

static void memory_row(struct table *t, const char *what, const json_t *m,
                       const char *key)
{
	double total = (double)json_count(m, "total");
	char share[16];

	snprintf(share, sizeof(share), "%.1f %%",
	         100 * (double)json_count(m, key) / total);
	table_row(t);
	table_text(t, what);
	table_bytes(t, json_count(m, key));
	table_text(t, share);
}

static void print_memory(const json_t *m, int64_t tp)
{
	struct table t = TABLE_NULL;
	char weights[48];

	snprintf(weights, sizeof(weights), "weights, %s",
	         json_text(m, "precision"));
	if (tp > 1)
		printf("on each of %lld GPUs:\n", (long long)tp);
	memory_row(&t, "memory", m, "total");
	memory_row(&t, weights, m, "weights");
	memory_row(&t, "reserve", m, "reserve");
	memory_row(&t, "left for cache", m, "cache");
	table_print(&t);
}

static void cell(struct table *t, const char *format, double n)
{
	char text[TABLE_CELL];

	snprintf(text, sizeof(text), format, n);
	table_text(t, text);
}

static void format_row(struct table *t, const json_t *f)
{
	table_row(t);
	table_text(t, json_text(f, "format"));
	cell(t, "%.3f", json_number_value(json_object_get(f, "bits")));
	table_count(t, json_count(f, "token_bytes"));
	table_count(t, json_count(f, "tokens"));
	table_count(t, json_count(f, "sequences"));
	cell(t, "%.2f", json_number_value(json_object_get(f, "over_f16")));
	table_text(t, *yes(f, "fits", "x") ? "yes" : "no");
	table_text(t, json_text(f, "note"));
}

static void print_formats(const json_t *formats)
{
	static const char *const titles[] = { "format",      "bits",
		                              "bytes/token", "tokens",
		                              "sequences",   "x f16",
		                              "fits",        "note" };
	struct table t = { .left = 7 };
	const json_t *f;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
		table_text(&t, titles[i]);
	json_array_foreach((json_t *)formats, i,
	                   f) if (json_is_true(json_object_get(f, "usable")))
		format_row(&t, f);
	table_print(&t);
	json_array_foreach((json_t *)formats, i,
	                   f) if (!json_is_true(json_object_get(f, "usable")))
		printf("%s: cannot be used: %s\n", json_text(f, "format"),
	               json_text(f, "reason"));
}

static void print_stack(const json_t *stack)
{
	struct table t = TABLE_NULL;
	const json_t *row, *nr;
	const char *name;
	size_t i, columns;

	json_array_foreach((json_t *)stack, i, row)
	{
		json_t *sequences = json_object_get(row, "sequences");

		if (!i) {
			table_row(&t);
			table_text(&t, "weights");
			columns = 1;
			json_object_foreach(sequences, name,
			                    nr) if (columns++ < TABLE_COLUMNS)
				table_text(&t, name);
		}
		table_row(&t);
		table_text(&t, json_text(row, "weights"));
		columns = 1;
		json_object_foreach(sequences, name,
		                    nr) if (columns++ < TABLE_COLUMNS)
			table_count(&t, json_integer_value(nr));
	}
	table_print(&t);
}

/* Breaks lines between words. */
static void print_wrapped(const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column && column + 1 + len > TEXT_WIDTH) {
			putchar('\n');
			column = 0;
		} else if (column) {
			putchar(' ');
			column++;
		}
		printf("%.*s", (int)len, text);
		column += len;
		text += len + (text[len] == ' ');
	}
	putchar('\n');
}

void plan_print(const json_t *answer)
{
	const json_t *wish = json_object_get(answer, "wish");

	print_model(json_object_get(answer, "model"));
	printf("wish     %lld sequences of %lld tokens\n\n",
	       (long long)json_count(wish, "concurrency"),
	       (long long)json_count(wish, "context"));
	print_memory(json_object_get(answer, "memory"), json_count(wish, "tp"));
	putchar('\n');
	print_formats(json_object_get(answer, "formats"));
	printf("\nsequences that fit, by weights and cache:\n");
	print_stack(json_object_get(answer, "stack"));
	putchar('\n');
	print_wrapped(json_text(json_object_get(answer, "advice"), "text"));
}
