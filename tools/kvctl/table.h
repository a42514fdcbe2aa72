/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - aligned columns, and bytes as people read them.
 */
#ifndef TOOLS_KVCTL_TABLE_H
#define TOOLS_KVCTL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define TABLE_COLUMNS 16
#define TABLE_CELL    48

struct table_row {
	char cell[TABLE_COLUMNS][TABLE_CELL];
};

/* Rows are kept until table_print(), which knows how wide each column is. */
struct table {
	struct table_row *rows;
	size_t nr_rows;
	size_t nr_cells; /* of the last row */
	size_t left;	 /* a column of text, to the left as column 0 is */
};

#define TABLE_NULL                                                             \
	{                                                                      \
		0                                                              \
	}

#define BYTES_TEXT 24

/* @bytes as table_bytes() shows them. */
const char *bytes_text(int64_t bytes, char text[BYTES_TEXT]);

/* Begins a row. Cells are added to the last row, at most TABLE_COLUMNS. */
void table_row(struct table *t);
void table_text(struct table *t, const char *text);
void table_count(struct table *t, int64_t n);
void table_bytes(struct table *t, int64_t bytes);
void table_time(struct table *t, int64_t ms);

/* Prints, first column to the left, and empties the table. */
void table_print(struct table *t);

#endif
