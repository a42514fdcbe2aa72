/* SPDX-License-Identifier: Apache-2.0 */
/*
 * formats_test.c - the table of sizes in FORMATS.md is that of page.c.
 *
 *	formats_test FORMATS.md
 *
 * Where they differ, prints the lines that should be there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/page.h"

#define BEGIN "<!-- sizes -->\n"
#define END   "<!-- /sizes -->\n"
#define DIM   128u

/* Bytes of a record of a page that is in @format; 0: there is none. */
static uint32_t record_bytes(uint32_t format, uint32_t tokens)
{
	struct kvd_geometry g = {
		.size = sizeof(g),
		.page_tokens = tokens,
		.k_format = format,
		.v_format = format,
		.rope_order = KVD_ROPE_PRE,
		.nr_groups = 1,
		.profile = 1,
		.groups = { { 1, 1, 0, DIM, DIM, 0, 0 } },
	};
	struct page_layout l;

	if (kvd_geometry_check(&g) ||
	    page_layout_class(&l, &g, geometry_sealed_class(&g, 0)) ||
	    l.k_format != format)
		return 0;
	return l.record_bytes;
}

static void table_make(char *out, size_t room)
{
	uint32_t f;
	int n;

	n = snprintf(out, room, BEGIN
		     "| format | bits | T = 64 | T = 128 | bits per element "
		     "at T = 128 |\n|---|---|---|---|---|\n");
	for (f = 0; f < KVD_NR_FORMATS; f++) {
		uint32_t a = record_bytes(f, 64), b = record_bytes(f, 128);

		n += snprintf(out + n, room - n,
			      "| %s | %u | %u | %u | %.3f |\n",
			      kvd_format_name(f), format_bits(f), a, b,
			      b * 8.0 / (2 * 128 * DIM));
		if (!a || !b)
			exit(1);
	}
	snprintf(out + n, room - n, END);
}

int main(int argc, char **argv)
{
	static char doc[1 << 16], want[4096];
	FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (!f)
		return 2;
	doc[fread(doc, 1, sizeof(doc) - 1, f)] = '\0';
	fclose(f);
	table_make(want, sizeof(want));
	if (strstr(doc, want))
		return 0;
	printf("FORMATS.md should say:\n%s", want);
	return 1;
}
