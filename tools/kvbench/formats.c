/* SPDX-License-Identifier: Apache-2.0 */
/*
 * formats.c - the formats that a benchmark is to compare.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "tools/kvbench/formats.h"

#define SEPARATORS "+;"

static const char all[] = "f16+bf16+int8+fp8_e4m3+fp8_e5m2+int4+int4h+kivi4+"
			  "kivi2+kvquant4+kvquant3+kvquant2+kvarn44+kvarn42+"
			  "kvarn33+kvarn22+oscar2";

int formats_parse(const char *text, struct format_pair *ret)
{
	char list[sizeof(all) + FORMATS_MAX * KVD_FORMATS_TEXT], *save, *name;
	int nr = 0;

	snprintf(list, sizeof(list), "%s", strcmp(text, "all") ? text : all);
	for (name = strtok_r(list, SEPARATORS, &save); name;
	     name = strtok_r(NULL, SEPARATORS, &save)) {
		struct format_pair *f = &ret[nr];

		if (nr == FORMATS_MAX ||
		    kvd_formats_parse(name, &f->k, &f->v)) {
			fprintf(stderr, "kvbench: no format %s\n", name);
			return -EINVAL;
		}
		kvd_formats_name(f->k, f->v, f->name);
		nr++;
	}
	if (!nr)
		fprintf(stderr, "kvbench: no format named\n");
	return nr ? nr : -EINVAL;
}
