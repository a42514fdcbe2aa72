// SPDX-License-Identifier: Apache-2.0
/*
 * table.c - aligned columns, and bytes as people read them.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvctl/table.h"

void table_row(struct table *t)
{
	t->rows = reallocarray(t->rows, t->nr_rows + 1, sizeof(*t->rows));
	if (!t->rows) {
		perror("kvctl");
		exit(1);
	}
	memset(&t->rows[t->nr_rows++], 0, sizeof(*t->rows));
	t->nr_cells = 0;
}

void table_text(struct table *t, const char *text)
{
	assert(t->nr_rows && t->nr_cells < TABLE_COLUMNS);
	snprintf(t->rows[t->nr_rows - 1].cell[t->nr_cells++], TABLE_CELL, "%s",
	         text);
}

void table_count(struct table *t, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)n);
	table_text(t, text);
}

const char *bytes_text(int64_t bytes, char text[BYTES_TEXT])
{
	static const char *const units[] = { "B",   "KiB", "MiB",
		                             "GiB", "TiB", "PiB" };
	double n = (double)bytes;
	size_t unit = 0;

	while (n >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		n /= 1024;
		unit++;
	}
	snprintf(text, BYTES_TEXT, "%.*f %s", unit && n < 100, n, units[unit]);
	return text;
}

void table_bytes(struct table *t, int64_t bytes)
{
	char text[BYTES_TEXT];

	table_text(t, bytes_text(bytes, text));
}

void table_time(struct table *t, int64_t ms)
{
	long long s = ms / 1000;
	char text[40];

	if (s < 60)
		snprintf(text, sizeof(text), "%.1f s", (double)ms / 1000);
	else if (s < 86400)
		snprintf(text, sizeof(text), "%lld:%02lld:%02lld", s / 3600,
		         s / 60 % 60, s % 60);
	else
		snprintf(text, sizeof(text), "%lld d %lld h", s / 86400,
		         s / 3600 % 24);
	table_text(t, text);
}

static int width_of(const struct table *t, size_t column)
{
	size_t i, len, widest = 0;

	for (i = 0; i < t->nr_rows; i++) {
		len = strlen(t->rows[i].cell[column]);
		if (len > widest)
			widest = len;
	}
	return (int)widest;
}

void table_print(struct table *t)
{
	int width[TABLE_COLUMNS];
	size_t i, c;

	for (c = 0; c < TABLE_COLUMNS; c++)
		width[c] = width_of(t, c);
	for (i = 0; i < t->nr_rows; i++) {
		printf("%-*s", width[0], t->rows[i].cell[0]);
		for (c = 1; c < TABLE_COLUMNS && width[c]; c++)
			printf("  %*s", c == t->left ? 0 : width[c],
			       t->rows[i].cell[c]);
		putchar('\n');
	}
	free(t->rows);
	*t = (struct table)TABLE_NULL;
}
