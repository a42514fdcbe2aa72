// SPDX-License-Identifier: Apache-2.0
/*
 * report.c - what a benchmark found: one JSON object, or lines of text.
 */
#include <stdio.h>
#include "tools/kvbench/bench.h"
#include "tools/kvbench/report.h"

static void print_line(const char *key, const json_t *value)
{
	printf("%-24s ", key);
	if (json_is_string(value))
		printf("%s\n", json_string_value(value));
	else if (json_is_real(value))
		printf("%.*f\n", json_real_value(value) < 1 ? 4 : 3,
		       json_real_value(value));
	else if (json_is_integer(value))
		printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
	else
		printf("%s\n", json_is_true(value) ? "yes" : "-");
}

int report_print(json_t *figures, bool json)
{
	const char *key;
	json_t *value;

	if (!figures) {
		fprintf(stderr, "kvbench: out of memory\n");
		return BENCH_FAILED;
	}
	if (json) {
		json_dumpf(figures, stdout, JSON_REAL_PRECISION(6));
		putchar('\n');
	} else {
		json_object_foreach(figures, key, value)
		{
			print_line(key, value);
		}
	}
	json_decref(figures);
	return 0;
}

int report_print_both(json_t *figures, json_t *more)
{
	if (json_object_update(figures, more)) {
		json_decref(figures);
		figures = NULL;
	}
	json_decref(more);
	return report_print(figures, true);
}
