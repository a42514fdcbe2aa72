/* SPDX-License-Identifier: Apache-2.0 */
/*
 * formats.h - the formats that a benchmark is to compare.
 */
#ifndef TOOLS_KVBENCH_FORMATS_H
#define TOOLS_KVBENCH_FORMATS_H

#include "kvd/geometry.h"

#define FORMATS_MAX 24

struct format_pair {
	uint32_t k, v;
	char name[KVD_FORMATS_TEXT];
};

/**
 * formats_parse() - names with ';' or '+' between them, or "all"
 * @text:	each name as kvd_formats_parse() takes it
 *
 * Return: how many, at most FORMATS_MAX, or -EINVAL with a line on stderr.
 */
int formats_parse(const char *text, struct format_pair *ret);

#endif
